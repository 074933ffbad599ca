"""From a JAX key and a path of names to another key of the same kind."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._terminal._received import received
from qrjax._words._keys import key_words
from qrjax._words._pairs import Pair
from qrjax._words._splitmix import component_words, output, stack
from qrjax._words._transfers import transferring

# Words of paths are padded to a multiple of this, so that one compilation serves nearly all paths.
PADDING = 64


@transferring
def block_key(key: Array, *path: str | int) -> Array:
    """The key of the block at `path` below `key`: a pure function of both, what `qrjax.block` gives to models.

    The path is hashed into the key component by component, each with its kind and length first, after the number
    of components: ("ab", "c"), ("a", "bc") and ("abc",) give different keys, and so do "1" and 1. Its words are
    outputs 0, 1, ... of SplitMix64 from the state `splitmix.absorb_path(splitmix.from_key(key), path)`. The bits
    are the same eager, under `jax.jit` and under `jax.vmap`.

    Args:
      key: a JAX key, typed or raw; may be traced.
      *path: one or more strings, and integers in [0, 2**32); static.

    Returns:
      A key of the kind of `key`: typed with the same implementation, or raw words of the same shape.

    Raises:
      TypeError: if `key` is not a key, or a component neither a string nor an integer.
      ValueError: if `path` is empty, an integer lies outside [0, 2**32), or a string has no UTF-8 form.

    Example:
      >>> import jax, qrjax
      >>> key = qrjax.block_key(jax.random.key(0), "encoder", 3)
      >>> jax.random.key_data(key).tolist()
      [1229023743, 1565625432]

    Reference:
      Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA.
    """
    data = key_words(key)
    if not path:
        raise ValueError("`path` must have one component or more, got none; name the block, as in block_key(key, 64)")
    words = _path_words([component("path", part) for part in path])
    padded = np.zeros(-len(words) // PADDING * -PADDING, np.uint32)
    padded[: len(words)] = words
    found = _hashed(data, padded, np.int32(len(words)))
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(found, impl=jax.random.key_impl(key))
    return found


def component(argument: str, value: Any) -> str | int:
    """`value` as a component of a path.

    Raises:
      TypeError: if it is neither a string nor an integer.
      ValueError: if it is an integer outside [0, 2**32) or a string without a UTF-8 form.
    """
    if isinstance(value, str):
        return _encodable(argument, str(value))
    # True would be the integer 1, which is hardly what was meant.
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{argument}` must be a string or an integer, got {value!r}; use {str(value)!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{argument}` must be a string or an integer, got {received(value)}") from None
    if not 0 <= number < 2**32:
        raise ValueError(f"`{argument}` must be in [0, 2**32) if an integer, got {number}; use the string '{number}'")
    return number


def _encodable(argument: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"`{argument}` must have a UTF-8 form if a string, got {value!r} with a lone surrogate; use its repr()"
        ) from None
    return value


def _path_words(path: Sequence[str | int]) -> list[int]:
    """What `absorb_path` absorbs, in order."""
    words = [len(path)]
    for part in path:
        found = component_words(part)
        words += [len(found), *found]
    return words


@jax.jit
def _hashed(data: Array, words: Array, count: Array) -> Array:
    # What `from_key` absorbs, and then the path. Everything in one loop: a program with many layers, each with a key
    # of its own, spends its time compiling this.
    size = data.shape[0]
    first = [np.uint32(size), *data[2:]]

    def absorbed(i: Array, state: Pair) -> Pair:
        # Chosen, not concatenated: along explicit axes of a mesh JAX joins no keys of many with words of none.
        word = words[i - len(first)]
        for place, own in enumerate(first):
            word = jnp.where(i == place, own, word)
        return output(state, word)

    state = lax.fori_loop(0, len(first) + count, absorbed, Pair(data[0], data[1]))
    pairs = stack(output(state, jnp.arange(-(-size // 2), dtype=jnp.uint32)))
    return pairs.reshape(-1)[:size]
