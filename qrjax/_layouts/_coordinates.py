"""Coordinates of weights: whole tensors as broadcasting iotas, and NumPy-style indices into them.

Everything above addresses a weight by one uint32 array an axis, of equal rank, that broadcast against
each other. A whole tensor then needs no index buffer, and one weight costs the same in any tensor.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._terminal._received import received

Coordinates = tuple[Array, ...]
Shape = tuple[int, ...]


def whole(shape: Shape) -> Coordinates:
    """The coordinates of every element: axis k varies along axis k alone."""
    rank = len(shape)
    extents = [tuple(n if k == axis else 1 for k in range(rank)) for axis, n in enumerate(shape)]
    return tuple(lax.broadcasted_iota(jnp.uint32, extent, axis) for axis, extent in enumerate(extents))


def linear_index(coordinates: Coordinates, shape: Shape, axes: Sequence[int]) -> Array:
    """The row-major number, modulo 2**32, of an element within the block spanned by `axes`, in their order."""
    rank = coordinates[0].ndim if coordinates else 0
    total = jnp.zeros((1,) * rank, jnp.uint32)
    for axis in axes:
        total = total * (shape[axis] & 0xFFFFFFFF) + coordinates[axis]
    return total


def from_index(index: Any, shape: Shape) -> tuple[Coordinates, Shape]:
    """Coordinates of `array[index]` for an array of `shape`, and the shape of that result.

    Args:
      index: integers, slices, an Ellipsis, integer arrays (traced ones too) and static boolean
        arrays, or a tuple of these, with NumPy's rules for their combination.
      shape: the shape of the array.

    Raises:
      IndexError: for too many indices, or a static index outside the shape. A traced one is clipped to
        the shape, as JAX does.
      TypeError: for an index of another type.
    """
    parts = _one_per_axis(index, shape)
    arrays = [k for k, part in enumerate(parts) if not isinstance(part, slice)]
    block = np.broadcast_shapes(*(jnp.shape(parts[k]) for k in arrays))
    # NumPy's rule: adjacent array indices leave their result in place, others move it to the front.
    adjacent = not arrays or arrays[-1] - arrays[0] == len(arrays) - 1
    before = sum(isinstance(p, slice) for p in parts[: arrays[0]]) if arrays and adjacent else 0
    lengths = [len(range(*p.indices(n))) for p, n in zip(parts, shape, strict=True) if isinstance(p, slice)]
    result = (*lengths[:before], *block, *lengths[before:])
    coordinates, position = [], 0
    for part, n in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            at = position if position < before else position + len(block)
            coordinates.append(_spread(_slice_values(part, n), (at,), len(result)))
            position += 1
        else:
            axes = range(before + len(block) - jnp.ndim(part), before + len(block))
            coordinates.append(_spread(part, axes, len(result)))
    return tuple(coordinates), result


def box_of(index: Any, shape: Shape) -> tuple[Shape, Shape, Shape] | None:
    """The box that an index of whole numbers and slices of step 1 asks for: starts, extent and the result's shape.

    None for other indices; errors as `from_index`.
    """
    spans, parts = [], _one_per_axis(index, shape)
    for part, n in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            spans.append(range(*part.indices(n)))
        elif isinstance(part, np.ndarray) and not part.ndim:
            spans.append(range(int(part), int(part) + 1))
        else:
            return None
    if any(span.step != 1 for span in spans):
        return None
    result = tuple(len(span) for span, part in zip(spans, parts, strict=True) if isinstance(part, slice))
    return tuple(span.start for span in spans), tuple(map(len, spans)), result


def _one_per_axis(index: Any, shape: Shape) -> list[Any]:
    """The index as one slice or integer array an axis, checked against the shape."""
    given = [_array_of(part) for part in (index if isinstance(index, tuple) else (index,))]
    ellipses = [k for k, part in enumerate(given) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("`index` must hold at most one Ellipsis")
    covered = sum(_axes_of(part) for part in given if part is not Ellipsis)
    missing = len(shape) - covered
    if missing < 0:
        raise IndexError(f"`index` must have at most {len(shape)} parts for shape {shape}, got {covered}")
    at = ellipses[0] if ellipses else len(given)
    parts: list[Any] = []
    for part in (*given[:at], *[slice(None)] * missing, *given[at + len(ellipses) :]):
        axis = len(parts)
        if _is_mask(part):
            parts += _coordinates_of(part, shape[axis : axis + part.ndim], axis)
        else:
            parts.append(_checked(part, shape[axis], axis))
    return parts


def _array_of(part: Any) -> Any:
    """A list as an array; truth values by themselves, which would add an axis, are refused."""
    part = np.asarray(part) if isinstance(part, list) else part
    if isinstance(part, bool) or (_is_mask(part) and not part.ndim):
        raise TypeError(f"`index` must not hold a single truth value, got {part}; index by a boolean array or a slice")
    return part


def _is_mask(part: Any) -> bool:
    return isinstance(part, (np.ndarray, np.bool_, jax.Array)) and bool(jnp.issubdtype(part.dtype, jnp.bool_))


def _axes_of(part: Any) -> int:
    return part.ndim if _is_mask(part) else 1


def _coordinates_of(mask: Any, extent: Shape, axis: int) -> list[np.ndarray]:
    """Of a mask's True entries, an array for each axis that it covers, from `axis` on."""
    if isinstance(mask, jax.core.Tracer):
        raise TypeError("`index` must not hold a traced boolean array: its number of True values is not known")
    if mask.shape != extent:
        raise IndexError(f"`index` holds a boolean array of shape {mask.shape} where axes from {axis} on have {extent}")
    return [positions.astype(np.uint32) for positions in np.nonzero(np.asarray(mask))]


def _clipped(part: Array, n: int) -> Array:
    """A traced index within the axis, negative ones counted from its end; its own dtype may be too short for n."""
    if jnp.issubdtype(part.dtype, jnp.unsignedinteger):
        wide = part if part.dtype.itemsize > 4 else part.astype(jnp.uint32)
        return jnp.minimum(wide, wide.dtype.type(n - 1)).astype(jnp.uint32)
    wide = part if part.dtype.itemsize > 4 else part.astype(jnp.int32)
    least, most = max(-n, np.iinfo(np.int32).min), min(n - 1, np.iinfo(np.int32).max)
    limited = jnp.clip(wide, least, most).astype(jnp.int32)
    return limited.astype(jnp.uint32) + jnp.where(limited < 0, np.uint32(n & 0xFFFFFFFF), np.uint32(0))


def _checked(part: Any, n: int, axis: int) -> Any:
    if isinstance(part, slice):
        return part
    if isinstance(part, jax.core.Tracer) and jnp.issubdtype(part.dtype, jnp.integer):
        return _clipped(part, n)
    try:
        values = np.asarray(part if np.ndim(part) else operator.index(part))
    except TypeError:
        values = np.asarray(None)
    if not np.issubdtype(values.dtype, np.integer) and values.size:
        raise TypeError(f"`index` must hold integers, slices, an Ellipsis or integer arrays, got {received(part)}")
    bad = values[(values < -n) | (values >= n)]
    if bad.size:
        raise IndexError(f"`index` {bad.flat[0]} is outside axis {axis} of size {n}")
    values = values.astype(np.int64)  # which holds n too
    return np.where(values < 0, values + n, values).astype(np.uint32)


def _slice_values(part: slice, n: int) -> np.ndarray:
    return np.arange(n)[part].astype(np.uint32) if n < 2**16 else np.array(range(*part.indices(n)), np.uint32)


def _spread(values: Any, axes: Sequence[int], rank: int) -> Array:
    """`values` with its dimensions at `axes` of an array of `rank` dimensions."""
    extent = [1] * rank
    for axis, n in zip(axes, jnp.shape(values), strict=True):
        extent[axis] = n
    return jnp.reshape(jnp.asarray(values, jnp.uint32), extent)


def size(shape: Shape, axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)
