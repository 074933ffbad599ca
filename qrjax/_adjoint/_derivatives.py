"""Derivatives of JAX's elementwise primitives by each operand, as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from qrjax._signals._quadrature import erf, phi_inverse

Function = Callable[..., Any]
# Of what does not change with its operand, or only in jumps.
FLAT = frozenset(
    {"sign", "floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "stop_gradient", "and", "or",
     "xor", "not", "shift_left", "shift_right_logical", "shift_right_arithmetic", "population_count", "clz", "argmax",
     "bitcast_convert_type", "nextafter", "mulhi"}
)  # fmt: skip
# What hands its operands on.
SAME = frozenset({"convert_element_type", "copy", "copy_p", "reduce_precision", "optimization_barrier",
                  "sharding_constraint", "device_put", "pvary"})  # fmt: skip
SUMS: Mapping[str, tuple[float, ...]] = {
    "add": (1.0, 1.0), "add_any": (1.0, 1.0), "sub": (1.0, -1.0), "neg": (-1.0,),
}  # fmt: skip
ROOT_PI = float(np.sqrt(np.pi))


def _first_larger(x: Any, y: Any) -> Any:
    return np.where(np.equal(x, y), 0.5, np.greater(x, y).astype(np.float64))


def _logistic(x: Any) -> Any:
    return 0.25 / np.cosh(0.5 * x) ** 2


def _inside(low: Any, x: Any, high: Any) -> Any:
    return np.logical_and(np.greater_equal(x, low), np.less_equal(x, high)).astype(np.float64)


def _inverse_error(x: Any) -> Any:
    root = phi_inverse((np.asarray(x, np.float64) + 1) / 2) / np.sqrt(2.0)
    # The table's root to float64, by Newton's rule, as the exponential magnifies what it lacks.
    for _ in range(2):
        root = root - (erf(root) - x) * ROOT_PI / 2 * np.exp(root**2)
    return ROOT_PI / 2 * np.exp(root**2)


# Of which operands it is a function.
PLACES: dict[str, tuple[tuple[int, ...], ...]] = {
    "mul": ((1,), (0,)),
    "div": ((1,), (0, 1)),
    "select_n": ((), *((0,),) * 64),
}
# One function of these operands for each operand.
BY_OPERAND: dict[str, tuple[Function | float | None, ...]] = {
    "mul": (lambda y: y, lambda x: x),
    "div": (lambda y: 1 / np.asarray(y, np.float64), lambda x, y: -x / np.asarray(y, np.float64) ** 2),
    "rem": (1.0, lambda x, y: -np.trunc(x / y)),
    "pow": (lambda x, y: y * np.power(x, y - 1.0), lambda x, y: np.power(x, y) * np.log(np.maximum(x, 1e-300))),
    "max": (_first_larger, lambda x, y: _first_larger(y, x)),
    "min": (lambda x, y: _first_larger(y, x), _first_larger),
    "atan2": (lambda x, y: y / (x * x + y * y), lambda x, y: -x / (x * x + y * y)),
    "abs": (np.sign,),
    "exp": (np.exp,),
    "exp2": (lambda x: np.log(2.0) * np.exp2(x),),
    "expm1": (np.exp,),
    "log": (lambda x: 1 / np.asarray(x, np.float64),),
    "log1p": (lambda x: 1 / (1 + np.asarray(x, np.float64)),),
    "sqrt": (lambda x: 0.5 / np.sqrt(x),),
    "rsqrt": (lambda x: -0.5 * np.asarray(x, np.float64) ** -1.5,),
    "cbrt": (lambda x: 1 / (3 * np.cbrt(x) ** 2),),
    "tanh": (lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2,),
    "sin": (np.cos,),
    "cos": (lambda x: -np.sin(x),),
    "tan": (lambda x: 1 / np.cos(x) ** 2,),
    "asin": (lambda x: 1 / np.sqrt(1 - np.square(x)),),
    "acos": (lambda x: -1 / np.sqrt(1 - np.square(x)),),
    "atan": (lambda x: 1 / (1 + np.square(x)),),
    "sinh": (np.cosh,),
    "cosh": (np.sinh,),
    "asinh": (lambda x: 1 / np.sqrt(1 + np.square(x)),),
    "acosh": (lambda x: 1 / np.sqrt(np.square(x) - 1),),
    "atanh": (lambda x: 1 / (1 - np.square(x)),),
    "logistic": (_logistic,),
    "erf": (lambda x: 2 / ROOT_PI * np.exp(-np.square(x)),),
    "erfc": (lambda x: -2 / ROOT_PI * np.exp(-np.square(x)),),
    "erf_inv": (_inverse_error,),
    "square": (lambda x: 2.0 * x,),
    "clamp": (None, _inside, None),
}


def places(name: str, operands: int, place: int) -> tuple[int, ...]:
    """The operands that the derivative by one of them is a function of."""
    if name == "select_n":
        return (0,)
    return PLACES[name][place] if name in PLACES else tuple(range(operands))


def derivative(name: str, params: Mapping[str, Any], operands: int, place: int, evaluate: Any) -> Any:
    """The derivative by one operand: a number, a function of the arrays at `places`, or None where it is zero."""
    if name in FLAT:
        return None
    if name in SAME:
        return 1.0
    if name in SUMS:
        return SUMS[name][place]
    if name in BY_OPERAND:
        return BY_OPERAND[name][place]
    if name == "integer_pow":
        power = params["y"]
        return lambda x: power * np.asarray(x, np.float64) ** (power - 1)
    if name == "select_n":
        return _chosen(operands, place)
    return _by_jax(evaluate, place)


def _chosen(operands: int, place: int) -> Any:
    """Whether a case is the chosen one; in between where a comparison turns within a node's cell."""
    if place == 0:
        return None

    def call(which: Any, *_: Any) -> Any:
        share = np.asarray(which, np.float64)
        if operands == 3:
            return share if place == 2 else 1 - share
        return (np.round(share) == place - 1).astype(np.float64)

    return call


def _by_jax(evaluate: Any, place: int) -> Any:
    def call(*arrays: Any) -> Any:
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        typed = [jax.numpy.asarray(np.broadcast_to(a, shape), np.float32) for a in arrays]
        with jax.ensure_compile_time_eval():
            tangents = [jax.numpy.ones_like(a) if i == place else jax.numpy.zeros_like(a) for i, a in enumerate(typed)]
            return np.asarray(jax.jvp(evaluate, typed, tangents)[1], np.float64)

    return call
