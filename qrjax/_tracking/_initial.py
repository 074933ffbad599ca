"""Initial values, laid out over devices as the trained ones are."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._records._origins import Constant, Drawn
from qrjax._tracking._chunks import is_spread, on_device_of
from qrjax._tracking._pairs import Pair, depth


def is_computed(pair: Pair) -> bool:
    """Whether a part of the initial values costs no more than that part."""
    return isinstance(pair.origin, (Drawn, Constant))


def initial_like(pair: Pair) -> Any:
    """All initial values, where the trained ones lie; NumPy's where those are."""
    like = pair.array
    if not isinstance(like, jax.Array):
        return np.asarray(pair.origin.array())
    if not is_computed(pair):
        # Not jitted, which changes the bits of JAX's own builders.
        return jax.device_put(pair.origin.array(), like.sharding)
    if is_spread(like):
        return jax.make_array_from_callback(like.shape, like.sharding, lambda index: _region(pair, index or ()))
    with on_device_of(like):
        return pair.origin.array()


def _region(pair: Pair, index: tuple[slice, ...]) -> Array:
    """The values at a box, layer by layer."""
    spans = [range(*s.indices(n)) for s, n in zip(index, pair.leaf.shape, strict=True)]
    front, extent = depth(pair.origin), tuple(map(len, spans))
    starts = [span.start for span in spans[front:]]
    one = (*[1] * front, *extent[front:])
    boxes = [pair.origin.box((*layer, *starts), one) for layer in itertools.product(*spans[:front])]
    return boxes[0] if len(boxes) == 1 else jnp.concatenate(boxes).reshape(extent)
