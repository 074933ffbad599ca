"""Laws of a derivative by what a model returns, as a backward pass of the user's loss begins with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._adjoint._cotangent import Cotangent
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import Floats

# A mean of squares varies along an axis if it strays from its mean by so many times what it would by chance.
TELLING = 3.0


class Sums(NamedTuple):
    """What is kept of an array g.

    Attributes:
      squares: by the set of axes T, as a table with an axis of length 2 for each, the sum over all other axes of the
        squared sum along T.
      along: for each axis the mean of the squares over all others.
    """

    squares: Array
    along: tuple[Array, ...]


def sums(g: Array) -> Sums:
    """Those of an array of real or complex numbers, within a traced function or outside."""
    g = g.astype(np.promote_types(g.dtype, np.float32))
    axes = range(g.ndim)

    def square(chosen: Sequence[int]) -> Array:
        return jnp.sum(jnp.square(jnp.abs(g.sum(tuple(a for a in axes if chosen[a])))))

    squares = jnp.stack([square(chosen) for chosen in itertools.product((0, 1), repeat=g.ndim)])
    energy = jnp.square(jnp.abs(g))
    return Sums(
        squares.reshape((2,) * g.ndim), tuple(energy.mean(tuple(b for b in axes if b != axis)) for axis in axes)
    )


def law(shape: tuple[int, ...], found: Sums) -> Cotangent:
    """The derivative with these second moments, by the axes along which two elements differ."""
    table = np.asarray(found.squares, np.float64)
    # The square of a sum is that of the elements themselves and of pairs that differ along the axis.
    for axis, n in enumerate(shape):
        same, whole = table.take(0, axis), table.take(1, axis)
        table = np.stack([same, (whole - same) / max(1, n - 1)], axis)
    profiles = [_profile(np.asarray(own, np.float64), math.prod(shape) / max(1, n))
                for own, n in zip(found.along, shape, strict=True)]  # fmt: skip
    return Cotangent.of_table(shape, table / max(1, math.prod(shape)), kept(dict(enumerate(profiles))))


def _profile(own: Floats, others: float) -> Floats | None:
    """How the second moment varies along an axis; None where it does no more than by the chance of normal numbers."""
    return normalized(own) if own.std() > TELLING * math.sqrt(2 / others) * own.mean() else None
