"""One equation on actual values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bind(equation: Any, values: Sequence[Any]) -> list[Any]:
    """The equation's outputs."""
    params = equation.primitive.get_bind_params(equation.params)
    # Older versions of JAX give functions apart from the other parameters.
    functions, params = params if isinstance(params, tuple) else ((), params)
    results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]
