"""The k smallest of many integers in many arrays, inside a program: where only sizes are known, not numbers.

The same entries as `_selection` takes, whose counts are Python's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from qrjax._tracking._selection import BITS

# Counts are of 32 bits, with a sign, inside a program.
LARGEST = 2**31 - 1


def kept_in_program(arrays: Sequence[Array], k: Any) -> list[Array]:
    """Which entries stay when the k smallest of all go; `k` may be traced.

    Raises:
      ValueError: if there are more entries than 32 bits count.
    """
    total = sum(math.prod(a.shape) for a in arrays)
    if total > LARGEST:
        raise ValueError(f"inside a program at most 2**31 - 1 weights can be ranked together, got {total}")
    k = jnp.asarray(k, jnp.int32)
    value = _kth(arrays, k)
    staying = _total(arrays, value) + functools.reduce(jnp.add, [_count(a == value) for a in arrays]) - k
    masks = []
    for array in arrays:
        # What there is of equal entries in this array, or as many of them as still may stay.
        mine = jnp.minimum(staying, _count(array == value))
        staying = staying - mine
        masks.append((array > value) | ((array == value) & _first(array == value, mine)) | (k <= 0))
    return masks


def _kth(arrays: Sequence[Array], k: Array) -> Array:
    """The k-th smallest entry, from the highest bits down."""
    steps = np.arange(1, 1 << BITS, dtype=np.uint32)

    def settled(i: Array, base: Array) -> Array:
        shift = np.uint32(32 - BITS) - np.uint32(BITS) * i.astype(jnp.uint32)
        counts = lax.map(lambda t: _total(arrays, t), base + (steps << shift))
        return base + (jnp.sum(counts < k, dtype=jnp.uint32) << shift)

    # Zero, but as the arrays are: where each shard is ranked by itself, so is what is counted.
    zero = (_total(arrays, np.uint32(0)) + k * 0).astype(jnp.uint32)
    found: Array = lax.fori_loop(0, 32 // BITS, settled, zero)
    return found


def _total(arrays: Sequence[Array], threshold: Any) -> Array:
    """How many entries of all lie below a threshold."""
    return functools.reduce(jnp.add, [_count(a < threshold) for a in arrays])


def _count(which: Array) -> Array:
    return jnp.sum(which, dtype=jnp.int32)


def _first(which: Array, count: Array) -> Array:
    """All entries before number `count`, from 0, of those that are True, in row-major order."""
    here, earlier = which, jnp.zeros(which.shape, bool)
    same = jnp.ones(which.shape, bool)
    for axis, n in enumerate(which.shape):
        along = _whole(jnp.sum(here, axis=[a for a in range(which.ndim) if a != axis], dtype=jnp.int32))
        index = jnp.sum(jnp.cumsum(along) <= count, dtype=jnp.int32)
        count = count - jnp.sum(jnp.where(jnp.arange(n, dtype=jnp.int32) < index, along, 0), dtype=jnp.int32)
        place = lax.broadcasted_iota(jnp.int32, which.shape, axis)
        earlier, same = earlier | (same & (place < index)), same & (place == index)
        here = here & (place == index)
    return earlier


def _whole(counts: Array) -> Array:
    """Counts on every device, where a mesh wants to be told so before they are summed up one after the other."""
    sharding = jax.typeof(counts).sharding
    if all(part is None for part in sharding.spec):
        return counts
    found: Array = jax.sharding.reshard(counts, NamedSharding(sharding.mesh, PartitionSpec(None)))
    return found
