"""Keys: that of the weights, from `seed`, `key` or `rngs`, and those of a call's random streams."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from qrjax._terminal._received import is_key, received
from qrjax._words._keys import typed_key

PARAMS, DEFAULT = "params", "default"
# What JAX keeps of a seed without x64; it would cut off the rest.
LEAST, MOST = -(2**31), 2**32


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """What `rngs` says.

    Attributes:
      names: the random streams besides the parameters'.
      keys: of the streams that have one, the parameters' among them.
      strict: whether each stream with a key was asked for by name.
    """

    names: tuple[str, ...] = ()
    keys: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    strict: bool = True


def streams_of(rngs: Any) -> Streams:
    """What `rngs` says: names, a dict of keys, an nnx.Rngs, of which each stream's next key is taken, or one key.

    Raises:
      TypeError: if it is none of these.
    """
    if rngs is None or isinstance(rngs, Streams):
        return rngs or Streams()
    if isinstance(rngs, str):
        return Streams(_names((rngs,)))
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(rngs, nnx.Rngs):
        keys = {name: stream() for name, stream in rngs.items()}
        if DEFAULT in keys:
            keys.setdefault(PARAMS, keys[DEFAULT])
        return Streams(_names(keys), keys, strict=False)
    if isinstance(rngs, Mapping):
        keys = {str(name): _key(f'rngs["{name}"]', key) for name, key in rngs.items()}
        return Streams(_names(keys), keys)
    if isinstance(rngs, (jax.Array, np.ndarray)):
        return Streams((), {PARAMS: _key("rngs", rngs)})
    if isinstance(rngs, (tuple, list, set, frozenset)) and all(isinstance(name, str) for name in rngs):
        return Streams(_names(sorted(rngs) if isinstance(rngs, (set, frozenset)) else rngs))
    raise TypeError(
        "`rngs` must be the names of random streams, such as ('dropout',), a dict of JAX keys or an nnx.Rngs, got "
        f'{received(rngs)}; {{"params": jax.random.key(0)}} is a dict of keys'
    )


def _names(names: Any) -> tuple[str, ...]:
    return tuple(name for name in names if name not in (PARAMS, DEFAULT))


def _key(name: str, key: Any) -> Array:
    try:
        return typed_key(key)
    except TypeError as error:
        raise TypeError(str(error).replace("`key`", f"`{name}`")) from None


def key_of(seed: Any, key: Any, streams: Streams) -> Array:
    """The key of the weights; without any, that of seed 0.

    Raises:
      TypeError: if `seed` is no integer, or `key` no key.
      ValueError: if more than one of them is given.
    """
    given = {"seed": seed, "key": key, "rngs": streams.keys.get(PARAMS)}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        first, second = (f"`{name}`" if name != "rngs" else "the 'params' of `rngs`" for name in named[:2])
        raise ValueError(f"{first} and {second} both say how weights are drawn; pass one of them")
    if key is not None:
        return _key("key", key)
    if streams.keys.get(PARAMS) is not None:
        return streams.keys[PARAMS]
    return jax.random.key(_checked(0 if seed is None else seed))


def _checked(seed: Any) -> Any:
    if is_key(seed):
        raise TypeError(f"`seed` must be an integer, got {received(seed)}; pass a key as key=")
    dtype = getattr(seed, "dtype", None)
    integer = isinstance(seed, int) if dtype is None else np.issubdtype(dtype, np.integer)
    if isinstance(seed, bool) or not integer:
        raise TypeError(f"`seed` must be an integer, got {received(seed)}; a JAX key is passed as key=")
    if np.shape(seed) != ():
        raise TypeError(f"`seed` must be one integer, got {received(seed)}; map over several with jax.vmap")
    short = jax.dtypes.canonicalize_dtype(np.int64) != np.int64
    if not isinstance(seed, jax.Array) and short and not LEAST <= seed < MOST:
        raise ValueError(f"`seed` must lie in [-2**31, 2**32), got {seed}; JAX would cut off what is beyond")
    return seed
