"""What makes a weight worth keeping: one number each, in an order that integers keep."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._autoinit._plan import path_key
from qrjax._initializers._builders import uniform_hash
from qrjax._interpreter._model import Leaf
from qrjax._tracking._pairs import Pair

Criterion = Literal["change", "relative_change", "movement", "magnitude", "random"]
CRITERIA: tuple[str, ...] = get_args(Criterion)
# These look at the initial weights; the others need no record.
WITH_INITIAL = ("change", "relative_change", "movement")


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """One prunable variable; `initial` is None where the criterion needs none."""

    leaf: Leaf
    array: Any
    pair: Pair | None


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
    initial = _laid_out(weights.pair.origin.array, weights.array)()
    return _moved(criterion, initial, weights.array)


def initial_like(pair: Pair) -> Array:
    """The initial values, laid out over devices as the trained ones are."""
    found: Array = _laid_out(pair.origin.array, pair.array)()
    return found


def _laid_out(make: Any, like: Any) -> Any:
    if not isinstance(like, jax.Array) or len(like.sharding.device_set) == 1:
        return make
    return jax.jit(make, out_shardings=like.sharding)


@jax.jit
def _magnitude(now: Array) -> Array:
    return jnp.abs(_wide(now)).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _moved(criterion: str, initial: Array, now: Array) -> Array:
    a, b = _wide(initial), _wide(now)
    if criterion == "movement":
        return (jnp.abs(b) - jnp.abs(a)).astype(jnp.float32)
    distance = jnp.abs(b - a)
    # What subtraction flushes to zero has changed all the same.
    distance = jnp.where((distance == 0) & (a != b), jnp.finfo(distance.dtype).tiny, distance)
    if criterion == "relative_change":
        distance = jnp.where(distance == 0, 0, distance / jnp.abs(a))
    return distance.astype(jnp.float32)


def _wide(x: Array) -> Array:
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


@jax.jit
def ordered(values: Array) -> Array:
    """float32 as uint32 in the same order; 0 and -0 are one."""
    bits = lax.bitcast_convert_type(values + 0.0, jnp.uint32)
    bits = jnp.where(values == 0, np.uint32(0), bits)
    sign = np.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)
