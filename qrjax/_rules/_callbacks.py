"""Calls of Python from within a program: the walk never makes them, as it has no arrays to give."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Opaque, Value
from qrjax._rules._registry import structural
from qrjax._signals._signal import Signal

# How a note begins that is a finding too.
GUESSED = "guessed"


@structural("pure_callback", "io_callback", "debug_callback", "debug_print")
def callback(equation: Equation, *values: Value) -> list[Value]:
    """What looks like an operand is taken for it, which is right for checks; other numbers as standard normal."""
    outputs: list[Value] = []
    for output in equation.outputs:
        like = _like(output, values)
        outputs.append(_unlike(output) if like is None else like)
        taken = "standard normal, or zeros of integers" if like is None else "the operand of the same shape"
        equation.context.note(f"{GUESSED}: what Python gives back from {equation.name} is taken for {taken}")
    return outputs


def _like(output: Any, values: tuple[Value, ...]) -> Value | None:
    """The operand that an output looks like."""
    for value in values:
        own = value.array.dtype if isinstance(value, Known) else getattr(value, "dtype", None)
        if value.shape == tuple(output.shape) and own == output.dtype:
            return value
    return None


def _unlike(output: Any) -> Value:
    shape, dtype = tuple(output.shape), output.dtype
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        return Opaque(shape)
    numbers = jax.numpy.issubdtype(dtype, np.floating)
    return Signal.normal(shape, dtype=dtype) if numbers else Signal.constant(0.0, shape, dtype)
