"""The Sobol' sequence by dimension and index: 21,201 dimensions, 2**32 points of 32 bits each.

`bits` and `points` take any indices; `bits_range` and `points_range` take a run of them through two
short tables, which is several times as fast. `discrepancy` measures any set of points.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from qrjax._sequences._directions import BITS, DIMENSIONS, check_dim, directions
from qrjax._sequences._discrepancy import KINDS, Kind, check_points, discrepancy_of
from qrjax._sequences._ranges import start_of
from qrjax._sequences._scrambles import SCRAMBLES, Scramble, check_scramble, scrambled_dimension, scrambled_points
from qrjax._sequences._sobol import line_bits, point_bits
from qrjax._terminal._names import choice
from qrjax._terminal._received import received
from qrjax._values._distributions import Uniform, check_dtype, values
from qrjax._words._keys import key_words
from qrjax._words._numbers import whole_number
from qrjax._words._pairs import word
from qrjax._words._transfers import transferring

__all__ = ["BITS", "DIMENSIONS", "SCRAMBLES", "bits", "bits_range", "discrepancy", "points", "points_range"]


def __dir__() -> list[str]:
    return sorted(__all__)


@transferring
def bits(dim: Any, index: ArrayLike, *, scramble: Scramble = None, key: Array | None = None) -> Array:
    """The 32 bits of the points `index` of dimension `dim`, as uint32.

    Point i is the XOR of the direction numbers v[b] over the set bits b of i ^ (i >> 1). Without a
    scramble these are the integers of SciPy's `qmc.Sobol(bits=32, scramble=False)`.

    Args:
      dim: dimension in [1, 21201], counting from 1; a static integer, or a traced scalar, which puts a
        table of 508,824 bytes into the executable and wraps beyond 21,201.
      index: point numbers in [0, 2**32), integers of any shape, possibly traced.
      scramble: None, "shift", "linear" (a random linear matrix, then a shift) or "owen".
      key: a JAX key; the scramble of a dimension is a function of it and `dim` alone.

    Returns:
      A uint32 array of the shape of `index`.

    Raises:
      TypeError: if `dim` or `index` is not an integer, or `key` not a key.
      ValueError: if a static `dim` or `index` is out of range, or a scramble lacks its key.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> qrjax.sobol.bits(2, jnp.arange(4)) >> 28
      Array([ 0,  8,  4, 12], dtype=uint32)

    Reference: Joe and Kuo 2008, SIAM J. Sci. Comput. 30, section 2.
    """
    return _evaluated(dim, _checked_index(index), scramble, key)


@transferring
def points(
    dim: Any, index: ArrayLike, dtype: Any = None, *, scramble: Scramble = None, key: Array | None = None
) -> Array:
    """The points `index` of dimension `dim` as floats, strictly inside (0, 1).

    Unscrambled, point i is bits / 2**32, cut to a multiple of 2**-30 (in float64, too), rounded to `dtype`, and 0 is
    moved inside; scrambled, it is (bits + 1/2) / 2**32, likewise.

    Args:
      dim, index, scramble, key: as for `bits`.
      dtype: a floating dtype; None is JAX's default.

    Raises:
      TypeError, ValueError: as `bits`, and for a dtype that is not floating.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> qrjax.sobol.points(1, jnp.arange(1, 5))
      Array([0.5  , 0.75 , 0.25 , 0.375], dtype=float32)
    """
    found = check_dtype(dtype, allow_complex=False)
    return _evaluated(dim, _checked_index(index), scramble, key, dtype=found)


@transferring
def bits_range(dim: Any, start: ArrayLike, count: int, *, scramble: Scramble = None, key: Array | None = None) -> Array:
    """`bits` of the points start, start + 1, ..., start + count - 1.

    Args:
      dim, scramble, key: as for `bits`.
      start: the first point, in [0, 2**32); an integer or a traced scalar, which wraps modulo 2**32.
      count: how many, static.

    Returns:
      A uint32 array of shape (count,).

    Raises:
      TypeError, ValueError: as `bits`; also if `start + count` exceeds 2**32.

    Example:
      >>> import qrjax
      >>> qrjax.sobol.bits_range(1, 1, 3) >> 28
      Array([ 8, 12,  4], dtype=uint32)
    """
    first, size = _checked_range(start, count)
    return _evaluated(dim, first, scramble, key, size)


@transferring
def points_range(
    dim: Any, start: ArrayLike, count: int, dtype: Any = None, *, scramble: Scramble = None, key: Array | None = None
) -> Array:
    """`points` of the points start, start + 1, ..., start + count - 1; arguments and errors as there.

    Example:
      >>> import qrjax
      >>> qrjax.sobol.points_range(3, 1, 4)
      Array([0.5  , 0.25 , 0.75 , 0.625], dtype=float32)
    """
    found = check_dtype(dtype, allow_complex=False)
    first, size = _checked_range(start, count)
    return _evaluated(dim, first, scramble, key, size, found)


def discrepancy(points: ArrayLike, kind: Kind = "centred") -> float:
    """How far a set of points is from uniform: 0 is perfect; of n independent points it falls like 1 / n.

    On the host in float64, in time n**2 * d; the values are those of `scipy.stats.qmc.discrepancy`, so all but
    "l2-star" are squares, of which the mean over independent points is ((5/4)**d - (13/12)**d) / n for "centred",
    ((3/2)**d - (4/3)**d) / n for "wrap-around" and ((7/4)**d - (19/12)**d) / n for "mixture"; "l2-star" is a root.

    Args:
      points: shape (n, d), in [0, 1]; of any kind, not only Sobol' points.
      kind: "centred", the same under reflections of the cube; "wrap-around", the same under shifts modulo 1;
        "mixture" of both; or "l2-star", of the boxes from the origin.

    Returns:
      A float.

    Raises:
      TypeError: if `points` is traced, or no array of real numbers.
      ValueError: if `points` has another shape or lies outside [0, 1], or `kind` is none of the four.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> net = jnp.stack([qrjax.sobol.points_range(dim, 0, 64) for dim in (1, 2, 3)], axis=1)
      >>> round(qrjax.sobol.discrepancy(net), 5), round(((5 / 4) ** 3 - (13 / 12) ** 3) / 64, 5)
      (0.00059, 0.01065)

    Reference: Hickernell 1998, "A generalized discrepancy and quadrature error bound", Math. Comp. 67, 299-322.
    """
    choice("kind", kind, KINDS)
    return discrepancy_of(check_points(points), kind)


def _evaluated(
    dim: Any, index: Array, scramble: Scramble, key: Array | None, count: int | None = None, dtype: Any = None
) -> Array:
    """The arguments in the form that the program takes them; errors are raised here."""
    dim = check_dim(dim)
    check_scramble(scramble)
    if scramble is not None and key is None:
        raise ValueError(f"`key` must be given for scramble={scramble!r}; make one with jax.random.key(0)")
    words = None if key is None else key_words(key)
    return _program(directions(dim), word(dim), index, words, scramble=scramble, count=count, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("scramble", "count", "dtype"))
def _program(
    directions: Array, dim: Array, index: Array, key: Array | None, *,
    scramble: Scramble, count: int | None, dtype: Any,
) -> Array:  # fmt: skip
    """The points `index` or, with a count, so many from `index` on: their bits or, with a dtype, values.

    One program serves all dimensions and all keys.
    """
    scrambled, seed = scrambled_dimension(directions, dim, scramble, key)
    found = point_bits(scrambled, index) if count is None else line_bits(scrambled, count, index)
    found = scrambled_points(found, scramble, seed)
    return found if dtype is None else values(Uniform(), found, 0.5, 0.5, dtype, scramble is None)


def _checked_index(index: ArrayLike) -> Array:
    if not isinstance(index, jax.Array):
        index = np.asarray(index)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(f"`index` must be an integer or an array of integers, got {received(index)}")
    if not isinstance(index, jax.core.Tracer) and index.size:
        for found in (int(index.min()), int(index.max())):
            if not 0 <= found < 2**32:
                raise ValueError(f"`index` must be in [0, 2**32), got {found}")
    return word(index)


def _checked_range(start: ArrayLike, count: Any) -> tuple[Array, int]:
    try:
        size = whole_number(count)
    except TypeError:
        size = -1
    if size < 0:
        raise ValueError(f"`count` must be a non-negative integer, got {received(count)}")
    start = start_of("start", start, size, f"with count={size}", "count")
    return word(start % 2**32 if isinstance(start, int) else start), size
