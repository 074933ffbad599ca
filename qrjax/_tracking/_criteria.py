"""What makes a weight worth keeping: one number each, in an order that integers keep."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from qrjax._autoinit._plan import path_key
from qrjax._initializers._builders import uniform_hash
from qrjax._interpreter._model import Leaf
from qrjax._tracking._bits import differ
from qrjax._tracking._chunks import is_spread
from qrjax._tracking._initial import initial_like
from qrjax._tracking._names import CRITERIA as CRITERIA
from qrjax._tracking._names import Criterion as Criterion
from qrjax._tracking._pairs import Pair

# These look at the initial weights; the others need no record.
WITH_INITIAL = ("change", "relative_change", "movement")


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """One prunable variable; `pair` is None without initial values, `gone` without an earlier mask."""

    leaf: Leaf
    array: Any
    pair: Pair | None
    gone: Any = None


def scores(criterion: str, weights: Weights, key: Array) -> Array:
    """The criterion's value for every weight, float32, laid out as the weights are.

    change: |w - w0|. relative_change: |w - w0| / |w0|, 0 where both are. movement: |w| - |w0| (Zhou et al. 2019,
    "magnitude increase"). magnitude: |w|. random: uniform in (0, 1), by address.
    """
    if criterion == "random":
        own = path_key(key, weights.leaf.path)
        draw = functools.partial(uniform_hash(1.0), own, weights.leaf.shape, jnp.float32)
        return _laid_out(draw, weights.array)()
    if criterion == "magnitude" or weights.pair is None:
        return _magnitude(weights.array)
    return _moved(criterion, initial_like(weights.pair), weights.array)


def _laid_out(make: Any, like: Any) -> Any:
    return jax.jit(make, out_shardings=like.sharding) if is_spread(like) else make


@jax.jit
def _magnitude(now: Array) -> Array:
    return jnp.abs(_wide(now)).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _moved(criterion: str, initial: Array, now: Array) -> Array:
    a, b = _wide(initial), _wide(now)
    if criterion == "movement":
        return (jnp.abs(b) - jnp.abs(a)).astype(jnp.float32)
    distance = jnp.abs(b - a)
    if criterion == "relative_change":
        distance = jnp.where(distance == 0, 0, distance / jnp.abs(a))
    distance = distance.astype(jnp.float32)
    # What arithmetic flushes to zero has changed all the same.
    return jnp.where((distance == 0) & differ(initial, now), jnp.finfo(jnp.float32).tiny, distance)


def _wide(x: Array) -> Array:
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
