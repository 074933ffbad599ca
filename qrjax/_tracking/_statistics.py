"""How far weights moved: sums over an array and its initial values, which are computed as they are needed."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._layouts._coordinates import Shape
from qrjax._tracking._chunks import boxes, largest_for, parts
from qrjax._tracking._pairs import Pair, depth

# Rows are reduced one onto the other, which vectorizes, where they are at least this long.
ROW = 64
# Where squares overflow float32, weights are first multiplied with this.
SMALLER = 2.0**-80


class Sums(NamedTuple):
    """Sums over the finite weights; `finite` to `flips` count."""

    weights: float = 0.0
    finite: float = 0.0
    changed: float = 0.0
    flips: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    product: float = 0.0
    initial: float = 0.0
    current: float = 0.0
    largest: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Of two sets of weights together."""
        added: list[float] = [a + b for a, b in zip(self[:-1], other[:-1], strict=True)]
        return Sums._make([*added, max(self.largest, other.largest)])


def sums(pair: Pair, threshold: float) -> Sums:
    """Of one variable, all processes and shards together; nothing of its size is allocated."""
    found = _sums(pair, threshold, 1.0)
    if not all(map(math.isfinite, found)):
        found = _sums(pair, threshold, SMALLER)
        powers = [1.0] * 4 + [SMALLER] + [SMALLER**2] * 4 + [SMALLER]
        found = Sums(*(value / power for value, power in zip(found, powers, strict=True)))
    return found


def _sums(pair: Pair, threshold: float, scale: float) -> Sums:
    count, limit, total = 0, largest_for(pair.array), []
    for data, offset, device in parts(pair.array):
        with device:
            for starts, extent in boxes(data.shape, depth(pair.origin), limit):
                initial = pair.origin.box([o + s for o, s in zip(offset, starts, strict=True)], extent)
                at = np.asarray(starts, np.int32)
                total.append(
                    _of_box(initial, _piece(data, starts, extent), at, np.float32(threshold), np.float32(scale))
                )
                count += math.prod(extent)
    own = np.array([np.asarray(t, np.float64) for t in total]).reshape(-1, len(Sums._fields) - 1)
    result = Sums._make([float(count), *own[:, :-1].sum(0).tolist(), float(own[:, -1].max(initial=0.0))])
    spread = isinstance(pair.array, jax.Array) and not pair.array.is_fully_addressable
    return _everywhere(result) if spread else result


def _piece(data: Any, starts: tuple[int, ...], extent: Shape) -> Any:
    """NumPy arrays are cut here; arrays on a device where they are read, without a copy."""
    if isinstance(data, jax.Array):
        return data
    return np.ascontiguousarray(data[tuple(slice(s, s + n) for s, n in zip(starts, extent, strict=True))])


@jax.jit
def _of_box(initial: Array, data: Array, starts: Array, threshold: Array, scale: Array) -> Array:
    """The sums, and the largest change last, over one box of `data` and its initial values."""
    if data.shape != initial.shape:
        data = lax.dynamic_slice(data, starts, initial.shape)
    initial, data = (_rows(_wide(x)) for x in (initial, data))
    finite = jnp.isfinite(data)
    moved = jnp.where(finite, data - initial, 0)
    distance = jnp.abs(moved)
    # Subtraction may flush to zero what differs by less than the smallest normal number.
    changed = jnp.where(threshold > 0, distance > threshold, finite & (data != initial))
    distance = distance * scale
    a, b = (jnp.where(finite, x, 0) * scale.astype(x.dtype) for x in (initial, data))
    product = jnp.real(a * jnp.conj(b))
    flipped = (product < 0) if jnp.iscomplexobj(a) else ((a < 0) & (b > 0)) | ((a > 0) & (b < 0))
    terms = [finite, changed, flipped, distance, distance**2, product, jnp.abs(a) ** 2, jnp.abs(b) ** 2]
    columns = jnp.stack([jnp.sum(t.astype(distance.dtype), axis=0) for t in terms])
    # A product with ones, since XLA would make one sum of two, and that is not vectorized.
    ones = jnp.ones(columns.shape[1], columns.dtype)
    return jnp.append(jnp.dot(columns, ones, precision=lax.Precision.HIGHEST), jnp.max(distance))


def _wide(x: Array) -> Array:
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def _rows(x: Array) -> Array:
    """As a matrix whose rows are as many of the last axes as give them some length."""
    axis = x.ndim
    while axis > 0 and math.prod(x.shape[axis:]) < ROW:
        axis -= 1
    width = math.prod(x.shape[axis:])
    if axis == 0 or width == x.size:
        width = next(w for w in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1) if x.size % w == 0)
    return x.reshape(-1, width)


def _everywhere(own: Sums) -> Sums:
    """The sums of all processes."""
    from jax.experimental import multihost_utils

    # As pairs of float32, since float64 does not pass without x64.
    high = np.asarray(own, np.float32)
    low = np.asarray(np.asarray(own, np.float64) - high, np.float32)
    rows = np.asarray(multihost_utils.process_allgather(np.stack([high, low])), np.float64).sum(1)
    return functools.reduce(Sums.plus, (Sums(*row.tolist()) for row in rows))
