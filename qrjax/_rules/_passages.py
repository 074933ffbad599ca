"""What control flow hands on between the equations of its programs: to be followed backwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A slice of an array along its first axis, as a step of a scan is given it."""

    whole: Any
    slice: Any
    index: int

    @property
    def operands(self) -> Sequence[Any]:
        return (self.whole,)

    @property
    def results(self) -> Sequence[Any]:
        return (self.slice,)


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """What the steps of a scan gave, as one array.

    Attributes:
      steps: what they gave, in the order in which they ran.
      counts: for how many steps each stands.
      whole: the array.
      reverse: whether the first step that ran comes last.
    """

    steps: Sequence[Any]
    counts: Sequence[int]
    whole: Any
    reverse: bool

    @property
    def operands(self) -> Sequence[Any]:
        return self.steps

    @property
    def results(self) -> Sequence[Any]:
        return (self.whole,)


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """One of several, by how likely each is."""

    cases: Sequence[Any]
    shares: Sequence[float]
    chosen: Any

    @property
    def operands(self) -> Sequence[Any]:
        return self.cases

    @property
    def results(self) -> Sequence[Any]:
        return (self.chosen,)


Passage = Step | Stack | Choice
