"""An array in pieces that fit a cache, and a sharded one piece by piece where each lies."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from qrjax._layouts._coordinates import Shape

# Elements at once: initial weights, which are computed and forgotten, take so much memory and no more.
LARGEST = {"cpu": 2**17, "gpu": 2**22, "tpu": 2**22}

Box = tuple[tuple[int, ...], Shape]


def boxes(shape: Shape, depth: int, largest: int) -> Iterator[Box]:
    """Boxes (starts, extent) that cover an array, each of at most `largest` elements and 1 along `depth` axes."""
    if 0 in shape:
        return
    axis = len(shape)
    while axis > depth and math.prod(shape[axis - 1 :]) <= largest:
        axis -= 1
    # Axes before `axis` are taken one index at a time, but for the last, which is cut into runs.
    cut = axis - 1 if axis > depth else None
    below = math.prod(shape[axis:])
    run = max(1, largest // below) if cut is not None else 0
    singles = shape[: axis if cut is None else cut]
    for place in itertools.product(*map(range, singles)):
        ones = (1,) * len(place)
        if cut is None:
            yield (*place, *[0] * (len(shape) - axis)), (*ones, *shape[axis:])
            continue
        for start in range(0, shape[cut], run):
            length = min(run, shape[cut] - start)
            yield (*place, start, *[0] * (len(shape) - axis)), (*ones, length, *shape[axis:])


def batches(shape: Shape, depth: int, largest: int) -> Iterator[tuple[Shape, list[tuple[int, ...]]]]:
    """The boxes by their extent: (extent, the starts of all that have it)."""
    found: dict[Shape, list[tuple[int, ...]]] = {}
    for starts, extent in boxes(shape, depth, largest):
        found.setdefault(extent, []).append(starts)
    yield from found.items()


def parts(array: Any) -> list[tuple[Any, tuple[int, ...]]]:
    """What of an array lies here: (data, its starts in the whole), each element once."""
    if not is_spread(array):
        return [(array, (0,) * array.ndim)]
    shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    return [(shard.data, tuple(s.start or 0 for s in shard.index)) for shard in shards]


def is_spread(array: Any) -> bool:
    """Whether an array lies on several devices; a traced one does not say."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    return len(array.sharding.device_set) > 1


def on_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """To compute on the one device of an array; anywhere for NumPy's."""
    if not isinstance(array, jax.Array):
        return contextlib.nullcontext()
    device: Any = next(iter(array.sharding.device_set))
    if jax.sharding.get_abstract_mesh().empty:
        return jax.default_device(device)
    # Within jax.set_mesh a program runs on all devices of that mesh, and takes no array that one of them holds.
    return jax.set_mesh(Mesh(np.array([device]), ("device",)))


def largest_for(array: Any) -> int:
    """How many elements to take at once on the array's device."""
    if not isinstance(array, jax.Array):
        return LARGEST["cpu"]
    device: Any = next(iter(array.sharding.device_set))
    return LARGEST.get(device.platform, LARGEST["gpu"])
