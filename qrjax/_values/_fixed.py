"""Polynomials in unsigned 32-bit fixed point, by Horner's rule with `mulhi`."""

from __future__ import annotations

from collections.abc import Sequence

from jax import Array

from qrjax._words._pairs import mulhi, where, word

Polynomial = Sequence[int]


def horner(coefficients: Sequence[Array], x: Array) -> Array:
    """sum c_k x**k for x in [0, 1) as x * 2**32; coefficients highest power first, all of one scale.

    The caller's coefficients are non-negative, so the sum cannot overflow where its value at 1 does
    not, and each of the k steps rounds down by less than one unit.
    """
    total, *rest = coefficients
    for coefficient in rest:
        total = mulhi(total, x) + coefficient
    return total


def polynomial(row: Polynomial, x: Array) -> Array:
    return horner([word(c) for c in row], x)


def piecewise(rows: Sequence[Polynomial], beyond: Sequence[Array], x: Array) -> Array:
    """Row k of `rows` at x, where k counts how many of the nested conditions `beyond` hold.

    Coefficients are selected, not gathered: a select a coefficient and piece costs less than a
    table look-up on every processor we know, and TPUs do element-wise look-ups badly.
    """
    return horner([select(column, beyond) for column in zip(*rows, strict=True)], x)


def select(values: Sequence[int], beyond: Sequence[Array]) -> Array:
    """The value whose position counts how many of the nested conditions hold."""
    chosen = word(values[0])
    for condition, value in zip(beyond, values[1:], strict=True):
        chosen = where(condition, word(value), chosen)
    return chosen
