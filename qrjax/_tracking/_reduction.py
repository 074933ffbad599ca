"""Reductions over boxes of weights and their initial values, in one pass each."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._initializers._specification import Specification
from qrjax._layouts._coordinates import Shape
from qrjax._records._regions import box
from qrjax._tracking._bits import differ, is_finite, opposite

# Rows are reduced one onto the other, which vectorizes, where they are at least this long.
ROW = 64


@functools.partial(jax.jit, static_argnames=("extent", "exact"))
def from_stored(
    initial: Array, data: Array, starts: Array, limit: Array, scale: Array | None, *, extent: Shape, exact: bool
) -> Array:
    """`Sums` after the first, a row for each box, of an array and initial values of its shape, or one for all."""

    def step(at: Array) -> Array:
        return _of_box(_cut(initial, at, extent), _cut(data, at, extent), limit, exact, scale)

    found: Array = lax.map(step, starts)
    return found


@functools.partial(jax.jit, static_argnames=("drawn", "shape", "dtype", "extent", "exact"))
def from_drawn(
    words: Array, factors: Sequence[Array], places: Array, data: Array, starts: Array, limit: Array,
    scale: Array | None, always: Array, *, drawn: Specification, shape: Shape, dtype: Any, extent: Shape, exact: bool,
) -> Array:  # fmt: skip
    """As `from_stored`, with initial values drawn for each box: with its own key, factors and place."""

    def step(its: Any) -> Array:
        words, factors, place, at = its
        inner = extent[len(extent) - len(shape) :]

        def draw() -> Array:
            return box(words, factors, place, drawn=drawn, shape=shape, extent=inner, dtype=dtype).reshape(extent)

        # A condition that always holds, since XLA would draw anew for each of the sums: it fuses through its own
        # optimization barriers, but not through conditions.
        initial = lax.cond(always, draw, lambda: jnp.zeros(extent, dtype))
        return _of_box(initial, _cut(data, at, extent), limit, exact, scale)

    found: Array = lax.map(step, (words, factors, places, starts))
    return found


def _cut(array: Array, at: Array, extent: Shape) -> Array:
    if not array.ndim:
        return jnp.broadcast_to(array, extent)
    return array if array.shape == extent else lax.dynamic_slice(array, at, extent)


def _of_box(initial: Array, data: Array, limit: Array, exact: bool, scale: Array | None) -> Array:
    """`Sums` after the first, over one box of weights."""
    a, b = _rows(initial), _rows(data)
    finite = is_finite(a) & is_finite(b)
    differs, opposed = (differ(a, b) if exact else None), (None if jnp.iscomplexobj(a) else opposite(a, b))
    a, b = (jnp.where(finite, _wide(x), 0) for x in (a, b))
    distance = jnp.abs(b - a)
    changed = distance > limit if differs is None else differs & finite
    if scale is not None:
        a, b = (x * scale.astype(x.dtype) for x in (a, b))
        distance = jnp.where(jnp.isinf(distance), jnp.abs(b - a), distance * scale.astype(distance.dtype))
    product = jnp.real(a * jnp.conj(b))
    flipped = product < 0 if opposed is None else opposed & finite
    terms = [finite, changed, flipped, distance, distance**2, product, jnp.abs(a) ** 2, jnp.abs(b) ** 2]
    columns = jnp.stack([jnp.sum(t.astype(distance.dtype), axis=0) for t in terms])
    # A product with ones, since XLA would make one sum of two, and that is not vectorized.
    ones = jnp.ones(columns.shape[1], columns.dtype)
    return jnp.append(jnp.dot(columns, ones, precision=lax.Precision.HIGHEST), jnp.max(distance))


def _wide(x: Array) -> Array:
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def rounded_down(threshold: float, dtype: Any) -> Any:
    """The largest number of a dtype's precision, at least float32's, that is not above the threshold."""
    real = np.dtype("float64" if is_double(dtype) else "float32").type
    with np.errstate(over="ignore", under="ignore"):
        found = real(threshold)
    return np.nextafter(found, real(0)) if float(found) > threshold else found


def is_double(dtype: Any) -> bool:
    return bool(jnp.finfo(dtype).bits > 32)


def _rows(x: Array) -> Array:
    """As a matrix whose rows are as many of the last axes as give them some length."""
    axis = x.ndim
    while axis > 0 and math.prod(x.shape[axis:]) < ROW:
        axis -= 1
    width = math.prod(x.shape[axis:])
    if axis == 0 or width == x.size:
        width = next(w for w in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1) if x.size % w == 0)
    return x.reshape(-1, width)
