"""Randomization of Sobol' points that keeps their stratification.

shift   XOR with one random word (Cranley-Patterson in base 2)
linear  a random unit lower triangular matrix over GF(2) on the digits, then a shift (Matousek 1998,
        J. Complexity 14); touches the direction numbers alone
owen    nested uniform scrambling (Owen 1995) by a hash of the reversed bits in which every bit depends on
        the lower ones only (Laine and Karras 2011; Burley 2020, JCGT 9(4); multipliers by N. Vegdahl)
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from qrjax._sequences._names import SCRAMBLES as SCRAMBLES
from qrjax._sequences._names import Scramble as Scramble
from qrjax._terminal._names import choice
from qrjax._words._keys import from_key
from qrjax._words._pairs import Pair, constant, reverse_bits, word
from qrjax._words._pointwise import OneByOne, pointwise
from qrjax._words._splitmix import absorb, output

OWEN_MULTIPLIERS = (0x3D20ADEA, 0x05526C56, 0x53A22864)


def check_scramble(scramble: object) -> None:
    """Raises ValueError unless `scramble` is one of None, "shift", "linear" and "owen"."""
    choice("scramble", scramble, SCRAMBLES)


def scrambled_directions(directions: Array, scramble: Scramble, state: Pair) -> Array:
    """What a scramble does to the direction numbers, shape (32, ...), ahead of any point."""
    if scramble == "linear":
        return _lower_triangular(directions, state)
    if scramble == "owen":
        # The hash works on reversed bits; reversing these 32 saves reversing every point.
        return reverse_bits(directions)
    return directions


def scrambled_dimension(directions: Array, dim: Array, scramble: Scramble, key: Array | None) -> tuple[Array, Array]:
    """The direction numbers of dimension `dim` with the scramble's share in them, and the seed of the rest.

    `key` is the data of a key; both are a function of it and `dim` alone.
    """
    own = absorb(constant(0) if key is None else from_key(key), dim)
    return scrambled_directions(directions, scramble, own), output(own, 32).lo


def scrambled_points(bits: Array, scramble: Scramble, seed: Array) -> Array:
    """What a scramble does to points made from `scrambled_directions`; `seed` is a uint32 word."""
    if scramble is None:
        return bits
    if scramble == "owen":
        return owen_scrambled(bits, seed)
    return bits ^ seed


def laine_karras(x: Array, seed: Array) -> Array:
    """A keyed permutation of words in which bit k of the result depends on bits 0..k only."""
    (image,) = _permuted(x, seed)
    return image


def _permutation(x: Array, seed: Array) -> list[Array]:
    a, b, c = map(word, OWEN_MULTIPLIERS)
    x = x ^ x * a
    x = (x + seed) * (seed >> 16 | 1)
    x = x ^ x * b
    return [x ^ x * c]


_permuted = pointwise("laine_karras", 1, _permutation)


def owen_scrambled(reversed_points: Array, seed: Array) -> Array:
    """Points, given by their reversed bits, after a nested uniform scramble."""
    (points,) = _scrambled(reversed_points, seed)
    return points


def _reversed_images(x: Array, seed: Array) -> list[Array]:
    return [reverse_bits(laine_karras(x, seed))]


_on_gpus = OneByOne(_reversed_images)
_scrambled = pointwise("owen", 1, _reversed_images, cuda=_on_gpus, rocm=_on_gpus)


def _lower_triangular(directions: Array, state: Pair) -> Array:
    """The directions, shape (32, ...), times random unit lower triangular matrices, one for each state."""
    (product,) = _multiplied(directions, *(jnp.expand_dims(w, 0) for w in state))
    return product


def _product(direction: Array, hi: Array, lo: Array) -> list[Array]:
    total = direction ^ direction
    for digit in range(32):
        # Row r gives digit r, counted from the top: itself, and a random choice of the digits above it.
        own, above = word(1 << 31 - digit), word(2**32 - (1 << 32 - digit))
        row = own | output(Pair(hi, lo), digit).hi & above
        total = total << 1 | lax.population_count(direction & row) & 1
    return [total]


_mapped = OneByOne(_product)
_multiplied = pointwise("lower_triangular", 1, _product, cuda=_mapped, rocm=_mapped)
