"""From uniform bits to standardized values: inverse distribution functions in integers.

A `Draw` is a sign and a magnitude in fixed point. Floats enter only in `_floats.py`, after this.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from qrjax._values import _coefficients as table
from qrjax._values._fixed import Arithmetic, fixed, piecewise
from qrjax._words._pairs import Pair, where, word

QUARTER, HALF = 1 << 30, 1 << 31


class Draw(NamedTuple):
    """The value (1 - 2 * negative) * magnitude / 2**fraction; `fraction` is static."""

    negative: Array
    magnitude: Array
    fraction: int


class Centred(NamedTuple):
    """A uniform number of (-1, 1): its sign, and its absolute value times 2**32."""

    negative: Array
    magnitude: Array


def centre(bits: Array, exact: bool = False) -> Centred:
    """2 u - 1 for the uniform u that the bits stand for.

    u = (bits + 1/2) / 2**32, which treats both ends alike; or u = bits / 2**32 where `exact`, the
    convention of unscrambled Sobol' points, with bits = 0 moved to 1 to stay inside the interval.
    """
    if exact:
        bits = jnp.maximum(bits, word(1))
    negative = bits < word(HALF)
    if exact:
        return Centred(negative, where(negative, word(0) - bits, bits) << 1)
    return Centred(negative, where(negative, ~bits, bits) << 1 | 1)


def uniform(bits: Array, exact: bool = False) -> Draw:
    """Uniform on (-1, 1)."""
    return Draw(*centre(bits, exact), 32)


def truncated_normal(bits: Array, exact: bool = False) -> Draw:
    """Standard normal, truncated to (-2, 2); its standard deviation is 0.87962566103423978."""
    negative, v = centre(bits, exact)
    return Draw(negative, truncated_normal_magnitude(v), 30)


@fixed
def truncated_normal_magnitude(a: Arithmetic, v: Array) -> Array:
    """|z| * 2**30 of the truncated normal value z whose absolute value has the probability v to be less."""
    t = a.mulhi(v, v)
    ends = [t >= a.word(end) for end in (HALF, 3 * QUARTER, 7 << 29, 15 << 28)]
    # A piece of length 2**-k becomes [0, 1) by dropping the k bits that are the same all over it.
    one, two, three, four = (a.shift_left(t, k) for k in (1, 2, 3, 4))
    local = a.where(ends[1], a.where(ends[2], four, three), a.where(ends[0], two, one))
    local = a.where(ends[2] & ~ends[3], four, local)
    return a.mulhi(piecewise(a, table.TRUNCATED, ends, local), v)


def normal(bits: Array, exact: bool = False) -> Draw:
    """Standard normal, with tails to probabilities of 2**-33 (|z| < 6.34)."""
    negative, v = centre(bits, exact)
    # v = 0 is possible where `exact`, and 1 - v would wrap; one unit more does not show.
    return Draw(negative, normal_magnitude(v, _octaves(word(0) - jnp.maximum(v, word(1)))), 28)


def _normal_magnitude(a: Arithmetic, v: Array, y: Array, octaves: int) -> Array:
    """|z| * 2**28 of the normal value z whose absolute value has the probability v = 1 - 2**-y to be less.

    Args:
      v: times 2**32; used below 15/16.
      y: times 2**26; used from 4 on.
      octaves: how many octaves of y, from [4, 8) on, can occur.
    """
    t = a.mulhi(v, v)
    centre_ends = [t >= a.word(HALF), t >= a.word(3 * QUARTER)]
    tail_starts = [y >= a.word(start << 26) for start in (4, 8, 16, 32)[:octaves]]
    # One Horner scheme serves all pieces: the variable and each coefficient are selected first.
    # In the tail it is x = 2 - y / octave, which falls as y grows.
    x = a.where(centre_ends[0], a.shift_left(t, 2), a.shift_left(t, 1))
    for k, start in enumerate(tail_starts):
        x = a.where(start, a.complement(a.shift_left(y, 4 - k)), x)
    pad = len(table.NORMAL_CENTRE[0]) - len(table.NORMAL_TAIL[0])
    rows = [*table.NORMAL_CENTRE, *[(0,) * pad + row for row in table.NORMAL_TAIL[:octaves]]]
    value = piecewise(a, rows, [*centre_ends, *tail_starts], x)
    product = a.mulhi(value, a.where(tail_starts[0], x, v))
    top = a.select(table.NORMAL_TAIL_TOP[:octaves], tail_starts[1:])
    return a.where(tail_starts[0], top - product, product)


@fixed
def normal_magnitude(a: Arithmetic, v: Array, y: Array) -> Array:
    """`_normal_magnitude` for probabilities of 2**-32 and more."""
    return _normal_magnitude(a, v, y, octaves=3)


@fixed
def far_normal_magnitude(a: Arithmetic, v: Array, y: Array) -> Array:
    """`_normal_magnitude` for probabilities of 2**-64 and more."""
    return _normal_magnitude(a, v, y, octaves=4)


def _octaves(q: Array) -> Array:
    """-log2(q / 2**32) * 2**26 for q > 0; exact in the integer part."""
    zeros = lax.clz(q)
    return (zeros << 26) + log2_of_mantissa(q << zeros)


def octaves_of_pair(q: Pair) -> Array:
    """-log2(q / 2**64) * 2**26 for q > 0."""
    small = q.hi == 0
    hi, lo = where(small, q.lo, q.hi), where(small, word(0), q.lo)
    zeros = lax.clz(hi)
    mantissa = hi << zeros | where(zeros == 0, word(0), lo >> jnp.minimum(32 - zeros, word(31)))
    return (zeros + where(small, word(32), word(0)) << 26) + log2_of_mantissa(mantissa)


@fixed
def log2_of_mantissa(a: Arithmetic, mantissa: Array) -> Array:
    """-log2(mantissa / 2**32) * 2**26 for a mantissa of [2**31, 2**32), below 2**26."""
    log2, largest = _log2(a, a.complement(mantissa)) >> a.word(4), a.word((1 << 26) - 1)
    return a.where(log2 < largest, log2, largest)


def _log2(a: Arithmetic, s: Array) -> Array:
    """-log2(1 - s) * 2**30 for s in [0, 1/2) as s * 2**32."""
    return a.mulhi(piecewise(a, table.LOG2, [s >= a.word(QUARTER)], a.shift_left(s, 2)), s)
