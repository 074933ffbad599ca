"""Keyed permutations of range(n) with random access: no sort, no table, any n up to 2**32.

A Feistel network on a ragged raster. The numbers 0..n-1 fill rows of `width` cells, the last row
perhaps in part. A round turns every column by a keyed hash of its number, the next one every row
likewise; each turn is a rotation within that column's or row's own length, so the whole is a
bijection whatever n is. After Black and Rogaway 2002, "Ciphers with arbitrary finite domains".

The width is odd and there are three rounds because the images index a radical inverse, whose leading
bit is the index's parity. With a width of 2**k a rotation only flips that parity along a whole row,
and with two rounds a 1024 x 1024 matrix keeps 0.90 of the effective rank of an i.i.d. one; so it is 1.00.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from qrjax._words._pairs import mulhi, quotient, where, word
from qrjax._words._pointwise import OneByOne, Words, pointwise

MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B)


def permute(index: Array, n: int, keys: Sequence[Array]) -> Array:
    """Where a keyed permutation of range(n) sends `index`.

    Args:
      index: uint32, values in [0, n).
      n: static, 1 <= n <= 2**32.
      keys: uint32 words that broadcast against `index`, one a round.
    """
    (image,) = _permutation(n, len(keys))(index, *keys)
    return image


@functools.cache
def _permutation(n: int, rounds: int) -> Words:
    """One operation on words; on a GPU the compiler would else keep some of its many in memory."""
    mapped = OneByOne(functools.partial(_images, n))
    return pointwise(f"permute_{rounds}", 1, mapped.function, cuda=mapped, rocm=mapped)


def _images(n: int, index: Array, *keys: Array) -> list[Array]:
    width = math.isqrt(n) | 1
    height = -(-n // width)
    last = n - (height - 1) * width  # cells of the last row
    row = quotient(index, width, n)
    column = index - row * word(width)
    columns, rows = ([word(m) for m in lengths] for lengths in ((last, height, height - 1), (height - 1, width, last)))
    for turn, key in enumerate(keys):
        if turn % 2 == 0:
            (row,) = _turned(row, column, key, *columns)
        else:
            (column,) = _turned(column, row, key, *rows)
    return [row * word(width) + column]


def _turn(x: Array, position: Array, key: Array, limit: Array, below: Array, beyond: Array) -> list[Array]:
    """x, turned within the column or row of that position, whose length is `below` where position < limit."""
    length = where(position < limit, below, beyond)
    # x + floor(length * fraction / 2**32), modulo length, for x < length <= 2**31.
    moved = x + mulhi(keyed_hash(position, key), length)
    # Where moved < length the difference wraps to a larger word, so the minimum is the remainder.
    return [jnp.minimum(moved, moved - length)]


def keyed_hash(x: Array, key: Array) -> Array:
    """A small keyed hash; its high bits are the good ones, and `mulhi` uses those."""
    (image,) = _keyed(x, key)
    return image


def _hashed(x: Array, key: Array) -> list[Array]:
    x = (x ^ key) * word(MULTIPLIERS[0])
    x = x ^ x >> 16
    return [x * word(MULTIPLIERS[1])]


_keyed, _turned = pointwise("keyed_hash", 1, _hashed), pointwise("turn", 1, _turn)
