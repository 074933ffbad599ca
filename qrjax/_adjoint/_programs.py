"""The derivative of one equation as a program, walked where no adjoint is written by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from qrjax._adjoint._contractions import factors
from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._structure import Found, Given, Wanted
from qrjax._interpreter._binding import bind
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._ledger import Ledger
from qrjax._interpreter._tape import Move
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._signal import Signal


def by_program(move: Move, given: Given, wanted: Wanted) -> tuple[Found, bool]:
    """The operands' derivatives, and whether they follow from the equation's own derivative."""
    try:
        return _walked(move, given, wanted), True
    except Exception:  # JAX has no derivative of it, or the walk no law
        return _by_energy(move, given, wanted), False


def _walked(move: Move, given: Given, wanted: Wanted) -> Found:
    values = list(move.met)
    if move.weight is not None:
        values[move.weight[0]] = factors(move)[move.weight[0]]
    if any(isinstance(v, (Opaque, ComplexSignal)) for v in [*values, *move.results]):
        raise NotImplementedError
    program, places = _program(move.eqn, wanted)
    laws = [_given(g, r) for g, r in zip(given, move.results, strict=True)]
    walk = Walk(Gains(1.0, None), Ledger(), lambda _walk, _name, value: value, trial=True)
    outcomes = walk.walk(program, [*laws, *(_plain(v) for v in values)])
    found: Found = [None] * len(values)
    for place, outcome in zip(places, outcomes, strict=True):
        law = described(outcome)
        found[place] = Cotangent.of_table(law.shape, law.moments, law.profiles)
    return found


def _plain(value: Value) -> Value:
    return dataclasses.replace(value, weight=None, recipe=None) if isinstance(value, Signal) else value


def _given(g: Cotangent, result: Value) -> Value:
    law = g.law()
    if law is not None:
        return law
    return Known(np.zeros(result.shape, np.float32)) if math.prod(result.shape) < 1 << 16 else Signal.constant(
        0.0, tuple(result.shape)
    )  # fmt: skip


def _program(eqn: Any, wanted: Wanted) -> tuple[Any, list[int]]:
    """A jaxpr (the outputs' derivatives, the operands) -> the derivatives by the wanted operands."""
    operands = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    outputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
    places = [i for i, w in enumerate(wanted) if w]

    def function(given: Sequence[Any], values: Sequence[Any]) -> Any:
        def forward(*chosen: Any) -> Any:
            full = list(values)
            for place, value in zip(places, chosen, strict=True):
                full[place] = value
            return bind(eqn, full)

        _, pull = jax.vjp(forward, *(values[i] for i in places))
        return pull([_cotangent(g, o) for g, o in zip(given, outputs, strict=True)])

    return jax.make_jaxpr(function)(outputs, operands), places


def _cotangent(g: Any, output: Any) -> Any:
    if jax.numpy.issubdtype(output.dtype, np.inexact):
        return g
    return np.zeros(output.shape, jax.dtypes.float0)


def _by_energy(move: Move, given: Given, wanted: Wanted) -> Found:
    """As much of the derivative's energy as of the signal's, to each operand by its share."""
    energy = sum(g.second_moment * math.prod(g.shape) for g in given)
    forward = sum(described(r).second_moment * math.prod(r.shape) for r in move.results if not isinstance(r, Opaque))
    found: Found = []
    for value, is_wanted in zip(move.met, wanted, strict=True):
        if not is_wanted:
            found.append(None)
            continue
        x = described(value)
        own = x.second_moment * x.size
        moment = energy * (forward / own if own > 0 else 1.0) / max(1, x.size)
        found.append(Cotangent.noise(x.shape, moment))
    return found
