"""The k smallest of many integers in many arrays, exactly, without sorting or moving them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._interpreter._processes import gathered

# Thresholds that one pass over the arrays counts below; 8 passes of 4 bits settle 32.
BITS = 4


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of one array goes: all below `value`, and of those equal to it the ones from `place` on.

    `place`: its coordinates; None means that none of them goes.
    """

    value: int
    place: tuple[int, ...] | None


def smallest(arrays: Sequence[Array], k: int) -> list[Cut]:
    """The cuts that take the k smallest entries of uint32 arrays; of equal ones the last in order.

    Arrays are ordered as given, and each row by row. Only counts leave the devices.
    """
    if k <= 0:
        return [Cut(0, None) for _ in arrays]
    value = _kth(arrays, k)
    below = sum(int(_below(a, value)[0]) for a in arrays)
    equal = [int(_equal(a, value)) for a in arrays]
    staying = sum(equal) - (k - below)
    cuts = []
    for array, count in zip(arrays, equal, strict=True):
        mine = min(staying, count)
        staying -= mine
        cuts.append(Cut(value, None if mine == count else _place(array, value, mine)))
    return cuts


def kept(array: Array, cut: Cut) -> Array:
    """Which entries a cut leaves, as booleans."""
    return _kept(array, np.uint32(cut.value), None if cut.place is None else tuple(map(np.uint32, cut.place)))


def _kth(arrays: Sequence[Array], k: int) -> int:
    """The k-th smallest entry, from the highest bits down."""
    base = 0
    for shift in range(32 - BITS, -1, -BITS):
        steps = [base + (i << shift) for i in range(1, 1 << BITS)]
        counts = sum(_below(a, *steps) for a in arrays)
        base += int(np.count_nonzero(np.asarray(counts) < k)) << shift
    return base


def _below(array: Array, *thresholds: int) -> np.ndarray:
    """How many entries lie below each threshold."""
    rows = gathered(_rows_below(array, np.array(thresholds, np.uint32)))
    return np.asarray(rows, np.int64).reshape(len(thresholds), -1).sum(1)


@jax.jit
def _rows_below(array: Array, thresholds: Array) -> Array:
    # Not vmap, for which XLA would make an array for every threshold.
    return lax.map(lambda t: jnp.sum(array < t, axis=_summed(array), dtype=jnp.int32), thresholds)


def _summed(array: Array) -> Sequence[int]:
    """All axes where 32 bits can count the whole, else all but the first."""
    return range(0 if array.size < 2**31 else 1, array.ndim)


def _equal(array: Array, value: int) -> int:
    return int(np.asarray(gathered(_rows_equal(array, np.uint32(value))), np.int64).sum())


@jax.jit
def _rows_equal(array: Array, value: Array) -> Array:
    return jnp.sum(array == value, axis=_summed(array), dtype=jnp.int32)


def _place(array: Array, value: int, count: int) -> tuple[int, ...]:
    """The coordinates of entry number `count`, from 0, of those equal to `value`, in row-major order."""
    place: tuple[int, ...] = ()
    for axis in range(array.ndim):
        found = _equal_along(array, np.uint32(value), tuple(map(np.uint32, place)), axis=axis)
        before = np.cumsum(np.asarray(gathered(found), np.int64))
        index = int(np.searchsorted(before, count, side="right"))
        count -= int(before[index - 1]) if index else 0
        place = (*place, index)
    return place


@functools.partial(jax.jit, static_argnames="axis")
def _equal_along(array: Array, value: Array, place: tuple[Array, ...], *, axis: int) -> Array:
    """How many entries equal `value` at every index of an axis, the axes before it being at `place`."""
    here = array == value
    for earlier, index in enumerate(place):
        here &= lax.broadcasted_iota(jnp.uint32, array.shape, earlier) == index
    return jnp.sum(here, axis=[k for k in range(array.ndim) if k != axis], dtype=jnp.int32)


@jax.jit
def _kept(array: Array, value: Array, place: tuple[Array, ...] | None) -> Array:
    if place is None:
        return array >= value
    earlier, same = jnp.zeros(array.shape, bool), jnp.ones(array.shape, bool)
    for axis, index in enumerate(place):
        here = lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        earlier, same = earlier | (same & (here < index)), same & (here == index)
    return (array > value) | ((array == value) & earlier)
