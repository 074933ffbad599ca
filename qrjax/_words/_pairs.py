"""64-bit unsigned arithmetic on pairs of uint32 words.

JAX has no 64-bit integers unless x64 is switched on, and TPUs have none at all; a pair of words gives
the same bits everywhere. All operations wrap modulo 2**64.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from qrjax._words._pointwise import OneByOne, Words, aligned, in_64_bits, pointwise


class Pair(NamedTuple):
    """A 64-bit unsigned integer `hi * 2**32 + lo`; both words are uint32 arrays that broadcast."""

    hi: Array
    lo: Array


def word(value: ArrayLike) -> Array:
    """`value`, an integer in [0, 2**32), as uint32."""
    if not isinstance(value, int) and not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"a word must be an integer, got {value!r} of type {jnp.result_type(value)}")
    return jnp.asarray(value, jnp.uint32)


def constant(value: int) -> Pair:
    """The Python integer `value`, modulo 2**64."""
    # Never through a 64-bit NumPy integer: with x64 off JAX cuts one to its low word in silence.
    return Pair(word(value >> 32 & 0xFFFFFFFF), word(value & 0xFFFFFFFF))


def mulhi(x: Array, y: Array) -> Array:
    """The high word of the 64-bit product of two words.

    Not `lax.mulhi`: as of jax 0.10.2 that does not compile for more than one device ("Unable to convert MHLO to
    StableHLO").
    """
    (product,) = _mulhi(x, y)
    return product


@in_64_bits
def _mulhi_in_64_bits(x: Array, y: Array) -> list[Array]:
    return [lax.shift_right_logical(lax.mul(x, y), np.uint64(32))]


def _mulhi_of_halves(x: Array, y: Array) -> list[Array]:
    """By four 16-bit products, none of whose sums passes 2**32."""
    half = np.uint32(0xFFFF)
    x_hi, x_lo, y_hi, y_lo = x >> 16, x & half, y >> 16, y & half
    first = x_hi * y_lo + (x_lo * y_lo >> 16)
    second = x_lo * y_hi + (first & half)
    return [x_hi * y_hi + (first >> 16) + (second >> 16)]


_mulhi = pointwise("mulhi", 1, _mulhi_in_64_bits, tpu=_mulhi_of_halves)


def quotient(x: Array, divisor: int, bound: int) -> Array:
    """x // divisor for static divisor and x < bound; by one product of 32 bits where that is exact.

    With m = ceil(2**k / divisor), x m / 2**k exceeds x / divisor by less than x / 2**k. If bound * divisor <= 2**k,
    that is less than 1 / divisor, and reaches no further integer.
    """
    shift = (bound * divisor - 1).bit_length()
    multiplier = -(-(1 << shift) // divisor)
    if shift > 31 or (bound - 1) * multiplier >= 2**32:
        return lax.div(x, lax.full_like(x, divisor))
    return x * word(multiplier) >> shift


def where(condition: Array, x: Array, y: Array) -> Array:
    """`jnp.where` on words as one operation; jnp's own is a nested function, which costs compile time."""
    shape = jnp.broadcast_shapes(condition.shape, x.shape, y.shape)
    condition, x, y = (jnp.broadcast_to(operand, shape) for operand in (condition, x, y))
    if len({jax.typeof(operand).update(dtype=x.dtype, weak_type=False) for operand in (condition, x, y)}) > 1:
        # A select, unlike other operations, does not take operands that lie in a mesh in different ways.
        x, y, chosen = aligned(x, y, condition.astype(x.dtype))
        condition = chosen != 0
    return lax.select(condition, x, y)


def add(x: Pair, y: Pair) -> Pair:
    lo = x.lo + y.lo
    carry = (lo < x.lo).astype(jnp.uint32)
    return Pair(x.hi + y.hi + carry, lo)


def multiply(x: Pair, y: Pair) -> Pair:
    return Pair(mulhi(x.lo, y.lo) + x.lo * y.hi + x.hi * y.lo, x.lo * y.lo)


def xor(x: Pair, y: Pair) -> Pair:
    return Pair(x.hi ^ y.hi, x.lo ^ y.lo)


def shift_right(x: Pair, count: int) -> Pair:
    """`x >> count` for a static 0 < count < 32."""
    return Pair(x.hi >> count, x.lo >> count | x.hi << (32 - count))


def xor_all(x: Array) -> Array:
    """The XOR of the words along the first axis."""
    return lax.reduce(x, np.uint32(0), lax.bitwise_xor, (0,))


def materialized(*words: Array) -> list[Array]:
    """The same words, evaluated once and kept, where they are short and used by many elements.

    XLA fuses a short operand into the loop over a large result and evaluates it anew for every element;
    its optimization barriers are gone by then. It never does so with a reduction, so here is one that
    changes nothing: the XOR of the words with zeros. There is one for all words of a shape.
    """
    kept = list(words)
    for shape in dict.fromkeys(w.shape for w in words):
        places = [k for k, w in enumerate(words) if w.shape == shape]
        copies = lax.broadcasted_iota(jnp.uint32, (2, *shape), 0)
        padded = [where(copies == 0, lax.expand_dims(words[k], (0,)), word(0)) for k in places]
        reduced = lax.reduce(padded, [np.uint32(0)] * len(places), _xor_each, (0,))
        for k, w in zip(places, reduced, strict=True):
            kept[k] = w
    return kept


def _xor_each(x: Sequence[Array], y: Sequence[Array]) -> list[Array]:
    return [a ^ b for a, b in zip(x, y, strict=True)]


def packed(words: Sequence[Array], bits: int) -> list[Array]:
    """The lowest `bits` bits of each word, as many to a word as fit."""
    return list(_packing(len(words), bits)(*words))


def unpacked(words: Sequence[Array], bits: int, count: int) -> list[Array]:
    """The inverse of `packed`, of `count` words."""
    return list(_unpacking(count, bits)(*words))


@functools.cache
def _packing(count: int, bits: int) -> Words:
    each, mask = 32 // bits, np.uint32((1 << bits) - 1)

    def pack(*words: Array) -> list[Array]:
        shifted = [(w & mask) << bits * (k % each) for k, w in enumerate(words)]
        return [functools.reduce(operator.or_, shifted[k : k + each]) for k in range(0, count, each)]

    results = -(-count // each)
    on_gpus = {name: OneByOne(pack) for name in ("cuda", "rocm") if results == 1}
    return pointwise("packed", results, pack, **on_gpus)


@functools.cache
def _unpacking(count: int, bits: int) -> Words:
    each, mask = 32 // bits, np.uint32((1 << bits) - 1)
    return pointwise(
        "unpacked", count, lambda *words: [words[k // each] >> bits * (k % each) & mask for k in range(count)]
    )


def reverse_bits(x: Array) -> Array:
    """The bits of a word in opposite order; bit 0 becomes bit 31."""
    (reversed_bits,) = _reversed(x)
    return reversed_bits


def _exchanged(x: Array) -> list[Array]:
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = x >> shift & word(mask) | (x & word(mask)) << shift
    return [x >> 16 | x << 16]


_reversed = pointwise("reverse_bits", 1, _exchanged)
