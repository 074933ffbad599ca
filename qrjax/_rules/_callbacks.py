"""Calls of Python from within a program: the walk never makes them, as it has no arrays to give."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Opaque, Value
from qrjax._rules._registry import structural
from qrjax._signals._signal import Signal


@structural("pure_callback", "io_callback", "debug_callback", "debug_print")
def callback(equation: Equation, *values: Value) -> list[Value]:
    """What looks like an operand is taken for it, which is right for checks; other numbers as standard normal."""
    outputs = [_like(output, values) for output in equation.outputs]
    if outputs:
        equation.context.note(f"{equation.name}: what Python gives back is guessed by its shape")
    return outputs


def _like(output: Any, values: tuple[Value, ...]) -> Value:
    shape, dtype = tuple(output.shape), output.dtype
    for value in values:
        own = value.array.dtype if isinstance(value, Known) else getattr(value, "dtype", None)
        if value.shape == shape and own == dtype:
            return value
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        return Opaque(shape)
    numbers = jax.numpy.issubdtype(dtype, np.floating)
    return Signal.normal(shape, dtype=dtype) if numbers else Signal.constant(0.0, shape, dtype)
