"""Stretches of a program, from the first use of some weights to the last: walked until these weights are settled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from qrjax._interpreter._flow import Flow
from qrjax._rules._operands import Value

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

Name = TypeVar("Name")
Item = TypeVar("Item")
# So often at most.
SWEEPS = 10


def settled(walk: Walk, body: Any, stretch: range, environment: dict[Any, Value], flow: Flow | None) -> None:
    """Walks some equations of a program; again, where weights used several times in them are not settled."""
    if flow is None or not _may_repeat(flow, stretch):
        for number in stretch:
            walk.flow = None if flow is None else flow.inner.get(number)
            walk.step(body, number, environment)
        walk.flow = None
        return
    before, used = State.of(walk), walk.gains.begin(guess=True)
    for sweep in range(SWEEPS):
        for number in stretch:
            walk.step(body, number, environment)
        if not walk.gains.next_walk(used, last=sweep + 1 == SWEEPS):
            break
        before.put_back(walk)


def _may_repeat(flow: Flow, stretch: range) -> bool:
    """Whether a parameter has several uses in it: in several equations, or in a program that one of them repeats."""
    return len(stretch) > 1 or (stretch[0] in flow.loops and bool(flow.uses[stretch[0]]))


@dataclasses.dataclass(frozen=True)
class State:
    """What a walk took down up to a place."""

    entries: dict[Any, Any]
    logits: list[Any]
    used: dict[Any, list[Any]]
    met: dict[Any, Any]
    left: dict[Any, str]
    resolved: dict[int, Any]
    started: dict[int, list[Value]]
    notes: list[str]
    scores: Any

    @staticmethod
    def of(walk: Walk) -> State:
        """That of a walk now."""
        ledger = walk.ledger
        return State(
            dict(ledger.entries), list(ledger.logits), _copied(walk.used), dict(walk.met), dict(walk.left),
            dict(walk.resolved), _copied(walk.started), list(walk.notes), walk.places.state(),
        )  # fmt: skip

    def put_back(self, walk: Walk) -> None:
        """Makes a walk forget what came after."""
        walk.ledger.entries, walk.ledger.logits = dict(self.entries), list(self.logits)
        walk.used, walk.started = _copied(self.used), _copied(self.started)
        walk.met, walk.left, walk.resolved = dict(self.met), dict(self.left), dict(self.resolved)
        walk.notes = list(self.notes)
        walk.places.put_back(self.scores)


def _copied(lists: dict[Name, list[Item]]) -> dict[Name, list[Item]]:
    return {name: list(items) for name, items in lists.items()}
