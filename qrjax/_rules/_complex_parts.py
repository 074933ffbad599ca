"""The parts of complex numbers, and real rules for them; the rules of complex numbers are registered here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._registry import RULES
from qrjax._signals._complexes import is_zero
from qrjax._signals._signal import Signal

Rule = TypeVar("Rule", bound=Callable[..., Signal])
OWN: dict[str, Callable[..., Signal]] = {}


def own(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *signals) for complex numbers."""

    def register(rule: Rule) -> Rule:
        OWN.update(dict.fromkeys(names, rule))
        return rule

    return register


def real_equation(equation: Equation, name: str | None = None, **params: Any) -> Equation:
    """The equation for one part."""
    outputs = [jax.ShapeDtypeStruct(tuple(o.shape), real_dtype(o.dtype)) for o in equation.outputs]
    evaluate = _evaluated_by_part(equation)
    inner = dataclasses.replace(equation, outputs=outputs, evaluate=evaluate)
    return dataclasses.replace(inner, name=name, params=params) if name else inner


def real_dtype(dtype: Any) -> Any:
    """Of the parts."""
    return np.zeros((), dtype).real.dtype if np.dtype(dtype).kind == "c" else dtype


def _evaluated_by_part(equation: Equation) -> Callable[..., list[Any]]:
    """The primitive with complex arrays in the place of the real ones of a part."""

    def evaluate(*arrays: Any) -> list[Any]:
        wide = [np.asarray(a).astype(equation.dtype) if np.asarray(a).dtype.kind == "f" else a for a in arrays]
        return [np.real(r) for r in equation.evaluate(*wide)]

    return evaluate


def without_zeros(equation: Equation, x: Signal, y: Signal) -> Signal | None:
    """A sum with a zero is the other term, which stays what it is, a weight say."""
    if is_zero(y) and x.shape == equation.shape:
        return x
    if is_zero(x) and y.shape == equation.shape:
        return y if equation.name != "sub" else negative(equation, y)
    return None


def applied(equation: Equation, name: str, *operands: Signal, **params: Any) -> Signal:
    """An elementwise function of real signals, by its own rule."""
    found = RULES[name](real_equation(equation, name, **params), *operands)
    assert isinstance(found, Signal)
    return found


def negative(equation: Equation, x: Signal) -> Signal:
    """-x."""
    return x if is_zero(x) else applied(equation, "neg", x)


def product(equation: Equation, x: Signal, y: Signal) -> Signal:
    """x y, where ones and zeros leave the other what it is."""
    for a, b in ((x, y), (y, x)):
        if is_zero(a):
            return Signal.constant(0.0, equation.shape, real_dtype(equation.dtype))
        if a.is_constant and abs(a.mean) == 1 and b.shape == equation.shape:
            return b if a.mean == 1 else negative(equation, b)
    return applied(equation, "mul", x, y)


def total(equation: Equation, x: Signal, y: Signal, name: str = "add") -> Signal:
    """x + y, or x - y."""
    found = without_zeros(real_equation(equation, name), x, y)
    return applied(equation, name, x, y) if found is None else found
