"""Where an adjoint is known to be approximate though it was followed: reasons for a row's note, measured on the zoo.

A gate, a number between 0 and 1 times another signal, is open for the same elements from step to step of a loop and
from shortcut to shortcut: of several only the means multiply. And what sums all features of a derivative share grows
along shortcuts, as activations turn it into one of the input's own direction; that is not followed. What is chosen by
size shares a derivative whose parts cancel.
"""

from __future__ import annotations

from qrjax._adjoint._cotangent import Cotangent
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import described
from qrjax._signals._signal import Signal

GATES, CHOICES, GROUPS = "gates", "what is chosen by size", "norms of groups"
CHOSEN = frozenset({"top_k", "approx_top_k"})


def approximation(move: Move, g: Cotangent) -> str | None:
    """What to call the approximation that an equation's adjoint makes; None where it makes none that is known."""
    if move.equation.name in CHOSEN:
        return CHOICES
    if move.equation.name == "reshape":
        return GROUPS if any(term.base.root is not None and None in term.place for term in g.terms) else None
    if move.equation.name != "mul":
        return None
    x, y = (described(value) for value in move.met)
    if x.source is None or y.source is None or x.source is y.source:
        return None
    return GATES if _is_gate(x) or _is_gate(y) else None


def _is_gate(x: Signal) -> bool:
    """Whether it lies between 0 and 1 and is more than a mask; norms' and softmax's factors have their own adjoints."""
    inside = x.values.min() >= 0 and x.values.max() <= 1 and x.fiber is None and x.array is None
    return bool(inside and len(set(x.values[::16].round(6).tolist())) > 2)
