"""Adjoints of elementwise primitives: the derivative times that by the operand, a forward signal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._derivatives import SAME, derivative, places
from qrjax._adjoint._registry import adjoint
from qrjax._adjoint._structure import unbroadcast
from qrjax._interpreter._binding import bind
from qrjax._interpreter._tape import Move
from qrjax._rules._elementwise import NAMES
from qrjax._rules._functions import BY_JAX
from qrjax._rules._operands import described
from qrjax._signals._combine import combine


@adjoint(*NAMES, "select_if_vmap")
def elementwise(move: Move, given: Sequence[Cotangent], wanted: Sequence[bool]) -> list[Cotangent | None] | None:
    """The chain rule."""
    name = move.equation.name
    if name in SAME and len(move.results) > 1:
        return [g if w else None for g, w in zip(given, wanted, strict=True)]
    try:
        return [_by(move, given[0], i) if w else None for i, w in enumerate(wanted)]
    except (NotImplementedError, ValueError, TypeError):
        if name not in BY_JAX:
            raise
        return None  # JAX has no derivative of it


def _by(move: Move, g: Cotangent, place: int) -> Cotangent | None:
    equation, operands = move.equation, [described(v) for v in move.met]
    name = equation.name
    if name == "select_if_vmap":  # the cases the other way round
        name, operands, place = "select_n", [operands[0], operands[2], operands[1]], (0, 2, 1)[place]

    def evaluate(*arrays: Any) -> Any:
        return bind(move.eqn, [jax.numpy.asarray(a, o.dtype) for a, o in zip(arrays, operands, strict=True)])[0]

    slope = derivative(name, equation.params, len(operands), place, evaluate)
    if slope is None:
        return None
    if callable(slope):
        held = [operands[i] for i in places(name, len(operands), place)]
        slope = combine(slope, held, equation.shape, np.float32)
        if name in BY_JAX:  # Between the nodes JAX would be asked again and again.
            slope = dataclasses.replace(slope, at=None)
    return unbroadcast(g.times(slope), tuple(move.met[place].shape))
