"""One equation on actual values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from qrjax._rules._functions import numpy_form


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
