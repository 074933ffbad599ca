"""From a JAX key to a SplitMix64 state."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from qrjax._terminal._received import is_key, received
from qrjax._words._pairs import Pair
from qrjax._words._splitmix import absorb

# Words of a key's data by implementation: threefry2x32 has 2, rbg and unsafe_rbg have 4.
KEY_SIZES = (2, 4)
# What programs call that a key is drawn from.
CONSUMED = "consumed_key"


def from_key(key: Array) -> Pair:
    """The state that a JAX key stands for: its first two words, with their number and the others absorbed.

    Args:
      key: a new-style typed key of shape (), or its raw uint32 data of shape (2,) or (4,). Both give
        the same state. May be traced.

    Raises:
      TypeError: if `key` is not a key.

    Example:
      >>> import jax
      >>> from qrjax import splitmix
      >>> splitmix.from_key(jax.random.key(0)) == splitmix.from_key(jax.random.PRNGKey(0))
      True
    """
    return state_of(key_words(key))


def state_of(words: Array) -> Pair:
    """`from_key` of a key's words, which lie along the first axis; of many copies of them as many states."""
    return absorb(Pair(words[0], words[1]), words.shape[0], *(words[i] for i in range(2, words.shape[0])))


def key_words(key: Any) -> Array:
    """The raw uint32 words of a typed or raw key, shape (2,) or (4,).

    Raises:
      TypeError: if `key` is not a key.
    """
    if not hasattr(key, "dtype") or not isinstance(getattr(key, "shape", None), tuple):
        raise TypeError(f"`key` must be a JAX key, got {received(key)}; {_REMEDY}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise TypeError(f"`key` must be a single key, got an array of keys of shape {key.shape}; {_BATCH}")
        return jax.random.key_data(key)
    if key.dtype != jnp.uint32 or len(key.shape) not in (1, 2) or key.shape[-1] not in KEY_SIZES:
        raise TypeError(f"`key` must be a JAX key, got an array of {key.dtype} of shape {key.shape}; {_REMEDY}")
    if len(key.shape) == 2:
        raise TypeError(f"`key` must be a single key, got an array of keys of shape {key.shape}; {_BATCH}")
    return jnp.asarray(key)


def drawn_words(key: Any) -> Array:
    """`key_words` for a draw, which uses the key up: under jax.debug_key_reuse(True) a second one is an error.

    Programs say so always, and lower to what they were; outside of one nothing is done unless JAX was asked to check.

    Raises:
      TypeError: if `key` is not a key.
      jax.errors.KeyReuseError: if keys are checked and this one was used.
    """
    if not is_key(key):
        return key_words(key)  # raw keys are arrays like any other; JAX does not follow them
    if jax.debug_key_reuse.value:  # in a call of its own, as JAX checks these outside of programs too
        return key_words(_consumed(key))
    return key_words(_consumed_p.bind(key) if isinstance(key, jax.core.Tracer) else key)


def _consumed_jvp(keys: Any, _: Any) -> tuple[Array, Any]:
    key = _consumed_p.bind(*keys)
    return key, ad.Zero.from_primal_value(key)  # type: ignore[attr-defined]


# A key as it is. JAX takes those for used up that a primitive receives which it does not know.
_consumed_p = Primitive(CONSUMED)
_consumed_p.def_impl(lambda key: key)
_consumed_p.def_abstract_eval(lambda key: key)
batching.defvectorized(_consumed_p)
ad.primitive_jvps[_consumed_p] = _consumed_jvp
mlir.register_lowering(_consumed_p, lambda _, key: [key])
_consumed = jax.jit(_consumed_p.bind)


def typed_key(key: Any) -> Array:
    """A typed key as it is, a raw one as the typed one that draws the same.

    Raises:
      TypeError: if `key` is not a key.
    """
    words = key_words(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(key)
    default = jax.random.key_impl(jax.random.key(0))
    fits = jax.random.key_data(jax.random.key(0)).shape == words.shape
    # Raw keys do not say which kind they are; of the kinds that JAX has, each length has one that is not unsafe.
    return jax.random.wrap_key_data(words, impl=default if fits else _KINDS[words.shape[0]])


def keys_like(key: Array) -> AbstractContextManager[Any]:
    """Where jax.random.key makes keys of a typed key's kind."""
    return jax.default_prng_impl(str(jax.random.key_impl(key)))


_KINDS = {2: "threefry2x32", 4: "rbg"}
_REMEDY = "make one with jax.random.key(0)"
_BATCH = "map over the keys with jax.vmap"
