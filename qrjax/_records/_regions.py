"""Regions of a drawn tensor: any box or any index of it, computed without the rest."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._initializers._initializer import Initializer, evaluate
from qrjax._initializers._specification import Specification
from qrjax._layouts._coordinates import Coordinates, Shape, linear_index, whole


def initializer_of(drawn: Specification) -> Initializer:
    """What draws the specified tensor again."""
    return Initializer(drawn.distribution, drawn.scaling, drawn.source, None, "recorded")


@functools.partial(jax.jit, static_argnames=("drawn", "shape", "extent", "dtype"))
def box(
    words: Array,
    factors: Sequence[Array],
    starts: Array,
    *,
    drawn: Specification,
    shape: Shape,
    extent: Shape,
    dtype: Any,
) -> Array:  # fmt: skip
    """The weights of the box [starts, starts + extent) of a tensor of `shape`.

    Args:
      words: the key's.
      factors: scalars that the weights are multiplied with, one after the other.
      starts: int32 or uint32, one number an axis; may be traced.
      drawn: what was drawn; where its shape is not `shape`, it was reshaped afterwards.
    """
    coordinates = tuple(c + start for c, start in zip(whole(extent), starts.astype(jnp.uint32), strict=True))
    there = regrouped(coordinates, shape, drawn.shape)
    value = evaluate(initializer_of(drawn), words, there, shape=drawn.shape, dtype=drawn.dtype)
    return jnp.broadcast_to(multiplied(value, factors, dtype), extent)


@functools.partial(jax.jit, static_argnames=("drawn", "shape", "dtype"))
def points(
    words: Array, factors: Sequence[Array], coordinates: Coordinates, *, drawn: Specification, shape: Shape, dtype: Any
) -> Array:
    """The weights at coordinates, 1-D arrays, each with a key and factors of its own."""

    def one(words: Array, factors: Sequence[Array], coordinates: Coordinates) -> Array:
        there = regrouped(coordinates, shape, drawn.shape)
        value = evaluate(initializer_of(drawn), words, there, shape=drawn.shape, dtype=drawn.dtype)
        return multiplied(value, factors, dtype)

    return jax.vmap(one)(words, factors, coordinates)


def multiplied(value: Array, factors: Sequence[Any], dtype: Any) -> Array:
    """Times each factor, rounded to `dtype` after each, as `autoinit` and `calibrate` do."""
    if not factors:
        return value.astype(dtype)
    for factor in factors:
        # Not jnp.promote_types, which forbids this under strict promotion.
        wide = np.promote_types(value.dtype, np.float32)
        value = (value.astype(wide) * jnp.asarray(factor, wide)).astype(dtype)
        # Else XLA is allowed to keep the digits that a narrow type drops.
        value = lax.optimization_barrier(value)
    return value


def regrouped(coordinates: Coordinates, shape: Shape, target: Shape) -> Coordinates:
    """Where elements of an array of `shape` are in that of shape `target` which it was reshaped from."""
    if shape == target:
        return coordinates
    zero = jnp.zeros((), jnp.uint32)
    result = [zero] * len(target)
    for mine, theirs in groups(shape, target):
        linear = linear_index(coordinates, shape, mine)
        for axis in reversed(theirs):
            result[axis] = linear % np.uint32(target[axis]) if axis != theirs[0] else linear
            linear = linear // np.uint32(target[axis])
    rank = coordinates[0].ndim if coordinates else 0
    return tuple(jnp.reshape(c, (1,) * rank) if c.ndim == 0 else c for c in result)


def groups(shape: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of axes, longer than 1, that a reshape maps onto each other."""
    mine, theirs = ([a for a, n in enumerate(s) if n != 1] for s in (shape, target))
    result = []
    while mine:
        left, right = [mine.pop(0)], [theirs.pop(0)]
        while (sizes := [math.prod(s[a] for a in g) for s, g in ((shape, left), (target, right))])[0] != sizes[1]:
            (left if sizes[0] < sizes[1] else right).append((mine if sizes[0] < sizes[1] else theirs).pop(0))
        result.append((left, right))
    return result


def regroups(shape: Shape, target: Shape) -> bool:
    """Whether `regrouped` can: the same size, and groups that 32 bits number."""
    if math.prod(shape) != math.prod(target):
        return False
    if shape == target or 0 in shape:
        return True
    return all(math.prod(shape[a] for a in mine) <= 2**32 for mine, _ in groups(shape, target))
