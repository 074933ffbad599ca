"""NumPy's forms of JAX's elementwise primitives, in the precision of their input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qrjax._signals._quadrature import NODES, erf, erfc, phi_inverse

Function = Callable[..., Any]


class Linear:
    """A sum with signs: combinations of normal signals stay normal."""

    def __init__(self, function: Function, linear: tuple[float, ...]):
        self.function, self.linear = function, linear

    def __call__(self, *arrays: Any) -> Any:
        return self.function(*arrays)


class Gate:
    """A choice between two cases by a truth value."""

    gate = True

    def __call__(self, which: Any, *cases: Any) -> Any:
        return _select(which, *cases)


class Product:
    """A product, whose first two moments are known for independent factors."""

    product = True

    def __call__(self, x: Any, y: Any) -> Any:
        return np.multiply(x, y)


def _divide(x: Any, y: Any) -> Any:
    if np.asarray(x).dtype.kind in "iu":
        safe = np.where(np.equal(y, 0), 1, y)
        return (np.sign(x) * np.sign(safe) * (np.abs(x) // np.abs(safe))).astype(np.asarray(x).dtype)
    return np.divide(x, y)


def _logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) == 2:
        which = np.asarray(which)
        if which.dtype == bool:
            return np.where(which, cases[1], cases[0])
        # Between 0 and 1 where a comparison turns within the cell of a node: a mean of both.
        turning = (which > 0) & (which < 1)
        chosen = np.where(which > 0.5, cases[1], cases[0])
        if not turning.any():
            return chosen
        part = which * np.nan_to_num(cases[1]) + (1 - which) * np.nan_to_num(cases[0])
        return np.where(turning, part, chosen)
    return np.select([np.round(which) == k for k in range(len(cases))], cases)


def _clamp(low: Any, x: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _compare(holds: Function, sign: int) -> Function:
    """A comparison; on the nodes, the share of each node's cell in which it holds."""

    def call(x: Any, y: Any) -> Any:
        x, y = np.asarray(x), np.asarray(y)
        if np.broadcast_shapes(x.shape, y.shape) != NODES.shape or "f" not in (x.dtype.kind, y.dtype.kind):
            return holds(x, y)
        difference = sign * (np.asarray(x, np.float64) - y)
        between = (difference[1:] + difference[:-1]) / 2
        edges = np.concatenate([difference[:1], between, difference[-1:]])
        left, right = edges[:-1], edges[1:]
        with np.errstate(all="ignore"):
            share = np.maximum(left, right) / np.abs(right - left)
        turns = (left > 0) != (right > 0)
        steady = np.abs(right - left) <= 0
        return np.where(turns & ~steady, np.clip(share, 0, 1), holds(x, y).astype(np.float64))

    return call


def _both(x: Any, y: Any) -> Any:
    return np.logical_and(x, y) if np.asarray(x).dtype == bool else np.bitwise_and(x, y)


def _not(x: Any) -> Any:
    array = np.asarray(x)
    return np.logical_not(array) if array.dtype == bool else np.invert(array)


def _identity(x: Any) -> Any:
    return x


SIMPLE: dict[str, Function] = {
    "add": Linear(np.add, (1.0, 1.0)),
    "add_any": Linear(np.add, (1.0, 1.0)),
    "sub": Linear(np.subtract, (1.0, -1.0)),
    "mul": Product(),
    "div": _divide,
    "rem": np.fmod,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "atan2": np.arctan2,
    "neg": np.negative,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "abs": np.abs,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "logistic": _logistic,
    "erf": erf,
    "erfc": erfc,
    "erf_inv": lambda x: phi_inverse((np.asarray(x, np.float64) + 1) / 2) / np.sqrt(2.0),
    "square": np.square,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": _compare(np.less, -1),
    "le": _compare(np.less_equal, -1),
    "gt": _compare(np.greater, 1),
    "ge": _compare(np.greater_equal, 1),
    "select_n": Gate(),
    "clamp": _clamp,
    "is_finite": np.isfinite,
    "nextafter": lambda x, _: x,
    "stop_gradient": _identity,
    "copy": _identity,
    "copy_p": _identity,
    "reduce_precision": _identity,
    "optimization_barrier": _identity,
    "sharding_constraint": _identity,
    "device_put": _identity,
    "pvary": _identity,
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "complex": lambda re, im: np.asarray(re) + 1j * np.asarray(im),
}

# These act on the bits, so they need their own integer types.
BITS: dict[str, Function] = {
    "and": _both,
    "or": lambda x, y: np.logical_or(x, y) if np.asarray(x).dtype == bool else np.bitwise_or(x, y),
    "xor": lambda x, y: np.logical_xor(x, y) if np.asarray(x).dtype == bool else np.bitwise_xor(x, y),
    "not": _not,
    "shift_left": np.left_shift,
    "shift_right_logical": np.right_shift,
    "shift_right_arithmetic": np.right_shift,
}

# On truth values, and on the shares of them that comparisons give.
LOGICAL: dict[str, Function] = {
    "and": lambda x, y: np.minimum(x, y),
    "or": lambda x, y: np.maximum(x, y),
    "xor": lambda x, y: np.abs(np.subtract(x, y, dtype=np.float64)),
    "not": lambda x: 1.0 - np.asarray(x, np.float64),
}

# Primitives that are elementwise, without a NumPy form: evaluated by JAX itself at the nodes.
BY_JAX = frozenset(
    {"lgamma", "digamma", "igamma", "igammac", "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta",
     "polygamma", "zeta", "population_count", "clz", "mulhi", "igamma_grad_a", "random_gamma_grad"}
)  # fmt: skip


def numpy_form(
    name: str, params: Mapping[str, Any], dtypes: list[np.dtype[Any]], out: np.dtype[Any]
) -> Function | None:
    """The function of float64 or native arrays that the primitive is, None without one."""
    if name in SIMPLE:
        return SIMPLE[name]
    if name in LOGICAL and all(dtype.kind == "b" for dtype in dtypes):
        return LOGICAL[name]
    if name in BITS:
        return _native(BITS[name], dtypes)
    if name == "integer_pow":
        return lambda x: np.asarray(x, np.float64 if np.asarray(x).dtype.kind == "f" else None) ** params["y"]
    if name == "convert_element_type":
        return _conversion(out)
    if name == "round":
        return np.round if int(params["rounding_method"]) == 1 else lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)
    if name == "bitcast_convert_type" and dtypes[0].itemsize == out.itemsize:
        return _native(lambda x: np.asarray(x).view(out), dtypes)
    return None


def _native(function: Function, dtypes: list[np.dtype[Any]]) -> Function:
    def call(*arrays: Any) -> Any:
        typed = [_cast(np.asarray(a), t) for a, t in zip(arrays, dtypes, strict=True)]
        return np.ascontiguousarray(function(*typed))

    return call


def _cast(array: Any, dtype: np.dtype[Any]) -> Any:
    if array.dtype == dtype:
        return array
    if dtype.kind == "b":
        return array > 0.5
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return np.clip(array, bounds.min, bounds.max).astype(dtype)
    return array.astype(dtype)


def _conversion(out: np.dtype[Any]) -> Function:
    if out.kind == "b":
        return lambda x: np.not_equal(x, 0) if np.shape(x) != NODES.shape else np.not_equal(x, 0).astype(np.float64)
    if out.kind in "iu":
        return np.trunc
    return _identity
