"""Which weights make a model's outputs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qrjax._interpreter._ledger import Site
from qrjax._interpreter._tape import Move, Repeated
from qrjax._rules._operands import Value
from qrjax._rules._passages import Choice, Stack, Step


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
        elif not any(id(value) in wanted for value in _results(move)):
            continue
        elif isinstance(move, Move) and move.weight is not None:
            found.add(move.site)
        else:
            wanted.update(map(id, _operands(move)))


def _results(move: Any) -> Iterable[Value]:
    if isinstance(move, Move):
        return move.results
    return (move.slice,) if isinstance(move, Step) else (move.whole if isinstance(move, Stack) else move.chosen,)


def _operands(move: Any) -> Iterable[Value]:
    if isinstance(move, Move):
        return move.operands
    if isinstance(move, Choice):
        return move.cases
    return move.steps if isinstance(move, Stack) else (move.whole,)
