"""Control flow: calls, scans, loops and branches are walked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._initializers._specification import LABEL, Specification
from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Opaque, Value, derived, described, recipe_of
from qrjax._rules._passages import Choice
from qrjax._rules._registry import structural
from qrjax._rules._steps import Steps, by_part, is_layered
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._mixtures import chosen
from qrjax._signals._quadrature import CDF, WEIGHTS, Floats
from qrjax._signals._recipe import NOISE
from qrjax._signals._signal import Signal
from qrjax._values._distributions import Uniform

# A recurrence is walked until its carry's moments repeat to this, at least so often, at most so often.
STEADY = 5e-4
LEAST, MOST = 4, 256
# Of what is computed on a sample of places, moments wander by this much.
STEADY_SAMPLE = 6e-3
# While weights are only guessed, this is enough.
ROUGH = 2e-2
# Known inputs of this many steps at most are taken step by step.
UNROLLED = 512
# Loops without a settled state end after about so many equations; where their length is not known, after so many
# equations or steps.
BUDGET = 12_000
ASSUMED, ASSUMED_EQUATIONS = 64, 5_000
# The two programs of a loop, where a place in the program must tell them apart.
CONDITION, BODY = 0, 1

# What a note says of a loop of which the walk has seen the beginning alone.
UNFINISHED = "the walk's bound, though it goes on"

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
    layered = any(is_layered(equation, v) for v in inputs)
    steps = Steps(equation, constants, inputs, "layer" if layered else "time", length)
    if layered or _is_short(inputs, length):
        for done in range(length):
            carry = steps.walk(carry, done, 1, by_step=True)
    else:
        carry = _until_settled(steps, carry)
    return carry + steps.stacks(len(carry))


def _until_settled(steps: Steps, carry: list[Value]) -> list[Value]:
    """The carry after all steps, of which those count as one that come when it repeats itself, or after the bound."""
    past = before = carry
    done, ahead = 0, 1
    while done < steps.length:
        if len(steps.counts) == MOST - 1:
            return steps.walk(carry, done, steps.length - done, by_step=False)
        past, before, carry = before, carry, steps.walk(carry, done, ahead, by_step=False)
        done += ahead
        # The steps that come and are like this one are walked once, to be counted as often as they occur.
        ahead = steps.alike(done) if done >= LEAST and _is_settled(past, before, carry, steps.rough) else 1
    return carry


def _is_settled(past: list[Value], before: list[Value], carry: list[Value], rough: bool) -> bool:
    """Whether a carry repeats itself."""
    if rough:
        return _repeats(before, carry, ROUGH)
    # Over two steps: what grows slowly may seem to stand still in one, where moments come of a sample.
    return _repeats(before, carry) and _repeats(past, carry)


def _is_short(inputs: Sequence[Value], length: int) -> bool:
    """Whether a recurrence is walked to its end: a few steps, or as many as known numbers say one by one."""
    numbered = any(isinstance(v, Known) and len(v.shape) == 1 for v in inputs)
    return length <= LEAST or (numbered and length <= UNROLLED)


def _repeats(before: Sequence[Value], after: Sequence[Value], least: float = STEADY) -> bool:
    for a, b in zip(before, after, strict=True):
        if isinstance(a, Opaque) or isinstance(b, Opaque):
            continue
        x, y = described(a), described(b)
        scale = max(x.second_moment, y.second_moment, 1e-30)
        sampled = y.source is not None and y.source.formula is not None and not y.source.formula.normal
        steady = max(least, STEADY_SAMPLE) if sampled else least
        if abs(x.variance - y.variance) > steady * scale or abs(x.mean - y.mean) > steady * math.sqrt(scale):
            if x.dtype.kind in "iu":  # a counter does not settle, and need not
                continue
            return False
    return True


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
            reason = "its state repeats" if settled else UNFINISHED
            equation.context.note(f"a loop: walked {steps} steps, until {reason}")
            return carry
    if not certain:
        equation.context.note(f"a loop whose length depends on data: {steps} steps assumed")
    return carry


def _holds(condition: Value) -> bool:
    """Whether a loop goes on, of several mapped into one whether any does: if not known, where as likely as not."""
    if isinstance(condition, Known):
        return bool(np.any(condition.array))
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
        results = equation.context.walk(branches[which], values, site=(which,))
        for other in range(len(branches)) if index.data else ():
            # The sample input takes one; the weights of the others are the model's too.
            if other != which:
                equation.context.note("a branch that the sample input does not take")
                equation.context.walk(branches[other], values, site=(other,))
        return results
    x = described(index)
    shares = [float((np.round(x.values) == k) @ WEIGHTS) for k in range(len(branches))]
    total = sum(shares)
    shares = [s / total for s in shares] if total > 0 else [1 / len(branches)] * len(branches)
    outcomes = [equation.context.walk(branch, values, site=(k,)) for k, branch in enumerate(branches)]
    equation.context.note("a branch that depends on data: a mixture of all")
    results = [_chosen(list(column), shares) for column in zip(*outcomes, strict=True)]
    for cases, result in zip(zip(*outcomes, strict=True), results, strict=True):
        equation.context.passed(Choice(cases, shares, result))
    return _decided_by_weights(equation, [index, *values], results)


def _decided_by_weights(equation: Equation, operands: list[Value], results: list[Value]) -> list[Value]:
    """The results, if all is made of weights, to be computed on their elements: which branch is run hangs on these."""
    found = recipe_of(operands[0])
    if found is None or not found.leaves:
        return results

    def again(*others: Value) -> list[Value]:
        branch = cond(equation, *others)
        assert isinstance(branch, list)
        return branch

    made: list[Value] = []
    for number, result in enumerate(results):
        recipe = derived(operands, again, number)
        if recipe is None or not isinstance(result, Signal):
            made.append(result)
        else:
            made.append(dataclasses.replace(result, recipe=dataclasses.replace(recipe, matrix=True)))
    return made


def _chosen(parts: list[Value], shares: list[float]) -> Value:
    if isinstance(parts[0], Opaque):
        return parts[0]
    signals = [described(p) for p in parts]
    if any(isinstance(s, ComplexSignal) for s in signals):
        made = by_part(signals, lambda found: chosen(found, shares))
    else:
        made = chosen(signals, shares)
    return dataclasses.replace(made, recipe=derived(parts, lambda *others: [_chosen(list(others), shares)]))
