"""Runs of points: where they begin, checked once for all who ask for one."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from qrjax._terminal._received import received

POINTS = 2**32


def start_of(name: str, value: Any, count: int, where: str, size: str = "size") -> int | Array:
    """The first of `count` points, as an int where it is static; a traced one is a scalar.

    Raises:
      TypeError: if it is no integer, or no scalar.
      ValueError: if it is static, and negative or so large that points beyond the last are asked for.
    """
    if isinstance(value, jax.core.Tracer):
        if not jnp.issubdtype(value.dtype, jnp.integer) or value.shape != ():
            raise TypeError(f"`{name}` must be an integer, got a traced {value.dtype} of shape {value.shape}")
        return value
    try:
        start = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {received(value)}") from None
    if not 0 <= start <= POINTS - count:
        raise ValueError(f"`{name}` must be in [0, 2**32 - {size}], got {start} {where}")
    return start
