"""Arrays whose shards lie in several processes, none of which holds all."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def is_shared(array: Any) -> bool:
    """Whether a part of an array is out of this process's reach; a traced one does not say."""
    return isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer) and not array.is_fully_addressable


def gathered(array: Any) -> np.ndarray:
    """An array, small enough for it, as NumPy's in every process."""
    if is_shared(array) and not array.is_fully_replicated:
        from jax.experimental import multihost_utils

        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def from_all(own: np.ndarray) -> np.ndarray:
    """What each process has of float64, stacked, bit for bit."""
    from jax.experimental import multihost_utils

    # As words, since float64 does not pass without x64, and its range is not float32's.
    words = multihost_utils.process_allgather(np.ascontiguousarray(own, np.float64).view(np.uint32))
    return np.ascontiguousarray(words).view(np.float64)
