"""Control flow: calls, scans, loops and branches are walked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._initializers._specification import LABEL, Specification
from qrjax._rules._equations import Equation
from qrjax._rules._filters import filtered, step
from qrjax._rules._operands import Known, Opaque, Value, derived, described, tagged
from qrjax._rules._parts import moved, part, without
from qrjax._rules._passages import Choice, Stack, Step
from qrjax._rules._registry import structural
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal, halves, joined
from qrjax._signals._mixtures import chosen, stacked
from qrjax._signals._places import alike
from qrjax._signals._quadrature import CDF, WEIGHTS, Floats
from qrjax._signals._recipe import NOISE
from qrjax._signals._signal import Signal
from qrjax._values._distributions import Uniform

# A recurrence is walked until its carry's moments repeat to this, at least so often, at most so often.
STEADY = 5e-4
LEAST, MOST = 4, 256
# Of what is computed on a sample of places, moments wander by this much.
STEADY_SAMPLE = 6e-3
# The last step is compared with so many before it.
REMEMBERED = 8
# Known inputs of this many steps at most are taken step by step.
UNROLLED = 512
# Loops without a settled state end after about so many equations; where their length is not known, after so many
# equations or steps.
BUDGET = 12_000
ASSUMED, ASSUMED_EQUATIONS = 64, 5_000
# The two programs of a loop, where a place in the program must tell them apart.
CONDITION, BODY = 0, 1

CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call",
         "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin", "xla_call", "named_call")  # fmt: skip


@structural(*CALLS)
def call(equation: Equation, *values: Value) -> list[Value]:
    """A call is its body."""
    p = equation.params
    drawn = _initializer(equation)
    if drawn is not None:
        return [dataclasses.replace(drawn, recipe=NOISE)]
    return equation.context.walk(program_of(p), values)


def program_of(params: Mapping[str, Any]) -> Any:
    """The program that a call's parameters hold, None if they hold none."""
    return next((params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in params), None)


def _initializer(equation: Equation) -> Signal | None:
    """The law that one of our own initializers declares, whose integers would say nothing here."""
    if equation.params.get("name") != "_fill":
        return None
    for inner in reversed(equation.params["jaxpr"].jaxpr.eqns):
        if inner.primitive.name == "name" and inner.params["name"].startswith(LABEL):
            drawn = Specification.from_label(inner.params["name"])
            law = Signal.normal(
                equation.shape, drawn.mean, drawn.stddev**2, equation.dtype, _ties(equation.shape, drawn)
            )
            if isinstance(drawn.distribution, Uniform) and not law.is_constant:
                return law.fresh(values=drawn.mean + drawn.stddev * math.sqrt(12) * (CDF - 0.5))
            return law
    return None


def _ties(shape: tuple[int, ...], drawn: Specification) -> Floats:
    """Weights are independent, but for those of a neuron whose sum is zero."""
    rho = _tables.independent(shape)
    stacked = len(shape) - len(drawn.shape)
    axes = [axis + stacked for axis in drawn.scaling.inputs]
    fan = math.prod(shape[axis] for axis in axes)
    if drawn.zero_sum and fan > 1:
        for pattern in np.ndindex(rho.shape):
            if any(pattern) and not any(p for axis, p in enumerate(pattern) if axis not in axes):
                rho[pattern] = -1 / (fan - 1)
    return rho


def scan_counts(body: Any, operands: Sequence[Any], results: Sequence[Any]) -> tuple[int, int]:
    """How many operands of a scan are constants and how many are carried; the others are taken step by step.

    JAX 0.10 has parameters that say so and JAX 0.11 others. The shapes say it too: what is not taken or given step
    by step has no axis more than in the body.
    """
    whole = sum(len(o.shape) == len(inner.shape) for o, inner in zip(operands, body.in_avals, strict=True))
    carried = sum(len(r.shape) == len(inner.shape) for r, inner in zip(results, body.out_avals, strict=True))
    return whole - carried, carried


@structural("scan")
def scan(equation: Equation, *values: Value) -> list[Value]:
    """Layers are walked one by one; steps in time until they repeat themselves."""
    p = equation.params
    consts, carried = scan_counts(p["jaxpr"], values, equation.outputs)
    constants, carry, inputs = (
        list(values[:consts]),
        list(values[consts : consts + carried]),
        values[consts + carried :],
    )
    length = int(p["length"])
    if length == 0:
        empty = equation.outputs[carried:]
        return carry + [Signal.constant(0.0, tuple(o.shape), o.dtype) for o in empty]
    layered = any(_is_layered(equation, v) for v in inputs)
    by_step = layered or _is_short(inputs, length)
    order = range(length - 1, -1, -1) if p["reverse"] else range(length)
    outputs: list[list[Value]] = []
    counts: list[int] = []

    def walked(done: int, by_step: bool, rest: int) -> list[Value]:
        i = order[done]

        def once() -> list[Value]:
            given = [step(v, _taken(equation, v, i, by_step), done) for v in inputs]
            for whole, one in zip(inputs, given, strict=True):
                equation.context.passed(Step(whole, one, i))
            return equation.context.walk(
                p["jaxpr"], [*constants, *carry, *given], ("layer" if layered else "time", i, rest)
            )

        results = equation.context.repeated(rest, carry, once)
        outputs.append(results[carried:])
        counts.append(rest)
        return results[:carried]

    for done in range(length):
        rest = length - done if not by_step and done == MOST - 1 else 1
        following = walked(done, by_step, rest)
        settled = not by_step and done + 1 >= LEAST and _repeats(carry, following)
        carry = following
        if rest > 1:
            break
        if settled and done + 1 < length:
            # The steps that remain are like this one: walked once more, to be counted as often as they occur.
            carry = walked(done + 1, False, length - done - 1)
            break
    emitted = [[o[k] for o in outputs] for k in range(len(equation.outputs) - carried)]
    stacks = [_stack(steps, counts, length, p["reverse"]) for steps in emitted]
    for steps, whole in zip(emitted, stacks, strict=True):
        equation.context.passed(Stack(steps, counts, whole, p["reverse"]))
    return carry + stacks


def _is_short(inputs: Sequence[Value], length: int) -> bool:
    """Whether a recurrence is walked to its end: a few steps, or as many as known numbers say one by one."""
    numbered = any(isinstance(v, Known) and len(v.shape) == 1 for v in inputs)
    return length <= LEAST or (numbered and length <= UNROLLED)


def _is_layered(equation: Equation, value: Value) -> bool:
    """Whether the steps are layers: each has a parameter of its own, or a function of one."""
    if not isinstance(value, Signal) or value.weight is not None:
        return isinstance(value, Signal)
    return equation.context.layer(value, lambda v: _slice(v, 0, keep_known=True)) is not None


def _taken(equation: Equation, value: Value, i: int, keep_known: bool) -> Value:
    """What a step is given of an array; of a function of stacked parameters the function of one layer."""
    found = equation.context.layer(value, lambda v: _slice(v, i, keep_known=True))
    return _slice(value, i, keep_known) if found is None else found


def _slice(value: Value, i: int, keep_known: bool) -> Value:
    shape = value.shape[1:]
    if isinstance(value, Opaque):
        return Opaque(shape)
    if isinstance(value, Known):
        if keep_known:
            return dataclasses.replace(value, array=value.array[i])
        value = value.signal
    if isinstance(value, ComplexSignal):
        halved = value.each(lambda half: described(_slice(half, i, keep_known)))
        return dataclasses.replace(halved, recipe=derived([value], lambda whole: [_slice(whole, i, keep_known)]))
    sliced = part(value, (1, *shape), ("slice", ((0, i, i + 1, 1),)), (0,), {0: (i,)})
    one = without(sliced, [0], moved(sliced, shape, _tables.dropped(sliced.rho, [0]), tuple(range(1, sliced.ndim))))
    if one.weight is not None:
        return tagged(one)
    return dataclasses.replace(one, recipe=derived([value], lambda whole: [_slice(whole, i, keep_known)]))


def _repeats(before: Sequence[Value], after: Sequence[Value]) -> bool:
    for a, b in zip(before, after, strict=True):
        if isinstance(a, Opaque) or isinstance(b, Opaque):
            continue
        x, y = described(a), described(b)
        scale = max(x.second_moment, y.second_moment, 1e-30)
        sampled = y.source is not None and y.source.formula is not None and not y.source.formula.normal
        steady = STEADY_SAMPLE if sampled else STEADY
        if abs(x.variance - y.variance) > steady * scale or abs(x.mean - y.mean) > steady * math.sqrt(scale):
            if x.dtype.kind in "iu":  # a counter does not settle, and need not
                continue
            return False
    return True


def _stack(steps: Sequence[Value], counts: Sequence[int], length: int, reverse: bool) -> Value:
    if any(isinstance(s, Opaque) for s in steps):
        return Opaque((length, *steps[0].shape))
    if all(isinstance(s, Known) for s in steps) and len(steps) == length:
        arrays = [s.array for s in steps if isinstance(s, Known)]
        told = (
            any(s.data for s in steps if isinstance(s, Known)),
            any(s.random for s in steps if isinstance(s, Known)),
        )
        return Known(np.stack(arrays[::-1] if reverse else arrays), *told)
    parts = [described(s) for s in steps]
    if any(isinstance(p, ComplexSignal) for p in parts):
        both = _by_part(parts, lambda found: _stack(found, counts, length, reverse))
        both = filtered(both, parts, length)
        return dataclasses.replace(both, recipe=derived(steps, lambda *o: [_stack(o, counts, length, reverse)]))
    made = filtered(stacked(parts, counts, _far(parts[-1]), _lags(parts)), parts, length)
    recipe = derived(steps, lambda *others: [_stack(others, counts, length, reverse)])
    return dataclasses.replace(made, recipe=recipe)


def _lags(steps: Sequence[Signal]) -> list[float]:
    """How alike the last step is to those before it, the nearest first."""
    found: list[float] = []
    # The first steps of all are not like any later ones.
    for earlier in reversed(steps[-1 - min(REMEMBERED, len(steps) // 2) : -1]):
        if steps[-1].source is None or earlier.source is None:
            break
        found.append(alike(steps[-1].source, earlier.source))
    return found


def _by_part(values: Sequence[Signal], function: Callable[[Sequence[Signal]], Value]) -> Signal:
    """A function of several complex signals that acts on both parts alike."""
    re, im = (described(function([halves(v)[k] for v in values])) for k in (0, 1))
    return joined(re, im, next(v.dtype for v in values if isinstance(v, ComplexSignal)))


def _far(x: Signal) -> Any:
    """Two steps far apart are as alike as two examples of a batch: the weights are all that they share."""
    if x.ndim == 0 or x.shape[0] == 1:
        return np.minimum(x.rho, 0.0)
    table = x.rho.copy()
    table[0] = x.rho[1]
    return table


@structural("while")
def while_loop(equation: Equation, *values: Value) -> list[Value]:
    """A loop is walked as often as its condition holds: where that is known, else as far as its laws tell."""
    p = equation.params
    a, b = p["cond_nconsts"], p["body_nconsts"]
    conditions, constants, carry = list(values[:a]), list(values[a : a + b]), list(values[a + b :])

    def check(carry: list[Value], steps: int) -> Value:
        return equation.context.walk(p["cond_jaxpr"], [*conditions, *carry], ("time", steps, 1), (CONDITION,))[0]

    condition, certain, steps = check(carry, 0), True, 0
    work = _work(p["body_jaxpr"])
    bound, assumed = max(LEAST, min(UNROLLED, BUDGET // work)), max(LEAST, min(ASSUMED, ASSUMED_EQUATIONS // work))
    # What may run is walked once at least: its weights are weights.
    while _holds(condition) or (steps == 0 and not isinstance(condition, Known)):
        certain = certain and isinstance(condition, Known) and not condition.random
        following = equation.context.walk(p["body_jaxpr"], [*constants, *carry], ("time", steps, 1), (BODY,))
        steps += 1
        settled = steps > LEAST and _repeats(carry, following)
        carry = following
        condition = check(carry, steps)
        if (settled or steps == (bound if certain else assumed)) and _holds(condition):
            reason = "its state repeats" if settled else "the walk's bound, though it goes on"
            equation.context.note(f"a loop: walked {steps} steps, until {reason}")
            return carry
    if not certain:
        equation.context.note(f"a loop whose length depends on data: {steps} steps assumed")
    return carry


def _holds(condition: Value) -> bool:
    """Whether a loop goes on: if it is not known, where that is as likely as not."""
    if isinstance(condition, Known):
        return bool(condition.array)
    return isinstance(condition, Opaque) or described(condition).mean > 0.5


def _work(jaxpr: Any) -> int:
    """The equations of a program and of all programs in it, those of loops as often as they are walked at least."""
    body = getattr(jaxpr, "jaxpr", jaxpr)
    total = 1
    for equation in body.eqns:
        times = LEAST if equation.primitive.name in ("scan", "while") else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                total += times * _work(inner) if hasattr(inner, "eqns") or hasattr(inner, "jaxpr") else 0
    return total + len(body.eqns)


@structural("cond")
def cond(equation: Equation, index: Value, *values: Value) -> list[Value]:
    """A known branch, or a mixture of all by how likely they are."""
    branches = equation.params["branches"]
    if isinstance(index, Known):
        which = min(max(int(index.array), 0), len(branches) - 1)
        return equation.context.walk(branches[which], values, site=(which,))
    x = described(index)
    shares = [float((np.round(x.values) == k) @ WEIGHTS) for k in range(len(branches))]
    total = sum(shares)
    shares = [s / total for s in shares] if total > 0 else [1 / len(branches)] * len(branches)
    outcomes = [equation.context.walk(branch, values, site=(k,)) for k, branch in enumerate(branches)]
    equation.context.note("a branch that depends on data: a mixture of all")
    results = [_chosen(list(column), shares) for column in zip(*outcomes, strict=True)]
    for cases, result in zip(zip(*outcomes, strict=True), results, strict=True):
        equation.context.passed(Choice(cases, shares, result))
    return results


def _chosen(parts: list[Value], shares: list[float]) -> Value:
    if isinstance(parts[0], Opaque):
        return parts[0]
    signals = [described(p) for p in parts]
    if any(isinstance(s, ComplexSignal) for s in signals):
        made = _by_part(signals, lambda found: chosen(found, shares))
    else:
        made = chosen(signals, shares)
    return dataclasses.replace(made, recipe=derived(parts, lambda *others: [_chosen(list(others), shares)]))
