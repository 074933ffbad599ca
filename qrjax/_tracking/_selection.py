"""The k smallest of many integers in many arrays, exactly, without sorting or moving them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Thresholds that one pass over the arrays counts below; 8 passes of 4 bits settle 32.
BITS = 4


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of one array goes: all below `value`, and of those equal to it the ones from `place` on.

    `place`: coordinates in row-major order; () means none of them.
    """

    value: int
    place: tuple[int, ...]


def smallest(arrays: Sequence[Array], k: int) -> list[Cut]:
    """The cuts that take the k smallest entries of uint32 arrays; of equal ones the last in order.

    Arrays are ordered as given, and each row by row. Only counts leave the devices.
    """
    if k <= 0:
        return [Cut(0, ()) for _ in arrays]
    value = _kth(arrays, k)
    below = sum(int(_below(a, value)[0]) for a in arrays)
    equal = [int(_equal(a, value)) for a in arrays]
    staying = sum(equal) - (k - below)
    cuts = []
    for array, count in zip(arrays, equal, strict=True):
        mine = min(staying, count)
        staying -= mine
        cuts.append(Cut(value, () if mine == count else _place(array, value, mine)))
    return cuts


def kept(array: Array, cut: Cut) -> Array:
    """Which entries a cut leaves, as booleans."""
    return _kept(array, np.uint32(cut.value), tuple(map(np.uint32, cut.place)))


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
    rows = _rows_below(array, np.array(thresholds, np.uint32))
    return np.asarray(rows, np.int64).reshape(len(thresholds), -1).sum(1)


@jax.jit
def _rows_below(array: Array, thresholds: Array) -> Array:
    # Not vmap, for which XLA would make an array for every threshold.
    return lax.map(lambda t: jnp.sum(array < t, axis=_summed(array), dtype=jnp.int32), thresholds)


def _summed(array: Array) -> Sequence[int]:
    """All axes where 32 bits can count the whole, else all but the first."""
    return range(0 if array.size < 2**31 else 1, array.ndim)


def _equal(array: Array, value: int) -> int:
    return int(np.asarray(_rows_equal(array, np.uint32(value)), np.int64).sum())


@jax.jit
def _rows_equal(array: Array, value: Array) -> Array:
    return jnp.sum(array == value, axis=range(1, array.ndim), dtype=jnp.int32)


def _place(array: Array, value: int, count: int) -> tuple[int, ...]:
    """The coordinates of entry number `count`, from 0, of those equal to `value`, in row-major order."""
    place: tuple[int, ...] = ()
    rest: Any = array
    while rest.ndim:
        before = np.cumsum(np.asarray(_rows_equal(rest, np.uint32(value)), np.int64))
        index = int(np.searchsorted(before, count, side="right"))
        count -= int(before[index - 1]) if index else 0
        place = (*place, index)
        rest = lax.dynamic_index_in_dim(rest, index, 0, keepdims=False)
    return place


@jax.jit
def _kept(array: Array, value: Array, place: tuple[Array, ...]) -> Array:
    if not place:
        return array >= value
    earlier, same = jnp.zeros(array.shape, bool), jnp.ones(array.shape, bool)
    for axis, index in enumerate(place):
        here = lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        earlier, same = earlier | (same & (here < index)), same & (here == index)
    return (array > value) | ((array == value) & earlier)
