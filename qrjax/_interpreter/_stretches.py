"""Stretches of a program, from the first use of some weights to the last: walked until these weights are settled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from qrjax._interpreter._flow import Flow
from qrjax._rules._operands import Value

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

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
    """What a walk took down up to a place.

    Attributes:
      kept: whose attributes, and copies of those that are lists or mappings, and of the lists within.
      scores: the state of the sample of places.
    """

    kept: list[tuple[Any, dict[str, Any]]]
    scores: Any

    @staticmethod
    def of(walk: Walk) -> State:
        """That of a walk now."""
        those = (walk, walk.ledger) if walk.tape is None else (walk, walk.ledger, walk.tape)
        return State([(one, _taken_down(one)) for one in those], walk.places.state())

    def put_back(self, walk: Walk) -> None:
        """Makes a walk forget what came after."""
        for one, attributes in self.kept:
            for name, value in attributes.items():
                setattr(one, name, _copied(value))
        walk.places.put_back(self.scores)


def _taken_down(one: Any) -> dict[str, Any]:
    """All that grows as a walk goes on, whatever it is."""
    found = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return {name: _copied(value) for name, value in found.items() if isinstance(value, (dict, list))}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(item) if isinstance(item, list) else item for key, item in value.items()}
    return list(value)
