"""The distributions: which quantile function, which bounds, which standard deviation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._values import _complex, _quantiles, _tables
from qrjax._values._floats import is_octet, to_float
from qrjax._values._quantiles import Draw
from qrjax._values._truncated import FARTHEST, truncated_normal_between

# Standard deviations after truncation at 2: of the standard normal, and of the complex one. JAX divides
# complex draws by 0.95311..., which leaves out the denominator and makes variances 1.9 % too large.
TRUNCATED_STDDEV = 0.87962566103423978
COMPLEX_TRUNCATED_STDDEV = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)))


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform on (-1, 1); complex: on the unit disk."""

    bounds = (-1.0, 1.0)
    extent = 1.0
    mean = 0.0
    stddev = math.sqrt(1 / 3)
    complex_stddev = math.sqrt(1 / 2)
    is_tabled = False

    def draw(self, bits: Array, exact: bool) -> Draw:
        return _quantiles.uniform(bits, exact)

    def complex_draw(self, bits: Array, angle: Array) -> tuple[Draw, Draw]:
        return _complex.disk(bits, angle)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Standard normal; complex: E|z|**2 = 1.

    Attributes:
      tabled: how the quantile is evaluated; False is for what was drawn before there were tables.
    """

    tabled: bool = True
    bounds = (-math.inf, math.inf)
    extent = 8.0
    mean = 0.0
    stddev = 1.0
    complex_stddev = math.sqrt(2)  # of `complex_draw`, whose parts are standard normal each

    @property
    def is_tabled(self) -> bool:
        return self.tabled

    def draw(self, bits: Array, exact: bool) -> Draw:
        return (_tables if self.tabled else _quantiles).normal(bits, exact)

    def complex_draw(self, bits: Array, angle: Array) -> tuple[Draw, Draw]:
        # Here the second word is no angle: the parts are independent.
        return self.draw(bits, exact=False), self.draw(angle, exact=False)


@dataclasses.dataclass(frozen=True)
class TruncatedNormal:
    """Standard normal truncated to (lower, upper); complex: to modulus 2.

    Attributes:
      lower, upper: the bounds.
      tabled: as of `Normal`; between other bounds than -2 and 2 the quantile is one of polynomials, always.
    """

    lower: float = -2.0
    upper: float = 2.0
    tabled: bool = True
    complex_stddev = COMPLEX_TRUNCATED_STDDEV

    @property
    def mean(self) -> float:
        return _truncated_moments(self.lower, self.upper)[0]

    @property
    def stddev(self) -> float:
        return TRUNCATED_STDDEV if self._default else _truncated_moments(self.lower, self.upper)[1]

    @property
    def bounds(self) -> tuple[float, float]:
        return self.lower, self.upper

    @property
    def extent(self) -> float:
        # At least 8, as the magnitudes between arbitrary bounds have 28 bits of fraction.
        return 2.0 if self._default else min(max(8.0, -self.lower, self.upper), FARTHEST + 1)

    @property
    def is_tabled(self) -> bool:
        return self.tabled and self._default

    @property
    def _default(self) -> bool:
        return (self.lower, self.upper) == (-2.0, 2.0)

    def draw(self, bits: Array, exact: bool) -> Draw:
        if self._default:
            return (_tables if self.tabled else _quantiles).truncated_normal(bits, exact)
        return truncated_normal_between(bits, self.lower, self.upper)

    def complex_draw(self, bits: Array, angle: Array) -> tuple[Draw, Draw]:
        return _complex.truncated_normal_disk(bits, angle)


def _truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Mean and standard deviation of a standard normal truncated to (lower, upper).

    By 64 points of Gauss-Legendre, as the closed form cancels in the tails (Johnson, Kotz, Balakrishnan 1994, 13.10.1).
    """
    # Beyond 13 standard deviations from the bound nearest to zero nothing is left.
    nearest = min(max(0.0, lower), upper)
    low, high = max(lower, nearest - 13), min(upper, nearest + 13)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    x = low + (high - low) * (nodes + 1) / 2
    density = weights * np.exp(-(x**2 - nearest**2) / 2)
    mean = float((density @ x) / density.sum())
    return mean, math.sqrt(float((density @ (x - mean) ** 2) / density.sum()))


Distribution = Uniform | Normal | TruncatedNormal


def check_dtype(dtype: Any, *, allow_complex: bool = True) -> np.dtype:
    """The canonical dtype, float64 and complex128 being cut to what x64 allows; None is JAX's default.

    Raises:
      ValueError: if `dtype` is neither a float nor, where allowed, a complex dtype.
    """
    try:
        wanted = jnp.dtype(float if dtype is None else dtype)
    except TypeError:
        raise ValueError(f"`dtype` must be {_KINDS[allow_complex]} dtype, got {dtype!r}") from None
    if wanted.itemsize > {"f": 8, "c": 16}.get(wanted.kind, math.inf):  # which JAX lacks, and would take for another
        raise ValueError(f"`dtype` must be {_KINDS[allow_complex]} dtype, got {wanted}; JAX has none so long")
    found = jax.dtypes.canonicalize_dtype(wanted)
    if jnp.issubdtype(found, jnp.complexfloating) and allow_complex:
        return found
    if not jnp.issubdtype(found, jnp.floating) or (found.itemsize < 2 and not is_octet(found)):
        raise ValueError(f"`dtype` must be {_KINDS[allow_complex]} dtype, got {found}; float32 is the usual choice")
    return found


_KINDS = {
    True: "a floating (float32, bfloat16, float16, float64, float8_*) or complex",
    False: "a floating (float32, bfloat16, float16, float64, float8_*)",
}


def values(
    distribution: Distribution, bits: Array, location: float, scale: float, dtype: np.dtype, exact: bool = False
) -> Array:
    """location + scale * (the standardized value of each word), strictly inside its bounds."""
    lower, upper = distribution.bounds
    bounds = (location + scale * lower, location + scale * upper)
    draw = distribution.draw(bits, exact)
    return to_float(draw, location, scale, distribution.extent, bounds, dtype)


def complex_values(distribution: Distribution, bits: Array, angle: Array, scale: float, dtype: np.dtype) -> Array:
    """scale * (the standardized complex value of each pair of words)."""
    part = np.dtype("float64" if dtype == np.dtype("complex128") else "float32")
    extent, unbounded = max(distribution.extent, 1.0), (-math.inf, math.inf)
    draws = distribution.complex_draw(bits, angle)
    return lax.complex(*(to_float(draw, 0.0, scale, extent, unbounded, part) for draw in draws))
