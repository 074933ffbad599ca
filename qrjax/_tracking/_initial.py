"""Initial values, laid out over devices as the trained ones are."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array

from qrjax._interpreter._processes import is_shared
from qrjax._records._origins import Constant, Drawn
from qrjax._tracking._chunks import is_spread, on_device_of
from qrjax._tracking._pairs import Pair


def is_computed(pair: Pair) -> bool:
    """Whether a part of the initial values costs no more than that part."""
    return isinstance(pair.origin, (Drawn, Constant))


def initial_like(pair: Pair) -> Any:
    """All initial values, where the trained ones lie; NumPy's where those are."""
    like = pair.array
    if isinstance(like, jax.core.Tracer):
        return _in_program(pair)
    with jax.ensure_compile_time_eval():  # a program's constants, too
        return _beside(pair, like)


def _beside(pair: Pair, like: Any) -> Any:
    if not isinstance(like, jax.Array) or not is_computed(pair):
        # Not jitted, which changes the bits of JAX's own builders.
        whole = pair.origin.array()
        if isinstance(whole, jax.core.Tracer):
            return whole
        if not isinstance(like, jax.Array):
            return np.asarray(whole)
        if is_shared(like) and not is_shared(whole):  # which device_put would send around, to compare
            return jax.make_array_from_callback(like.shape, like.sharding, np.asarray(whole).__getitem__)
        # Put to where they are, arrays would not go along any more with others that lie elsewhere.
        there = getattr(whole, "sharding", None) == like.sharding
        return whole if there else jax.device_put(whole, like.sharding)
    if is_spread(like):
        return jax.make_array_from_callback(like.shape, like.sharding, pair.origin.at)
    with on_device_of(like):
        return pair.origin.array()


def _in_program(pair: Pair) -> Array:
    """Computed where the program runs, where that gives the same bits; else before it, and kept in it."""
    if is_computed(pair):
        return pair.origin.array()
    with jax.ensure_compile_time_eval():
        return pair.origin.array()
