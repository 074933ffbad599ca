"""One equation on actual values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Equation
from qrjax._rules._functions import numpy_form
from qrjax._rules._operands import KNOWN_SIZE, Known, Value


def bind(equation: Any, values: Sequence[Any]) -> list[Any]:
    """The equation's outputs."""
    params = equation.primitive.get_bind_params(equation.params)
    # Older versions of JAX give functions apart from the other parameters.
    functions, params = params if isinstance(params, tuple) else ((), params)
    results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def evaluation(equation: Any) -> Callable[..., list[NDArray[Any]]]:
    """The equation as a function of arrays, also within a program that is being traced.

    By NumPy where it has the same function: JAX compiles one for each shape, which takes longer than a walk.
    """

    def evaluate(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        first = equation.outvars[0].aval.dtype
        function = numpy_form(equation.primitive.name, equation.params, [a.dtype for a in arrays], first)
        if function is not None and len(equation.outvars) == 1:
            with np.errstate(all="ignore"):
                return [np.asarray(function(*arrays)).astype(first)]
        with jax.ensure_compile_time_eval():
            return [np.asarray(r) for r in bind(equation, [jax.numpy.asarray(a) for a in arrays])]

    return evaluate


def known_outputs(equation: Equation, values: Sequence[Value]) -> list[Value] | None:
    """The outputs as arrays, where every input is one and none is large."""
    sizes = [math.prod(o.shape) for o in equation.outputs]
    if max(sizes, default=0) > KNOWN_SIZE or not all(isinstance(v, Known) for v in values):
        return None
    arrays = [v.array for v in values if isinstance(v, Known)]
    random = any(v.random for v in values if isinstance(v, Known))
    if sum(a.size for a in arrays) > 4 * KNOWN_SIZE:
        return None
    return [Known(array, random=random) for array in equation.evaluate(*arrays)]
