"""Complex numbers: every rule on them is one of the rules for real numbers on their two parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._rules import _complex_contractions  # noqa: F401  it registers its rule
from qrjax._rules._complex_parts import (
    OWN,
    applied,
    negative,
    own,
    product,
    real_dtype,
    real_equation,
    total,
    without_zeros,
)
from qrjax._rules._equations import Equation
from qrjax._rules._fourier import BACKWARD, fourier, still, still_apart
from qrjax._rules._moves import MOVES
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._registry import RULES, STRUCTURAL
from qrjax._rules._sampling import sample
from qrjax._rules._vectors import by_place
from qrjax._signals._complexes import ComplexSignal, halves, is_zero, joined, unit_of
from qrjax._signals._signal import Signal

# What acts on both parts alike.
ALIKE = MOVES | {
    "add", "add_any", "copy", "copy_p", "cumsum", "device_put", "name", "neg", "optimization_barrier", "pvary",
    "reduce_precision", "reduce_sum", "reduce_window_sum", "scatter", "scatter-add", "scatter_add",
    "select_if_vmap", "select_n", "sharding_constraint", "stop_gradient", "sub", COMPILED_ONCE,
}  # fmt: skip


# What the wave of frequency 0 may have more, of all energy, than its profiles along each axis say.
CROWDED = 0.02


def is_complex(equation: Equation, values: Sequence[Value]) -> bool:
    """Whether complex numbers that are not all known come in or go out."""
    if all(isinstance(v, Known) for v in values):
        return False
    if any(getattr(o.dtype, "kind", "") == "c" for o in equation.outputs):
        return True
    return any(isinstance(v, ComplexSignal) or (isinstance(v, Known) and v.array.dtype.kind == "c") for v in values)


def complex_rule(equation: Equation, values: Sequence[Value]) -> list[Value]:
    """The outputs."""
    if any(isinstance(v, Opaque) for v in values):
        return [Opaque(tuple(o.shape)) for o in equation.outputs]
    signals = list(map(described, values))
    if equation.name in OWN:
        found: list[Value] = [OWN[equation.name](equation, *signals)]
    else:
        found = _alike(equation, values) if equation.name in ALIKE else sample(equation, *values)
    unit = _unit(equation, signals)
    return [dataclasses.replace(z, unit=unit) if isinstance(z, ComplexSignal) else z for z in found]


def _unit(equation: Equation, signals: Sequence[Signal]) -> float:
    """What waves are measured by: transforms, and factors that all have in common, change it."""
    units = [unit_of(z) for z in signals]
    if equation.name == "fft":
        n = math.prod(equation.params["fft_lengths"])
        return units[0] / n if int(equation.params["fft_type"]) == BACKWARD else units[0] * n
    if equation.name not in ("mul", "div", "dot_general"):
        return max(units, default=1.0)
    common = [z.second_moment if z.is_constant and u == 1 else u for z, u in zip(signals, units, strict=True)]
    if all(u == 1 for u in units) or not all(common):
        return 1.0
    return common[0] / common[1] if equation.name == "div" else common[0] * common[1]


# -- the parts ----------------------------------------------------------------------------------------------------


def _part(value: Value, which: str) -> Value:
    if isinstance(value, ComplexSignal):
        found: Signal = getattr(value, which)
        return found
    if isinstance(value, Known) and value.array.dtype.kind == "c":
        return Known(np.ascontiguousarray(getattr(value.array, {"re": "real", "im": "imag"}[which])))
    return value


def _alike(equation: Equation, values: Sequence[Value]) -> list[Value]:
    rule = STRUCTURAL.get(equation.name) or RULES.get(equation.name) or sample
    inner = real_equation(equation)
    results = []
    for which in ("re", "im"):
        parts = [_part(v, which) for v in values]
        if rule in RULES.values():
            parts = [described(p) for p in parts]
        found: Any = None
        if equation.name in ("add", "add_any", "sub"):
            found = without_zeros(inner, *map(described, parts))
        if found is None:
            found = rule(inner, *parts)
        results.append(list(found) if isinstance(found, (list, tuple)) else [found])
    return [
        joined(described(re), described(im), output.dtype)
        for re, im, output in zip(*results, equation.outputs, strict=True)
    ]


# -- the rules ----------------------------------------------------------------------------------------------------


@own("complex")
def make(equation: Equation, re: Signal, im: Signal) -> Signal:
    """Two parts."""
    return joined(re, im, equation.dtype)


@own("real")
def real(_equation: Equation, x: Signal) -> Signal:
    """The real part."""
    return halves(x)[0]


@own("imag")
def imag(_equation: Equation, x: Signal) -> Signal:
    """The imaginary part."""
    return halves(x)[1]


@own("conj")
def conj(equation: Equation, x: Signal) -> Signal:
    """The imaginary part turned round."""
    re, im = halves(x)
    return joined(re, negative(equation, im), equation.dtype, getattr(x, "modulus", None))


@own("convert_element_type")
def convert(equation: Equation, x: Signal) -> Signal:
    """To complex numbers, or between their precisions."""
    re, im = halves(x)
    kept = [dataclasses.replace(part, dtype=np.dtype(real_dtype(equation.dtype))) for part in (re, im)]
    return joined(kept[0], kept[1], equation.dtype, getattr(x, "modulus", None))


@own("abs")
def modulus(equation: Equation, x: Signal) -> Signal:
    """The root of the sum of squares."""
    assert isinstance(x, ComplexSignal)
    if x.modulus is not None:
        return x.modulus
    squares = [applied(equation, "square", part) for part in (x.re, x.im) if not is_zero(part)]
    if len(squares) < 2:
        return applied(equation, "abs", x.re if is_zero(x.im) else x.im)
    return applied(equation, "sqrt", applied(equation, "add", *squares))


@own("exp")
def exp(equation: Equation, x: Signal) -> Signal:
    """In polar form: the real part makes the modulus, the imaginary part the phase."""
    re, im = halves(x)
    size = applied(equation, "exp", re)
    parts = [product(equation, size, applied(equation, name, im)) for name in ("cos", "sin")]
    return joined(parts[0], parts[1], equation.dtype, size)


@own("log")
def log(equation: Equation, x: Signal) -> Signal:
    """The logarithm of the modulus, and the phase."""
    re, im = halves(x)
    size = x.modulus if isinstance(x, ComplexSignal) and x.modulus is not None else modulus(equation, x)
    return joined(applied(equation, "log", size), applied(equation, "atan2", im, re), equation.dtype)


@own("mul")
def mul(equation: Equation, x: Signal, y: Signal) -> Signal:
    """(a + bi)(c + di)."""
    placed = by_place(x, y, equation.shape, equation.dtype)
    if placed is not None:
        return placed
    (a, b), (c, d) = halves(x), halves(y)
    if _same(a, c) and _same(b, d, -1.0) and not is_zero(b):
        whole = applied(equation, "square", modulus(equation, x))
        return joined(whole, Signal.constant(0.0, equation.shape, whole.dtype), equation.dtype, whole)
    re = total(equation, product(equation, a, c), product(equation, b, d), "sub")
    if _same(a, c) and _same(b, d):
        im = product(equation, product(equation, a, b), Signal.constant(2.0, equation.shape, a.dtype))
    else:
        im = total(equation, product(equation, a, d), product(equation, b, c))
    sizes = [z.modulus for z in (x, y) if isinstance(z, ComplexSignal) and z.modulus is not None]
    return joined(re, im, equation.dtype, applied(equation, "mul", *sizes) if len(sizes) == 2 else None)


def _same(x: Signal, y: Signal, sign: float = 1.0) -> bool:
    return x.source is y.source and bool(np.array_equal(x.values, sign * y.values))


@own("square")
def square(equation: Equation, x: Signal) -> Signal:
    """z z."""
    return mul(equation, x, x)


@own("integer_pow")
def integer_pow(equation: Equation, x: Signal) -> Signal:
    """In polar form, as products of products would forget that they are powers of one number."""
    exponent = int(equation.params["y"])
    if exponent == 2:
        return mul(equation, x, x)
    re, im = halves(x)
    size = applied(equation, "integer_pow", modulus(equation, x), y=exponent)
    angle = applied(equation, "mul", applied(equation, "atan2", im, re), Signal.constant(exponent, (), size.dtype))
    parts = [applied(equation, "mul", size, applied(equation, name, angle)) for name in ("cos", "sin")]
    return joined(parts[0], parts[1], equation.dtype, size)


@own("div")
def div(equation: Equation, x: Signal, y: Signal) -> Signal:
    """z conj(w) / |w|^2."""
    (a, b), (c, d) = halves(x), halves(y)
    if is_zero(d):
        return joined(applied(equation, "div", a, c), applied(equation, "div", b, c), equation.dtype)
    size = applied(equation, "square", modulus(equation, y))
    turned = mul(equation, x, joined(c, negative(equation, d), equation.dtype))
    re, im = (applied(equation, "div", part, size) for part in halves(turned))
    return joined(re, im, equation.dtype)


@own("fft")
def fft(equation: Equation, x: Signal) -> Signal:
    """Waves are sums of all elements: normal, with the energies that the correlations give them."""
    p = equation.params
    axes = tuple(range(x.ndim - len(p["fft_lengths"]), x.ndim))
    if not isinstance(x, ComplexSignal) or is_zero(x.im):
        real = halves(x)[0]
        if still(real, axes) - still_apart(real, axes) > CROWDED:
            equation.context.note("the mean's wave, along several axes: spread over the others of its rows and columns")
    return fourier(x, int(p["fft_type"]), tuple(p["fft_lengths"]), equation.shape, equation.dtype)
