"""Which weights make a model's outputs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrjax._interpreter._ledger import Site
from qrjax._interpreter._tape import Move, each
from qrjax._rules._operands import Value


def heads(outputs: Sequence[Value], moves: Sequence[Any]) -> set[Site]:
    """The rows of the weights whose outputs reach a model's own without meeting another weight."""
    return ends(outputs, moves)[0]


def ends(outputs: Sequence[Value], moves: Sequence[Any]) -> tuple[set[Site], set[int]]:
    """These rows, and the ids of the values between them and the model's outputs, which the walk keeps alive."""
    found: set[Site] = set()
    wanted = {id(value) for value in outputs}
    for move, _ in reversed([*each(moves)]):
        if not any(id(value) in wanted for value in move.results):
            continue
        if isinstance(move, Move) and move.weight is not None:
            found.add(move.site)
        else:
            wanted.update(map(id, move.operands))
    return found, wanted
