"""A number as people have it: Python's, NumPy's, or an array of no axes."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import numpy as np


def real_number(value: Any) -> float:
    """A real number of any kind as Python's.

    Raises:
      TypeError: if it is none (neither is a truth value or a text), or traced.
    """
    if isinstance(value, (bool, str, bytes, jax.core.Tracer)) or _kind(value) in "bc" or np.shape(value) != ():
        raise TypeError(f"not a real number: {type(value).__name__}")
    try:
        return float(_here(value))
    except ValueError as error:
        raise TypeError(str(error)) from None
    except OverflowError:  # an integer beyond all floats
        return math.copysign(math.inf, 1 if value > 0 else -1)


def whole_number(value: Any) -> int:
    """An integer of any kind as Python's; not 2.0, which is a real number.

    Raises:
      TypeError: if it is none, or traced.
    """
    if isinstance(value, (bool, jax.core.Tracer)) or _kind(value) == "b":
        raise TypeError(f"not an integer: {type(value).__name__}")
    return operator.index(_here(value))


def _kind(value: Any) -> str:
    """NumPy's letter: "b" for truth values, "c" for complex numbers."""
    return str(getattr(getattr(value, "dtype", None), "kind", "-"))


def _here(value: Any) -> Any:
    # Asked for by name, so that a guard against transfers lets it pass.
    return jax.device_get(value) if isinstance(value, jax.Array) else value
