"""What pictures are made of, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from qrjax._terminal._received import received

Floats = NDArray[np.float64]


def real(label: str, values: Any) -> Floats:
    """The values as an array of float64.

    Raises:
      TypeError: if they are not real numbers, or no array of one shape.
    """
    try:
        found = np.asarray(values)
        numeric = jnp.issubdtype(found.dtype, jnp.floating) or jnp.issubdtype(found.dtype, jnp.integer)
    except (TypeError, ValueError):
        numeric = False
    if not numeric:
        raise TypeError(f"{label} must be an array of real numbers, got {received(values)}")
    return found.astype(np.float64)


def matrix(label: str, weights: Any) -> Floats:
    """The weights with a column for every entry of their last axis, an output, and a row for every input of one.

    Raises:
      TypeError: if they are not real numbers.
      ValueError: if they have fewer than two axes or none are there, or one is NaN or infinite.
    """
    found = real(label, weights)
    if found.ndim < 2:
        raise ValueError(f"{label} must have two axes or more, got the shape {found.shape}; a kernel has")
    if not found.size:
        raise ValueError(f"{label} holds no weights, got the shape {found.shape}; give every axis a length above 0")
    broken = found.size - int(np.isfinite(found).sum())
    if broken:
        raise ValueError(
            f"{label} must be finite, got {broken:,} NaN or infinite of {found.size:,}; numpy.nan_to_num replaces them"
        )
    return found.reshape(-1, found.shape[-1])


def named(name: str, given: Any, example: str) -> dict[str, Any]:
    """What a mapping of names holds.

    Raises:
      TypeError: if it is no mapping, or a name no string.
      ValueError: if it is empty.
    """
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"`{name}` must map names to arrays, got {received(given)}; for example {example}")
    if not given:
        raise ValueError(f"`{name}` is empty; pass at least one name, for example {example}")
    return dict(given)
