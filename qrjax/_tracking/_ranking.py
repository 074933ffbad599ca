"""Weights, or whole filters and heads, in the order in which they go."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._tracking._bits import is_zero, ordered
from qrjax._tracking._chunks import is_spread
from qrjax._tracking._criteria import scores
from qrjax._tracking._neurons import Group, Member

# Keys from here on are those of numbers that are not negative, in `ordered`.
POSITIVE = np.uint32(1 << 31)


class Ranks(NamedTuple):
    """Of a group: each unit's value, and its rank as uint32, the smaller first to go.

    0: gone by an earlier mask. Above it exact zeros, which pruning made before or which cost nothing to prune, in
    the order of the criterion. Above these everything else.
    """

    value: Array
    rank: Array


def ranks(group: Group, criterion: str, key: Array) -> Ranks:
    """The ranks of a group's weights, or of its units, by the mean of their weights' values."""
    found = [(scores(criterion, m.weights, key), m.weights.array, m.weights.gone) for m in group]
    if group[0].units is None:
        value, array, gone = found[0]
        return Ranks(value, _ranked_weights(value, array, gone))
    parts = [_unit_sums(*one, units=m.units) for one, m in zip(found, group, strict=True)]
    weights = sum(math.prod(m.weights.leaf.shape) for m in group)
    units = math.prod(parts[0][0].shape)
    total, zero, gone = (functools.reduce(f, each) for f, *each in zip(_JOINS, *parts, strict=True))
    value = total / np.float32(max(1, weights // max(1, units)))
    return Ranks(value, _ranked(value, zero, gone))


_JOINS: Any = (jnp.add, jnp.logical_and, jnp.logical_and)


@jax.jit
def _ranked_weights(value: Array, array: Array, gone: Array | None) -> Array:
    return _ranked(value, is_zero(array), gone)


@jax.jit
def _ranked(value: Array, zero: Array, gone: Array | None) -> Array:
    rank = ordered(value)
    # What movement says of a zero may be below what it says of others; those are not told apart.
    low = jnp.where(rank >= POSITIVE, rank - (POSITIVE - np.uint32(1)), np.uint32(1))
    rank = jnp.where(zero, low, rank)
    return rank if gone is None else jnp.where(gone, np.uint32(0), rank)


@functools.partial(jax.jit, static_argnames="units")
def _unit_sums(value: Array, array: Array, gone: Array | None, *, units: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """For every unit: the sum of its weights' values, whether all are zero, and whether all are gone."""
    others = [a for a in range(value.ndim) if a not in units]
    out = jnp.zeros(value.shape, bool) if gone is None else gone
    dead = is_zero(array) | out
    # What is at zero has no more to say: that it moved there was pruning.
    return jnp.sum(jnp.where(dead, 0, value), axis=others), jnp.all(dead, axis=others), jnp.all(out, axis=others)


def spread(kept: Array, group: Group) -> Iterator[tuple[Member, Array]]:
    """For every variable of a group which of its weights stay, by its units."""
    for member in group:
        if member.units is None:
            yield member, kept
            continue
        array = member.weights.array
        others = tuple(a for a in range(array.ndim) if a not in member.units)
        make = functools.partial(_broadcast, others=others)
        laid_out = jax.jit(make, out_shardings=array.sharding) if is_spread(array) else make
        yield member, laid_out(kept, array)


def _broadcast(kept: Array, array: Array, *, others: tuple[int, ...]) -> Array:
    # With ones like the array, which inside a program may say how they lie over devices.
    return jnp.expand_dims(kept, others) & jnp.ones_like(array, bool)


def patterned(rank: Array, axes: Sequence[int], most: int, of: int, like: Any) -> Array:
    """Which weights stay when of every `of` in a row along axes together at most `most` do; of equal ones the first."""
    make = functools.partial(_patterned, axes=tuple(axes), most=most, of=of)
    return (jax.jit(make, out_shardings=like.sharding) if is_spread(like) else make)(rank)


@functools.partial(jax.jit, static_argnames=("axes", "most", "of"))
def _patterned(rank: Array, *, axes: tuple[int, ...], most: int, of: int) -> Array:
    rest = tuple(a for a in range(rank.ndim) if a not in axes)
    order = (*axes, *rest)
    moved = jnp.transpose(rank, order)
    n = math.prod(moved.shape[: len(axes)])
    neurons, rows = math.prod(moved.shape[len(axes) :]), -(-n // of)
    flat = moved.reshape(n, neurons)
    # What fills the last row up goes before all else: of equal ranks the last do.
    flat = jnp.pad(flat, ((0, rows * of - n), (0, 0)))
    place = jnp.argsort(jnp.argsort(~flat.reshape(rows, of, neurons), axis=1, stable=True), axis=1)
    kept = (place < most).reshape(flat.shape)[:n].reshape(moved.shape)
    return jnp.transpose(kept, np.argsort(order).tolist())
