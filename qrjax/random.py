"""Arrays of uniform, normal and truncated normal values, from a Sobol' sequence or from SplitMix64.

The distribution layer below the initializers, in the form of the paper's distribution functions
(Miranskyy et al. 2024, arXiv 2408.02654): explicit shape, bounds, dimension and skip; values in the
sequence's own order. For weights use an initializer: this order collapses the rank of matrices.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from qrjax._initializers._arguments import bound, number, positive, shape_of
from qrjax._layouts._coordinates import Shape, linear_index, whole
from qrjax._layouts._sources import flat_points
from qrjax._sequences._directions import check_dim, directions
from qrjax._sequences._ranges import start_of
from qrjax._sequences._scrambles import Scramble, check_scramble, scrambled_dimension, scrambled_points
from qrjax._terminal._names import choice
from qrjax._values._distributions import Distribution, Normal, TruncatedNormal, Uniform, check_dtype, values
from qrjax._values._truncated import check_interval
from qrjax._words._keys import drawn_words, from_key, key_words
from qrjax._words._pairs import word
from qrjax._words._splitmix import output
from qrjax._words._transfers import transferring

__all__ = ["normal", "truncated_normal", "uniform"]

RandomSource = Literal["sobol", "hash"]
SOURCES = ("sobol", "hash")


def __dir__() -> list[str]:
    return sorted(__all__)


def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, *, dim: Any = 1,
    skip: ArrayLike | None = None, scramble: Scramble = None, key: Array | None = None, source: RandomSource = "sobol",
) -> Array:  # fmt: skip
    """Uniform values strictly inside (minval, maxval), in the order of the sequence.

    Args:
      shape: the shape of the result, or the length of one axis; its elements are points skip, skip + 1, ... in
        row-major order.
      minval, maxval: static bounds, minval < maxval.
      dtype: float32, bfloat16, float16, float64 or of 8 bits; None is JAX's default.
      dim: Sobol' dimension in [1, 21201], possibly traced; without meaning for source="hash".
      skip: how many points (or hashes) to leave out at the start; possibly traced. None is 0 with a scramble and
        1 without: unscrambled, the first point is a corner, which the paper leaves out; scrambled, the first 2**m
        points are a net only together, and without one of them a mean has up to thousands of times the variance.
      scramble: None, "shift", "linear" or "owen"; needs a key. Without meaning for source="hash".
      key: a JAX key; needed for source="hash" and for scrambles, else without meaning. Scrambles, which several
        dimensions share, do not use it up, nor does a hash draw with a `skip`; see jax.debug_key_reuse.
      source: "sobol", or "hash" for SplitMix64 seeded by the key.

    Returns:
      An array of `shape` in the open interval (minval, maxval).

    Raises:
      TypeError: for an argument of a wrong type.
      ValueError: for a bound, dimension, scramble, source or shape out of range, or a missing key.

    Example:
      >>> import qrjax
      >>> qrjax.random.uniform((2, 3))
      Array([[0.5  , 0.75 , 0.25 ],
             [0.375, 0.875, 0.625]], dtype=float32)
    """
    least, most = number("minval", minval), number("maxval", maxval)
    if not least < most:
        raise ValueError(f"`minval` must be less than `maxval`, got minval={minval} and maxval={maxval}")
    return _drawn(Uniform(), (least + most) / 2, (most - least) / 2, shape, dtype, dim, skip, scramble, key, source)


def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, *, dim: Any = 1,
    skip: ArrayLike | None = None, scramble: Scramble = None, key: Array | None = None, source: RandomSource = "sobol",
) -> Array:  # fmt: skip
    """Normal values by the inverse distribution function, in the order of the sequence.

    Args:
      shape, dtype, dim, skip, scramble, key, source: as for `uniform`.
      mean, stddev: static; stddev > 0.

    Returns:
      An array of `shape`; finite, within 6.34 standard deviations of the mean.

    Raises:
      TypeError, ValueError: as `uniform`.

    Example:
      >>> import qrjax
      >>> qrjax.random.normal((3,)).round(4)
      Array([ 0.    ,  0.6745, -0.6745], dtype=float32)
    """
    location, scale = number("mean", mean), positive("stddev", stddev)
    return _drawn(Normal(), location, scale, shape, dtype, dim, skip, scramble, key, source)


def truncated_normal(
    shape: Any, lower: float = -2.0, upper: float = 2.0, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, *,
    dim: Any = 1, skip: ArrayLike | None = None, scramble: Scramble = None, key: Array | None = None,
    source: RandomSource = "sobol",
) -> Array:  # fmt: skip
    """Truncated normal values by the inverse distribution function, in the order of the sequence.

    Args:
      shape, dtype, dim, skip, scramble, key, source: as for `uniform`.
      lower, upper: static bounds in units of `stddev` about `mean`; may be infinite.
      mean, stddev: of the normal distribution before truncation, static; stddev > 0.

    Returns:
      An array of `shape` in the open interval (mean + lower * stddev, mean + upper * stddev).

    Raises:
      TypeError, ValueError: as `uniform`; also if the interval holds a probability below 2**-30.

    Example:
      >>> import qrjax
      >>> qrjax.random.truncated_normal((3,), 0.0, float("inf")) * 16 // 1  # quartiles of |z|, in sixteenths
      Array([10., 18.,  5.], dtype=float32)
    """
    lower, upper = bound("lower", lower), bound("upper", upper)
    check_interval(lower, upper)
    law, location, scale = TruncatedNormal(lower, upper), number("mean", mean), positive("stddev", stddev)
    return _drawn(law, location, scale, shape, dtype, dim, skip, scramble, key, source)


@transferring
def _drawn(
    law: Distribution, location: float, scale: float, shape: Any, dtype: Any, dim: Any, skip: ArrayLike | None,
    scramble: Scramble, key: Array | None, source: RandomSource,
) -> Array:  # fmt: skip
    """The arguments in the form that the program takes them; errors are raised here."""
    shape, dtype = shape_of(shape), check_dtype(dtype, allow_complex=False)
    choice("source", source, SOURCES)
    check_scramble(scramble)
    # A hash draw that says nothing of its place in the stream uses the key up, as jax.random's draws do.
    words_of = drawn_words if source == "hash" and skip is None else key_words
    if skip is None:
        skip = 0 if scramble is not None and source == "sobol" else 1
    skip = start_of("skip", skip, math.prod(shape), f"for shape {shape}")
    if key is None and (source == "hash" or scramble is not None):
        wanted = "source='hash'" if source == "hash" else f"scramble={scramble!r}"
        raise ValueError(f"`key` must be given for {wanted}; make one with jax.random.key(0)")
    words = None if key is None else words_of(key)
    # The usual skips, 0 and 1, make for a shorter program of their own; the others share one.
    fixed = skip if isinstance(skip, int) and skip < 2 else None
    start = word(skip % 2**32 if isinstance(skip, int) else skip)  # 2**32 where there are no points
    static = {"law": law, "location": location, "scale": scale, "shape": shape, "dtype": dtype}
    if source == "hash":
        return _hashed(start, words, **static)
    dim = check_dim(dim)
    return _sequence(directions(dim), word(dim), start, words, fixed=fixed, scramble=scramble, **static)


@functools.partial(jax.jit, static_argnames=("law", "location", "scale", "shape", "dtype"))
def _hashed(
    start: Array, key: Array, *, law: Distribution, location: float, scale: float, shape: Shape, dtype: Any
) -> Array:
    index = linear_index(whole(shape), shape, range(len(shape)))
    words = jnp.broadcast_to(output(from_key(key), index + start).hi, shape)
    return values(law, words, location, scale, dtype)


@functools.partial(jax.jit, static_argnames=("fixed", "scramble", "law", "location", "scale", "shape", "dtype"))
def _sequence(
    directions: Array, dim: Array, start: Array, key: Array | None, *, fixed: int | None, scramble: Scramble,
    law: Distribution, location: float, scale: float, shape: Shape, dtype: Any,
) -> Array:  # fmt: skip
    """`fixed` is the start where that is static."""
    if 0 in shape:
        words = jnp.zeros(shape, jnp.uint32)
    else:
        scrambled, seed = scrambled_dimension(directions, dim, scramble, key)
        points = flat_points(scrambled, shape, whole(shape), start if fixed is None else fixed, whole=True)
        words = jnp.broadcast_to(scrambled_points(points, scramble, seed), shape)
    return values(law, words, location, scale, dtype, exact=scramble is None)
