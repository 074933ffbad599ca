"""Points of the Sobol' sequence by index, one at a time or a whole raster at once.

Sobol' 1967; in the Gray-code order of Antonov and Saleev 1979, which is also SciPy's: point i of a
dimension is the XOR of its direction numbers v[b] over the set bits b of gray(i) = i ^ (i >> 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from qrjax._words._pairs import materialized, where, word
from qrjax._words._pointwise import OneByOne, Words, pointwise

# Up to this odd factor of the width a raster selects among that many tables; beyond, the selection
# would cost as much as evaluating each point by itself.
LARGEST_ODD_FACTOR = 8
SMALLEST_TABLE = 16


def gray(index: Array) -> Array:
    return index ^ index >> 1


def point_bits(directions: Array, index: Array, largest: int = 2**32 - 1, scale: int = 1) -> Array:
    """The 32 bits of the points `index * scale`, each by itself: one masked XOR a bit of the index.

    Args:
      directions: direction numbers, shape (32, ...), the rest broadcasting against `index`.
      index: uint32, any shape.
      largest: a static bound on `index`; smaller ones take fewer steps.
      scale: a static power of two.
    """
    # gray(index * 2**k) has k - 1 zeros at its end, then twice the index XOR the index.
    skipped = max(scale.bit_length() - 2, 0)
    used = directions[skipped : skipped + max(largest.bit_length(), 1) + (scale > 1)]
    digits = [lax.index_in_dim(used, k, keepdims=False) for k in range(used.shape[0])]
    (bits,) = _points(len(digits), scale > 1)(index, *digits)
    return bits


def packed_points(words: Sequence[Array], index: Array, digits: int) -> Array:
    """The points `index` < 2**digits of so many direction numbers, from as many digits of each, packed."""
    (bits,) = _points(digits, False, digits)(index, *words)
    return bits


@functools.cache
def _points(digits: int, doubled: bool, width: int = 32) -> Words:
    """One operation for all digits; a GPU's compiler would else keep what each makes of a row's indices."""
    each = 32 // width

    def bits(index: Array, *words: Array) -> list[Array]:
        remaining = index ^ index << 1 if doubled else gray(index)
        total = index ^ index
        for k in range(digits):
            direction, place = words[k // each], width * (k % each)
            direction = direction >> place if place else direction
            total = total ^ direction & word(0) - (remaining & 1)
            remaining = remaining >> 1
        return [total & word((1 << width) - 1) if each > 1 else total]  # without what its neighbours left there

    mapped = OneByOne(bits)
    return pointwise(f"sobol_{digits}", 1, bits, cuda=mapped, rocm=mapped)


def raster_bits(directions: Array, rows: Array, columns: Array, shape: tuple[int, ...], start: int | Array) -> Array:
    """The points `start + rows * width + columns` of a raster, modulo 2**32; width = shape[-1].

    The map from index to point is linear over GF(2), so with a power of two B dividing hi and lo < B,
    x(hi + lo) = x(hi) ^ x(lo): a raster takes two short tables and one XOR a point. There is no
    reshape and no gather in it, so that it partitions along every axis.

    Args:
      directions: shape (32,).
      rows, columns: uint32, of equal rank, broadcasting against each other; columns in [0, width).
      shape: static; its leading axes bound `rows`.
      start: index of the first point, static or a uint32 scalar.
    """
    width = shape[-1]
    block = width & -width
    odd = width // block
    largest = min(math.prod(shape) + start, 2**32 - 1) if isinstance(start, int) else 2**32 - 1
    if block < SMALLEST_TABLE or odd > LARGEST_ODD_FACTOR:
        return point_bits(directions, rows * word(width) + columns + word(start), largest)
    pieces = odd if isinstance(start, int) and start % block == 0 else odd + 1
    start = word(start)
    column = columns + (start & (block - 1))
    low = point_bits(directions, column & (block - 1), block - 1)
    first = rows * word(odd) + (start >> (block.bit_length() - 1))
    wrap = word((2**32 // block) - 1)  # beyond it, block * index passes 2**32
    tables = [point_bits(directions, first + word(q) & wrap, largest // block + 1, block) for q in range(pieces)]
    (low,), tables = materialized(low), materialized(*tables)
    high = tables[0]
    for q, table in enumerate(tables[1:], 1):
        high = where(column >= q * block, table, high)
    return high ^ low


def line_bits(directions: Array, count: int, start: int | Array) -> Array:
    """The points start, start + 1, ..., start + count - 1 as a vector, by way of a raster."""
    width = 1 << (max(count, 1).bit_length() // 2)
    height = -(-count // width)
    rows = jnp.arange(height, dtype=jnp.uint32)[:, None]
    columns = jnp.arange(width, dtype=jnp.uint32)[None, :]
    return raster_bits(directions, rows, columns, (height, width), start).reshape(-1)[:count]
