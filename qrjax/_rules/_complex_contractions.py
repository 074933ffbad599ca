"""Contractions of complex numbers: four of their parts, which share the gain of a weight."""

from __future__ import annotations

import dataclasses
import math

from qrjax._rules._complex_parts import own, real_dtype, real_equation, total
from qrjax._rules._equations import Equation
from qrjax._rules._registry import RULES
from qrjax._signals._complexes import ComplexSignal, halves, is_zero, joined, unit_of
from qrjax._signals._signal import Signal, Source


@own("dot_general", "conv_general_dilated")
def contraction(equation: Equation, x: Signal, y: Signal) -> Signal:
    """Four contractions of the parts; with a weight all of them share its gain."""
    for weight, other, turned in ((y, x, False), (x, y, True)):
        if not equation.context.sizes(weight, other):
            continue
        if any(part.weight is not None for part in halves(weight)):
            return _weighted(equation, other, weight, turned)
        return _derived(equation, other, weight, turned)
    (a, b), (c, d) = halves(x), halves(y)
    return _bilinear(equation, (a, b), (c, d))


def _bilinear(equation: Equation, x: tuple[Signal, Signal], y: tuple[Signal, Signal]) -> ComplexSignal:
    inner = real_equation(equation)

    def one(p: Signal, q: Signal) -> Signal:
        if is_zero(p) or is_zero(q):
            return Signal.constant(0.0, equation.shape, real_dtype(equation.dtype))
        found = RULES[equation.name](inner, p, q)
        assert isinstance(found, Signal)
        return found

    re = total(equation, one(x[0], y[0]), one(x[1], y[1]), "sub")
    im = total(equation, one(x[0], y[1]), one(x[1], y[0]))
    return joined(re, im, equation.dtype)


def _derived(equation: Equation, x: Signal, weight: Signal, turned: bool) -> Signal:
    """The output of what is made of weights."""
    unit = unit_of(x)

    def made(drawn: Signal) -> Signal:
        operands = (halves(drawn), halves(x)) if turned else (halves(x), halves(drawn))
        return dataclasses.replace(_bilinear(equation, *operands), unit=unit)

    axes, fan = _summed(equation, weight, turned)
    return equation.context.contract(equation, x, weight, axes, fan, made)


def _weighted(equation: Equation, x: Signal, weight: Signal, turned: bool) -> Signal:
    """The output of a weight; `turned` says that the weight comes first."""
    parts = halves(weight)
    led = next(part for part in parts if part.weight is not None)
    assert led.weight is not None
    twofold = all(part.weight is not None for part in parts)
    partner = parts[1].weight
    if twofold and partner is not None:
        also = dict.fromkeys((*led.weight.also, partner.path, *partner.also))
        also.pop(led.weight.path, None)
        led = dataclasses.replace(led, weight=dataclasses.replace(led.weight, also=tuple(also)))

    unit = unit_of(x)
    if unit != 1:
        equation.context.note(f"of waves, whose target is {unit:.4g} times as large")

    def made(drawn: Signal) -> Signal:
        pair = tuple(_drawn_part(part, led, drawn, number) for number, part in enumerate(parts))
        operands = (pair, halves(x)) if turned else (halves(x), pair)
        return dataclasses.replace(_bilinear(equation, *operands), unit=unit)

    axes, fan = _summed(equation, led, turned)
    return equation.context.contract(equation, x, led, axes, fan, made)


def _drawn_part(part: Signal, led: Signal, unit: Signal, number: int) -> Signal:
    """One part of a weight as it is drawn: like `unit`, but of its own."""
    if part.weight is None:
        return part
    if unit.source is led.source:  # left as the module draws it, a signal like any other
        return dataclasses.replace(part, weight=None, recipe=None)
    assert led.weight is not None
    share = part.weight.factor / led.weight.factor
    fresh = unit if number == 0 or unit.source is None else dataclasses.replace(unit, source=Source())
    scaled = fresh.fresh(values=fresh.values * share, profiles=part.profiles)
    return dataclasses.replace(scaled, at=None)


def _summed(equation: Equation, weight: Signal, turned: bool) -> tuple[tuple[int, ...], float]:
    """The axes of the weight that are summed over, and how many products are."""
    if equation.name == "dot_general":
        contract = equation.params["dimension_numbers"][0]
        axes = tuple(contract[0 if turned else 1])
        return axes, float(math.prod(weight.shape[a] for a in axes))
    axes = tuple(equation.params["dimension_numbers"].rhs_spec[1:])
    return axes, float(math.prod(weight.shape[a] for a in axes))
