"""Blocks for NNX: the streams of an `nnx.Rngs` start anew inside, from keys of the block, and go on outside."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from qrjax._terminal._received import received
from qrjax._words._block_key import block_key

# For each Rngs and name of a block, the keys below which it was entered, and something drawn, before.
_used: weakref.WeakKeyDictionary[Any, dict[str | int, list[weakref.ref[Any]]]] = weakref.WeakKeyDictionary()


def check_rngs(rngs: Any) -> None:
    """Raises unless `rngs` is None, an `nnx.Rngs` or one of its streams.

    Raises:
      TypeError: if it is neither.
    """
    if rngs is None:
        return
    from flax import nnx

    if not isinstance(rngs, (nnx.Rngs, nnx.RngStream)):
        raise TypeError(f"`rngs` must be an nnx.Rngs, got {received(rngs)}; make one with nnx.Rngs(0)")


@contextlib.contextmanager
def nnx_block(rngs: Any, name: str | int, warnings: list[str]) -> Iterator[None]:
    """Inside, every stream's key is that of the block below it, and its count 0; both are back afterwards."""
    saved = [(stream, stream.key.get_value(), stream.count.get_value()) for stream in _streams(rngs)]
    inside = [(stream, _keys_of(key, name), jnp.zeros_like(count)) for stream, key, count in saved]
    try:
        for stream, key, zero in inside:
            _set(stream, key, zero)
        yield
        drew = any(stream.count.get_value() is not zero for stream, _, zero in inside)
    finally:
        for stream, key, count in saved:
            _set(stream, key, count)
    if drew:
        _note(rngs, name, saved[0][1], warnings)


def _streams(rngs: Any) -> list[Any]:
    from flax import nnx

    found = [rngs] if isinstance(rngs, nnx.RngStream) else [stream for _, stream in rngs.items()]
    return list({id(stream): stream for stream in found}.values())


def _set(stream: Any, key: Any, count: Any) -> None:
    stream.key.set_value(key)
    stream.count.set_value(count)


def _keys_of(key: Any, name: str | int) -> Any:
    """The key of the block, or of an array of keys, which split streams have, all of theirs."""
    derive = functools.partial(_derive, name)
    for _ in key.shape:
        derive = jax.vmap(derive)
    return derive(key)


def _derive(name: str | int, key: Any) -> Any:
    return block_key(key, name)


def _note(rngs: Any, name: str | int, outer: Any, warnings: list[str]) -> None:
    entered = _used.setdefault(rngs, {}).setdefault(name, [])
    # The very same key, not only the same Rngs, which may have been given new seeds in between.
    if any(seen() is outer for seen in entered):
        warnings.append("with the same nnx.Rngs")
    else:
        entered[:] = [seen for seen in entered if seen() is not None] + [weakref.ref(outer)]
