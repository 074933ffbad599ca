"""Adjoints by primitive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from qrjax._adjoint._cotangent import Cotangent
from qrjax._interpreter._tape import Move

# (the equation as it was walked, its outputs' derivatives, which operands' are wanted) -> the operands' derivatives.
Adjoint: TypeAlias = Callable[[Move, Sequence[Cotangent], Sequence[bool]], "list[Cotangent | None] | None"]

ADJOINTS: dict[str, Adjoint] = {}


def adjoint(*names: str) -> Callable[[Adjoint], Adjoint]:
    """Registers the adjoint of these primitives; where it returns None the equation's own derivative is walked."""

    def register(function: Adjoint) -> Adjoint:
        ADJOINTS.update(dict.fromkeys(names, function))
        return function

    return register
