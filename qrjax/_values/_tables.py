"""Quantiles read from tables: a quadratic in each of 1,024 pieces, through three values of the polynomials.

A polynomial of eight terms whose coefficients are selected among five or six pieces costs a processor some hundred
operations; where a table is read fast, a row of two words and two products do. Both words are of a row that depends on
the piece alone, so what reads tables badly (a TPU) evaluates the polynomials at the row's three nodes instead, and
gets the same bits.

A row (start, slope) stands for start + x * (slope + x * curve) at x of [0, 1), where the lowest 12 bits of `slope` are
also the curve. What that adds to the slope is part of it: the other 20 bits are chosen for the sum. A row ends at or
below the start of the next one, so that the values are in order where the polynomials are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._values._fixed import NARROW, NUMBERS, Arithmetic
from qrjax._values._quantiles import (
    Draw,
    centre,
    log2_of_mantissa,
    normal_magnitude,
    truncated_normal_magnitude,
)
from qrjax._words._pairs import mulhi, where, word
from qrjax._words._pointwise import OneByOne, pointwise

ROWS = 1024
CURVE_BITS, CURVE_SHIFT = 12, 13  # of the curve in the slope, and of its unit over the slope's
# Of the slope's unit below the value's.
TRUNCATED_SHIFT, NORMAL_SHIFT = 8, 9


class Row(NamedTuple):
    """Two words of 32 bits."""

    start: Any
    slope: Any


def interpolating(a: Arithmetic, low: Any, middle: Any, high: Any, shift: int) -> Row:
    """The row of a convex function by its values at x = 0, 1/2 and (almost) 1."""
    rise, rest = middle - low, high - middle
    # The polynomials' last bits are rough: where the function is straight they may bend the other way.
    bend = a.where(rest > rise, rest - rise, rest ^ rest)
    down = CURVE_SHIFT - shift - 1  # the curve is twice the bend
    curve = bend + a.word(1 << down - 1) >> a.word(down)
    slope = a.shift_left(high - low, shift) - a.shift_left(curve, CURVE_SHIFT)
    above = slope - curve >> a.word(CURVE_BITS)
    return Row(low, a.shift_left(above, CURVE_BITS) + curve)


def at(row: Row, x: Array, shift: int) -> Array:
    """The value at x * 2**32."""
    curve = mulhi(row.slope << 32 - CURVE_BITS, x) >> 32 - CURVE_BITS - CURVE_SHIFT
    return row.start + (mulhi(row.slope + curve, x) >> shift)


def truncated_normal_row(a: Arithmetic, piece: Any) -> Row:
    """Of |z| * 2**30 over the probability v: pieces of equal length."""
    v = a.shift_left(piece, 22)
    nodes = (v, v + a.word(1 << 21), v + a.word((1 << 22) - 1))
    low, middle, high = (truncated_normal_magnitude.__wrapped__(a, node) for node in nodes)
    return interpolating(a, low, middle, high, TRUNCATED_SHIFT)


def normal_row(a: Arithmetic, piece: Any) -> Row:
    """Of |z| * 2**28 over the probability beyond, downward: 32 pieces of each octave from the first, [1/2, 1), on."""
    octave, mantissa = piece >> a.word(5), a.word(1 << 31) | a.shift_left(piece & a.word(31), 26)
    nodes = (mantissa + a.word((1 << 26) - 1), mantissa + a.word(1 << 25), mantissa)
    low, middle, high = (_normal_node(a, octave, node) for node in nodes)
    return interpolating(a, low, middle, high, NORMAL_SHIFT)


def _normal_node(a: Arithmetic, octave: Any, mantissa: Any) -> Any:
    y = a.shift_left(octave, 26) + log2_of_mantissa.__wrapped__(a, mantissa)
    v = a.add(a.complement(mantissa >> octave), a.word(1))
    return normal_magnitude.__wrapped__(a, v, y)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How a platform comes by the rows of a table."""

    row: Callable[[Arithmetic, Any], Row]

    def computed(self, piece: Array) -> Row:
        return self.row(NARROW, piece)

    def by_words(self, piece: Array) -> Row:
        """Of one piece, by two look-ups of 32 bits: with 64 a CPU's compiler halves the width of all that it does."""
        return Row(*(_looked_up(words, piece) for words in self._rows))

    def by_pairs(self, piece: Array) -> Row:
        """Of one piece, by a look-up of 64 bits."""
        start, slope = (words.astype(np.uint64) for words in self._rows)
        with jax.enable_x64(True):
            pair = _looked_up(start << np.uint64(32) | slope, piece)
            return Row(*(lax.convert_element_type(w, np.uint32) for w in (pair >> np.uint64(32), pair)))

    @functools.cached_property
    def _rows(self) -> Row:
        row = self.row(NUMBERS, np.arange(ROWS, dtype=np.uint64))
        return Row(*(words.astype(np.uint32) for words in row))


def _looked_up(table: np.ndarray, piece: Array) -> Array:
    return lax.dynamic_slice(jnp.asarray(table), (lax.convert_element_type(piece, np.int32),), (1,)).reshape(())


def tabled(row: Callable[[Arithmetic, Any], Row]) -> Callable[..., Any]:
    """`function(rows, words)`, element by element, as a primitive; `rows` of a piece gives its row."""
    reader = Reader(row)

    def wrapped(function: Callable[[Callable[[Array], Row], Array], Array]) -> Callable[[Array], Array]:
        def form(read: Callable[[Array], Row]) -> Callable[..., list[Array]]:
            return lambda words: [function(read, words)]

        on_cpu, on_gpu = OneByOne(form(reader.by_words)), OneByOne(form(reader.by_pairs))
        name = f"tabled_{function.__name__}"
        primitive = pointwise(name, 1, form(reader.computed), cpu=on_cpu, cuda=on_gpu, rocm=on_gpu)
        return functools.wraps(function)(lambda words: primitive(words)[0])

    return wrapped


@tabled(truncated_normal_row)
def truncated_normal_quantile(rows: Callable[[Array], Row], v: Array) -> Array:
    """|z| * 2**30 of the truncated normal value z whose absolute value has the probability v to be less."""
    return at(rows(v >> 22), v << 10, TRUNCATED_SHIFT)


@tabled(normal_row)
def normal_quantile(rows: Callable[[Array], Row], q: Array) -> Array:
    """|z| * 2**28 of the normal value z whose absolute value has the probability q > 0 to be more."""
    zeros = lax.clz(q | 1)  # below 32, which saves the shift a comparison
    mantissa = q << zeros
    return at(rows(zeros << 5 | mantissa >> 26 & 31), ~(mantissa << 6), NORMAL_SHIFT)


def truncated_normal(bits: Array, exact: bool = False) -> Draw:
    """As that of `_quantiles`, to within 7e-8."""
    negative, v = centre(bits, exact)
    return Draw(negative, truncated_normal_quantile(v), 30)


def normal(bits: Array, exact: bool = False) -> Draw:
    """As that of `_quantiles`, to within 2.4e-7, which is the fits' own error."""
    negative, v = centre(bits, exact)
    # v = 0 is possible where `exact`, and 1 - v would wrap; one unit more does not show.
    return Draw(negative, normal_quantile(word(0) - (where(v == 0, word(1), v) if exact else v)), 28)
