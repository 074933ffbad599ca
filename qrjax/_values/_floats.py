"""From a `Draw` to floats: location + scale * draw, with one rounding and no float arithmetic to reorder.

Location, scale and bounds are applied in integers. What is left for floats is one conversion, which
rounds to nearest, and one multiplication by a power of two, which is exact: whatever a compiler makes
of it (contraction into an FMA, reassociation with the caller's constants, fast math), the bits stay.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax

from qrjax._values._quantiles import Draw
from qrjax._words._pairs import mulhi, where, word

INT32_MAX = 2**31 - 1
SMALLEST_EXPONENT = -126  # of a normal float32; a smaller power of two would be flushed to zero


def to_float(
    draw: Draw, location: float, scale: float, extent: float, bounds: tuple[float, float], dtype: Any
) -> Array:
    """location + scale * draw, rounded to `dtype` and kept strictly inside `bounds`.

    Args:
      draw: standardized values of absolute value at most `extent`.
      location, scale: static floats, scale > 0.
      extent: at least 2**(31 - draw.fraction).
      bounds: lower and upper bound of the result, exclusive; infinite ones mean the largest finite values.
      dtype: a real floating dtype.
    """
    exponent = unit_exponent(location, scale, extent)
    if exponent > 127 - 31 and dtype != np.dtype("float64"):
        raise ValueError(f"the values reach 2**{exponent + 31}, which exceeds {dtype}; use a smaller scale")
    _check_octets(location, scale, bounds, dtype)
    multiplier = min(round(math.ldexp(scale, 32 - draw.fraction - exponent)), 2**32 - 1)
    offset = round(math.ldexp(location, -exponent))
    magnitude = mulhi(draw.magnitude, word(multiplier)).astype(jnp.int32)
    units = where(draw.negative, -magnitude, magnitude)
    if offset:
        units = units + offset
    least, largest = unit_bounds(bounds, exponent, dtype)
    if (least, largest) != (-INT32_MAX, INT32_MAX):
        units = lax.clamp(np.int32(least), units, np.int32(largest))
    if nothing := _rounded_to_zero(exponent, dtype):
        units = where(abs(units) <= nothing, units * 0, units)
    wide = jnp.float64 if dtype == np.dtype("float64") else jnp.float32
    return rounded(units.astype(wide) * np.dtype(wide).type(math.ldexp(1.0, exponent)), dtype)


def rounded(x: Array, dtype: Any) -> Array:
    """`x` in `dtype`, and so it stays: a GPU's compiler leaves out a rounding that a caller's conversion follows."""
    narrow = np.dtype(dtype).itemsize < x.dtype.itemsize
    return lax.optimization_barrier(x.astype(dtype)) if narrow else x.astype(dtype)


def _rounded_to_zero(exponent: int, dtype: Any) -> int:
    """Up to how many units of 2**exponent are set to zero before they are rounded to it; 0 where that is the same.

    Of the types without a negative zero its bits are the NaN's, and that is what some of XLA's CPU code makes of small
    negative numbers (seen with jax 0.10.2 and --xla_cpu_use_fusion_emitters=false).
    """
    if not is_octet(dtype) or not np.dtype(dtype).name.endswith("fnuz"):
        return 0
    half = Fraction(float(ml_dtypes.finfo(dtype).smallest_subnormal)) / 2
    return min(math.floor(half / Fraction(2) ** exponent), INT32_MAX)


def _check_octets(location: float, scale: float, bounds: tuple[float, float], dtype: Any) -> None:
    """Nothing, unless a twentieth or more of the values would end at the largest of 8 bits, which is soon the case."""
    if not is_octet(dtype):
        return
    reach, largest = min(max(map(abs, bounds)), abs(location) + 2 * scale), float(ml_dtypes.finfo(dtype).max)
    if reach > largest:
        raise ValueError(f"the values reach {reach:g}, beyond the {largest:g} of {dtype}; use a smaller scale")


def unit_exponent(location: float, scale: float, extent: float) -> int:
    """The least e for which every location + scale * draw is below 2**31 units of 2**e."""
    largest = abs(location) + scale * extent
    return max(math.frexp(largest)[1] - 31, SMALLEST_EXPONENT)


def finite_bounds(bounds: tuple[float, float], dtype: Any) -> tuple[float, float]:
    """The least and largest values of `dtype` strictly inside `bounds`.

    Raises:
      ValueError: if there is none.
    """
    lower, upper = (neighbour(bound, toward, dtype) for bound, toward in zip(bounds, (np.inf, -np.inf), strict=True))
    if not (lower <= upper and math.isfinite(lower) and math.isfinite(upper)):
        raise ValueError(f"no finite {dtype} lies strictly between {bounds[0]} and {bounds[1]}; widen the range")
    return lower, upper


def unit_bounds(bounds: tuple[float, float], exponent: int, dtype: Any) -> tuple[int, int]:
    """The least and largest integers whose value in units of 2**exponent rounds to inside `bounds`.

    Raises:
      ValueError: if there is none.
    """
    lower, upper = finite_bounds(bounds, dtype)
    unit = Fraction(2) ** exponent  # exact: the bounds of float64 overflow, and underflow, a float
    least = max(math.ceil(Fraction(lower) / unit), -INT32_MAX)
    largest = min(math.floor(Fraction(upper) / unit), INT32_MAX)
    if least > largest:
        raise ValueError(
            f"too few {dtype} values lie between {bounds[0]} and {bounds[1]} to draw from; widen the range"
        )
    return least, largest


def neighbour(bound: float, toward: float, dtype: Any) -> float:
    """The value of `dtype` next to `bound` in the direction `toward`, and finite."""
    if is_octet(dtype):
        return _octet_neighbour(bound, toward, dtype)
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.asarray(bound).astype(dtype)
        # ml_dtypes gives NumPy's nextafter for bfloat16; rounding first keeps us inside even where the
        # caller compares with the rounded bound.
        return float(np.nextafter(rounded, np.asarray(toward, dtype)))


def is_octet(dtype: Any) -> bool:
    """Whether numbers of a dtype have 8 bits, and are of both signs, which float8_e8m0fnu's are not."""
    return bool(np.dtype(dtype).itemsize == 1 and ml_dtypes.finfo(dtype).bits == 8 and ml_dtypes.finfo(dtype).min < 0)


def _octet_neighbour(bound: float, toward: float, dtype: Any) -> float:
    # Some have no infinity to step towards, and round what is beyond the largest to NaN: all 256 are looked at.
    every = _octets(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = float(np.asarray(np.clip(bound, every[0], every[-1])).astype(dtype))
    upward = toward > bound
    # A bound that lies beyond all of them has the outermost for its neighbour.
    if not every[0] <= bound <= every[-1]:
        return near if (bound < near) == upward else math.copysign(math.inf, toward)
    beyond = every[every > near] if upward else every[every < near]
    return float(beyond[0] if upward else beyond[-1]) if beyond.size else math.copysign(math.inf, toward)


@functools.cache
def _octets(dtype: Any) -> np.ndarray:
    """All finite values, ascending."""
    every = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    return np.unique(every[np.isfinite(every)])
