"""SplitMix64 as a counter-based hash: output n of a stream is a pure function of (seed, n).

Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA, figure 17, with
the finalizer's constants of Stafford's variant 13, as in Java's SplittableRandom and Vigna's C code.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from qrjax._terminal._received import received
from qrjax._words._pairs import Pair, add, constant, mulhi, multiply, shift_right, word, xor
from qrjax._words._pointwise import OneByOne, Words, in_64_bits, pointwise

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
LONGEST_CHAIN = 4  # words absorbed by one equation; each length is compiled once, for all paths of names together


def finalize(z: Pair) -> Pair:
    """SplitMix64's finalizer, a bijection of 64-bit words.

    On its own it is no generator: it maps 0 to 0, and a raw counter through it fails statistical
    tests. `output` adds the golden gamma first.
    """
    z = multiply(xor(z, shift_right(z, 30)), constant(MULTIPLIERS[0]))
    z = multiply(xor(z, shift_right(z, 27)), constant(MULTIPLIERS[1]))
    return xor(z, shift_right(z, 31))


def output(seed: Pair, counter: ArrayLike) -> Pair:
    """Output number `counter` of SplitMix64 seeded with `seed`; the first is number 0.

    Args:
      seed: the 64-bit state before the first output.
      counter: a uint32 array of output numbers, from 0 to 2**32 - 1; broadcasts against `seed`.

    Returns:
      The 64-bit outputs as a `Pair`: finalize(seed + golden_gamma * (counter + 1)).

    Example:
      >>> from qrjax import splitmix
      >>> hi, lo = splitmix.output(splitmix.from_int(0), 0)
      >>> hex(int(hi)), hex(int(lo))
      ('0xe220a839', '0x7b1dcdaf')

    Reference: Steele, Lea, Flood 2014, figure 17.
    """
    return _absorbed(seed, word(counter))


def _by_pairs(hi: Array, lo: Array, *counters: Array) -> list[Array]:
    state, gamma = Pair(hi, lo), constant(GOLDEN_GAMMA)
    for counter in counters:
        # gamma * (counter + 1) as gamma + gamma * counter: counter + 1 would wrap at 2**32.
        offset = Pair(mulhi(counter, gamma.lo) + counter * gamma.hi, counter * gamma.lo)
        state = finalize(add(add(state, gamma), offset))
    return list(state)


def _of_64_bits(hi: Array, lo: Array, *counters: Array) -> Array:
    z = hi << np.uint64(32) | lo
    for counter in counters:
        z = z + np.uint64(GOLDEN_GAMMA) * (counter + np.uint64(1))
        for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
            z = (z ^ z >> np.uint64(shift)) * np.uint64(multiplier)
        z = z ^ z >> np.uint64(31)
    return z


@in_64_bits
def _in_64_bits(*words: Array) -> list[Array]:
    """The same, where there are 64-bit words: a quarter of the operations to trace, compile and run."""
    z = _of_64_bits(*words)
    return [z >> np.uint64(32), z]


def _at_once(*words: Array) -> list[Array]:
    with jax.enable_x64(True):
        return [_of_64_bits(*(lax.convert_element_type(w, np.uint64) for w in words))]


# As one operation a GPU's compiler does not keep states of rows in memory between its steps.
_on_gpus = OneByOne(_at_once, is_wide=True)


@functools.cache
def _chain(length: int) -> Words:
    name = f"splitmix_{length}" if length > 1 else "splitmix"
    return pointwise(name, 2, _in_64_bits, tpu=_by_pairs, cuda=_on_gpus, rocm=_on_gpus)


def _absorbed(state: Pair, *counters: Array) -> Pair:
    return Pair(*_chain(len(counters))(*state, *counters))


def absorb(state: Pair, *words: ArrayLike) -> Pair:
    """Hashes words into a state, one at a time: each is a jump to that output of the current stream.

    Args:
      state: a 64-bit state.
      *words: uint32 arrays; they broadcast against `state` and each other.

    Returns:
      The state after the last word. The number of words is *not* absorbed: use `absorb_sequence` where
      sequences of different lengths must not meet.

    Example:
      >>> from qrjax import splitmix
      >>> row = splitmix.absorb(splitmix.from_int(7), 3)       # a stream for coordinate 3
      >>> splitmix.output(row, 5) == splitmix.absorb(splitmix.from_int(7), 3, 5)
      True
    """
    left = [word(value) for value in words]
    while left:
        run = _run(state, left)
        state, left = _absorbed(state, *run), left[len(run) :]
    return state


def _run(state: Pair, words: Sequence[Array]) -> Sequence[Array]:
    """The first of the words, as far as one equation absorbs them: while there are no more states than after one."""
    shape = jnp.broadcast_shapes(state.hi.shape, words[0].shape)
    longer = (k for k, w in enumerate(words) if jnp.broadcast_shapes(shape, w.shape) != shape)
    return words[: min(next(longer, len(words)), LONGEST_CHAIN)]


def absorb_sequence(state: Pair, words: Sequence[ArrayLike]) -> Pair:
    """`absorb` with the number of words first, so that no sequence is a prefix of another."""
    return absorb(state, len(words), *words)


def absorb_path(state: Pair, path: Sequence[str | int]) -> Pair:
    """Hashes a parameter path such as ("encoder", "Dense_0", "kernel") into a state.

    The number of components, and each component's kind and length, are absorbed before its content,
    so ("ab", "c"), ("a", "bc") and ("abc",) differ, and so do ("1",) and (1,).

    Args:
      state: a 64-bit state.
      path: strings, and integers in [0, 2**32).

    Raises:
      TypeError: if `path` is a single string, or a component is neither a string nor an integer.
      ValueError: if an integer component lies outside [0, 2**32).

    Example:
      >>> from qrjax import splitmix
      >>> state = splitmix.absorb_path(splitmix.from_int(0), ("Dense_0", "kernel"))
      >>> f"{int(state.hi):08x}{int(state.lo):08x}"
      '87e3a9be37011cc1'
    """
    if isinstance(path, str):
        raise TypeError(f"`path` must be a sequence of components, got the string {path!r}; write ({path!r},)")
    state = absorb(state, len(path))
    for component in path:
        state = absorb_sequence(state, component_words(component))
    return state


def component_words(component: str | int) -> list[int]:
    if isinstance(component, str):
        data = component.encode()
        # Four bytes a word; the byte count first keeps "a" and "a\0" apart.
        return [0, len(data), *(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))]
    try:
        value = operator.index(component)
    except TypeError:
        raise TypeError(f"`path` must hold strings and integers, got {received(component)}") from None
    if not 0 <= value < 2**32:
        raise ValueError(f"`path` must hold integers in [0, 2**32), got {value}; use its string instead")
    return [1, value]


def from_int(seed: int) -> Pair:
    """A Python integer, modulo 2**64, as a state.

    Raises:
      TypeError: if `seed` is not an integer.

    Example:
      >>> from qrjax import splitmix
      >>> splitmix.from_int(1 << 32 | 5)
      Pair(hi=Array(1, dtype=uint32), lo=Array(5, dtype=uint32))
    """
    try:
        return constant(operator.index(seed))
    except TypeError:
        raise TypeError(f"`seed` must be an integer, got {received(seed)}") from None


def stack(words: Pair) -> Array:
    """The two words along a new last axis: shape (..., 2), high word first."""
    return jnp.stack(jnp.broadcast_arrays(*words), axis=-1)
