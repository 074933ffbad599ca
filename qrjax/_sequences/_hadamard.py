"""Orders of the points 0..n-1 whose leading bits, from one order to the next, are orthogonal.

A tensor's rows each hold the same n points in an order of their own. With independent orders the
signs of two rows agree by chance on n / 2 +- sqrt(n) / 2 columns, and these chances are what is left
of the luck of the draw: the energy of a layer's output varies with them. Here the sign of row i at
column j is the Walsh function number i of a keyed permutation of the columns, so the sign patterns of
up to 2**k - 1 consecutive rows are exactly orthogonal, where 2**k divides n; which point among those
of its sign a column gets stays random. A scramble of each row on top flips whole sign patterns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from jax import Array, lax

from qrjax._sequences._permutations import keyed_hash, permute
from qrjax._words._pairs import quotient, unpacked, word
from qrjax._words._pointwise import OneByOne, Words, pointwise

SMALLEST_EXPONENT = 4  # fewer than 15 orthogonal patterns are not worth the trouble
HALF_KEY = 0x9E3779B9


class Keys(NamedTuple):
    """The uint32 words that an order depends on, broadcasting against rows and columns."""

    rounds: Sequence[Array]  # two, a row's own
    # The row's Walsh function, in [1, 2**k), and two multipliers of its block, that is of the rows whose signs are
    # orthogonal: of each the lowest k bits, `packed`, so that few words are kept a row.
    numbers: Sequence[Array]


def exponent(n: int) -> int:
    """The largest k for which 2**k divides n."""
    return (n & -n).bit_length() - 1


def applies(n: int) -> bool:
    return exponent(n) >= SMALLEST_EXPONENT


def block_of(row: Array, rows: int, n: int) -> Array:
    """Which block of mutually orthogonal rows a row, of so many, is in."""
    return quotient(row, (1 << exponent(n)) - 1, rows)


def walsh_number(row: Array, block: Array, n: int, multipliers: Sequence[Array]) -> Array:
    """The number of a row's Walsh function, in [1, 2**k), different for the rows of a block.

    Consecutive numbers would leave the high bits of the columns without influence on a few rows.
    """
    (number,) = _walsh(exponent(n))(row, block, *multipliers)
    return number


@functools.cache
def _walsh(k: int) -> Words:
    def number(row: Array, block: Array, *multipliers: Array) -> list[Array]:
        return [_mix(row - block * word((1 << k) - 1) + word(1), multipliers[::-1], k)]

    mapped = OneByOne(number)
    return pointwise("walsh_number", 1, number, cuda=mapped, rocm=mapped)


def hadamard_order(column: Array, n: int, keys: Keys) -> Array:
    """The index, in [0, n), of the point that a row has at a column.

    Args:
      column: uint32 in [0, n).
      n: static, a multiple of 16.
      keys: see `Keys`.
    """
    (index,) = _order(n)(column, *keys.rounds, *keys.numbers)
    return index


@functools.cache
def _order(n: int) -> Words:
    mapped = OneByOne(functools.partial(_index, n))  # else a GPU's compiler makes kernels of what is a row's alone
    return pointwise("hadamard_order", 1, mapped.function, cuda=mapped, rocm=mapped)


def _index(n: int, column: Array, first: Array, second: Array, *numbers: Array) -> list[Array]:
    k = exponent(n)
    number, even, odd = unpacked(numbers, k, 3)
    mask, position = word((1 << k) - 1), column >> k
    cell = _mix(column + (even ^ odd) & mask, (even, odd), k)
    sign = lax.population_count(cell & number) & 1
    if n >> k > 1:
        # Columns of one cell at different positions would have equal signs in every row.
        sign = sign ^ keyed_hash(position, second) >> 31
    # Without the bit that is the number's highest, the cells of either sign count 0..2**(k-1)-1.
    below = (word(1) << (31 - lax.clz(number))) - 1
    rank = cell & below | cell >> 1 & ~below | position << (k - 1)
    # Two rounds do for the magnitudes, whose leading bit is not the parity of anything here.
    rank = permute(rank, n // 2, (first ^ sign * word(HALF_KEY), second))
    # The leading bit of point i is the lowest bit of i ^ (i >> 1), which has to be the sign.
    return [rank << 1 | sign ^ rank & 1]


def _mix(cell: Array, multipliers: Sequence[Array], k: int) -> Array:
    """A bijection of k-bit words that keeps 0 and is not linear over GF(2), so that blocks differ."""
    (image,) = _mixed(cell, *multipliers, word((1 << k) - 1), word((k + 1) // 2))
    return image


def _images(cell: Array, first: Array, second: Array, mask: Array, shift: Array) -> list[Array]:
    cell = cell * (first | 1) & mask
    cell = cell ^ cell >> shift
    return [cell * (second | 1) & mask]


_mixed = pointwise("mix", 1, _images)
