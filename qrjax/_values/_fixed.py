"""Unsigned 32-bit fixed point: polynomials by Horner's rule, in words as wide as the processor likes them.

A polynomial is a chain of products' high words. On a CPU each is a 64-bit product, and held in 64 bits from one to the
next the chain takes half the time, with AVX-512, that it takes when vectors are packed and unpacked around every
product (with AVX2 as long). On a GPU a 64-bit word is two registers and gains nothing; a TPU has none. So functions are
written once, for an `Arithmetic`, and `fixed` makes of one a primitive that is lowered with either.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from jax import Array, lax

from qrjax._words import _pairs
from qrjax._words._pairs import where
from qrjax._words._pointwise import in_64_bits, pointwise

Polynomial = Sequence[int]
WORD = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """Operations on words of 32 bits, each held in an integer of `dtype`, whose further bits stay 0.

    Logical operations, comparisons, differences that do not wrap and shifts to the right are the integers' own.
    """

    dtype: Any

    @property
    def _is_wide(self) -> bool:
        return bool(self.dtype == np.uint64)

    def word(self, value: int) -> Array:
        return lax.full((), value, self.dtype)

    def mulhi(self, x: Array, y: Array) -> Array:
        """The high word of the product."""
        return x * y >> self.word(32) if self._is_wide else _pairs.mulhi(x, y)

    def add(self, x: Array, y: Array) -> Array:
        return self._word_of(x + y)

    def shift_left(self, x: Array, count: int) -> Array:
        return self._word_of(x << self.word(count))

    def complement(self, x: Array) -> Array:
        return x ^ self.word(WORD)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return where(condition, x, y)

    def select(self, values: Sequence[int], beyond: Sequence[Array]) -> Array:
        """The value whose position counts how many of the nested conditions hold."""
        chosen = self.word(values[0])
        for condition, value in zip(beyond, values[1:], strict=True):
            chosen = self.where(condition, self.word(value), chosen)
        return chosen

    def _word_of(self, x: Array) -> Array:
        # Also where nothing can be beyond the word: without the mask a compiler would not know, and take the product
        # of all 64 bits for that of two words.
        return x & self.word(WORD) if self._is_wide else x


@dataclasses.dataclass(frozen=True)
class Numbers(Arithmetic):
    """The same for NumPy's arrays, where a function is evaluated ahead of any program."""

    def word(self, value: int) -> Any:
        return np.uint64(value)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(condition, x, y)


NARROW, WIDE = Arithmetic(np.dtype(np.uint32)), Arithmetic(np.dtype(np.uint64))
NUMBERS = Numbers(np.dtype(np.uint64))


class Fixed(Protocol):
    """A function of uint32 words, and the one of an arithmetic and words that it wraps."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *words: Array) -> Array: ...


def fixed(function: Callable[..., Array]) -> Fixed:
    """`function(arithmetic, *words)`, element by element, as a primitive on uint32 words."""

    def narrow(*words: Array) -> list[Array]:
        return [function(NARROW, *words)]

    @in_64_bits
    def wide(*words: Array) -> list[Array]:
        return [function(WIDE, *words)]

    primitive = pointwise(function.__name__, 1, narrow, cpu=wide)

    @functools.wraps(function)
    def call(*words: Array) -> Array:
        return primitive(*words)[0]

    return cast(Fixed, call)


def horner(a: Arithmetic, coefficients: Sequence[Array], x: Array) -> Array:
    """sum c_k x**k for x in [0, 1) as x * 2**32; coefficients highest power first, all of one scale.

    The caller's coefficients are non-negative, so the sum cannot overflow where its value at 1 does
    not, and each of the k steps rounds down by less than one unit.
    """
    total, *rest = coefficients
    for coefficient in rest:
        total = a.add(a.mulhi(total, x), coefficient)
    return total


def polynomial(a: Arithmetic, row: Polynomial, x: Array) -> Array:
    return horner(a, [a.word(c) for c in row], x)


def piecewise(a: Arithmetic, rows: Sequence[Polynomial], beyond: Sequence[Array], x: Array) -> Array:
    """Row k of `rows` at x, where k counts how many of the nested conditions `beyond` hold.

    Coefficients are selected, not gathered: a select a coefficient and piece costs less than a
    table look-up on every processor we know, and TPUs do element-wise look-ups badly.
    """
    return horner(a, [a.select(column, beyond) for column in zip(*rows, strict=True)], x)
