"""How far weights moved: sums over an array and its initial values, which are computed as they are needed."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from qrjax._interpreter._processes import from_all, is_shared
from qrjax._layouts._coordinates import Shape
from qrjax._records._origins import Constant, Drawn
from qrjax._tracking._chunks import batches, largest_for, on_device_of, parts
from qrjax._tracking._initial import initial_like, is_computed
from qrjax._tracking._pairs import Pair, depth
from qrjax._tracking._reduction import from_drawn, from_stored, is_double, rounded_down

# Where squares overflow float32, weights are first multiplied with 2**-POWER, and where they underflow, being below
# SMALL on average, with 2**POWER.
POWER, SMALL = 85, 2.0**-100


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
    """Of one variable, all processes and shards together.

    Where initial values are computed by the box, nothing of the variable's size is allocated.
    """
    # NumPy has float64 whether or not JAX has.
    with jax.enable_x64(True) if is_double(pair.leaf.dtype) else contextlib.nullcontext():
        stored = None if is_computed(pair) else initial_like(pair)
        found = _sums(pair, stored, threshold, 0)
        if not all(map(math.isfinite, found)):
            found = _instead(found, _sums(pair, stored, threshold, -POWER), lambda value: not math.isfinite(value))
        limit = found.finite * SMALL
        squares = [found.initial, found.current, *([found.squared] if found.absolute else [])]
        if any(value < limit for value in squares):
            larger = _sums(pair, stored, threshold, POWER)
            found = _instead(found, larger, lambda value: abs(value) < limit)
    return found


def _instead(found: Sums, scaled: Sums, is_bad: Callable[[float], bool]) -> Sums:
    """The sums with those replaced that another scale of the weights gives better."""
    better = [new if is_bad(old) and math.isfinite(new) else old for old, new in zip(found, scaled, strict=True)]
    return Sums(*found[:4], *better[4:])


def _sums(pair: Pair, stored: Any, threshold: float, power: int) -> Sums:
    """With weights multiplied with 2**power in between."""
    total: list[Any] = []
    begin = [None] * len(parts(pair.array)) if stored is None else [data for data, _ in parts(stored)]
    for (data, offset), own in zip(parts(pair.array), begin, strict=True):
        with on_device_of(data):
            total += _of_part(pair, own, data, offset, threshold, power)
    count = sum(data.size for data, _ in parts(pair.array))
    rows = np.concatenate([np.zeros((1, len(Sums._fields) - 1)), *(np.asarray(t, np.float64) for t in total)])
    scale = 2.0**-power
    added = rows[:, :-1].sum(0) * [1, 1, 1, scale, *[scale**2] * 4]
    result = Sums._make([float(count), *added.tolist(), float(rows[:, -1].max()) * scale])
    return _everywhere(result) if is_shared(pair.array) else result


def _of_part(pair: Pair, stored: Any, data: Any, offset: Sequence[int], threshold: float, power: int) -> list[Any]:
    """Of what lies on one device; a row for each of its boxes."""
    found: list[Any] = []
    for extent, starts in batches(data.shape, depth(pair.origin), largest_for(data)):
        if isinstance(data, jax.Array):
            found.append(_of_boxes(pair, stored, data, offset, starts, extent, threshold, power))
            continue
        # NumPy's are cut here, since JAX would copy the whole, and read one after the other.
        for start in starts:
            here = tuple(slice(s, s + n) for s, n in zip(start, extent, strict=True))
            place = [o + s for o, s in zip(offset, start, strict=True)]
            own = None if stored is None else stored[here]
            found.append(
                np.asarray(_of_boxes(pair, own, data[here], place, [(0,) * data.ndim], extent, threshold, power))
            )
    return found


def _of_boxes(
    pair: Pair, stored: Any, data: Any, offset: Sequence[int], starts: Sequence[Sequence[int]], extent: Shape,
    threshold: float, power: int,
) -> Array:  # fmt: skip
    """Of boxes of one extent; their starts in the whole are those in `data` plus `offset`."""
    at = np.asarray(starts, np.int32).reshape(len(starts), data.ndim)
    limit = rounded_down(threshold, pair.leaf.dtype)
    # At run time, since XLA multiplies constants with each other first, and those overflow.
    scale = np.float32(2.0**power) if power else None
    options: dict[str, Any] = {"extent": extent, "exact": not limit}
    if not isinstance(pair.origin, Drawn):
        initial = pair.origin.value if isinstance(pair.origin, Constant) else stored
        return from_stored(initial, data, at, limit, scale, **options)
    origin, front = pair.origin, depth(pair.origin)
    place = at + np.asarray(offset, np.int64)
    layer = tuple(place[:, :front].T)
    words = np.broadcast_to(origin.keys[layer], (len(at), origin.keys.shape[-1]))
    factors = [np.broadcast_to(f[layer] if f.ndim else f, (len(at),)) for f in origin.factors]
    return from_drawn(
        words, factors, place[:, front:].astype(np.uint32), data, at, limit, scale, np.True_, drawn=origin.drawn,
        shape=origin.shape[front:], dtype=origin.dtype, **options,
    )  # fmt: skip


def _everywhere(own: Sums) -> Sums:
    """The sums of all processes."""
    return functools.reduce(Sums.plus, (Sums(*row.tolist()) for row in from_all(np.asarray(own))))
