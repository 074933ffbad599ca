"""Which weights make a model's outputs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrjax._interpreter._ledger import Site
from qrjax._interpreter._tape import Move, Repeated
from qrjax._rules._operands import Value


def heads(outputs: Sequence[Value], moves: Sequence[Any]) -> set[Site]:
    """The rows of the weights whose outputs reach a model's own without meeting another weight."""
    found: set[Site] = set()
    _follow(moves, {id(value) for value in outputs}, found)
    return found


def _follow(moves: Sequence[Any], wanted: set[int], found: set[Site]) -> None:
    """Goes back over all moves, the last first; `wanted` are the values on the way, which the walk keeps alive."""
    for move in reversed(moves):
        if isinstance(move, Repeated):
            _follow(move.moves, wanted, found)
        elif not any(id(value) in wanted for value in move.results):
            continue
        elif isinstance(move, Move) and move.weight is not None:
            found.add(move.site)
        else:
            wanted.update(map(id, move.operands))
