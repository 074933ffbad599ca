"""Rows of a report in groups by module, and the names that fit below an axis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from qrjax._interpreter._report import Row
from qrjax._terminal._abbreviations import shortened

# A network of fewer parts says too little by their names, so it is named by the parts of its parts.
PARTS = 4
# Characters of a name; its end tells more than its start.
LETTERS = 20
OUTPUT = "output"


class Group(NamedTuple):
    """Rows from `start` to before `stop`, which are of one module."""

    name: str
    start: int
    stop: int

    @property
    def centre(self) -> float:
        return (self.start + self.stop - 1) / 2


def groups(rows: Sequence[Row]) -> list[Group]:
    """Consecutive rows of one module each, by as few components of their paths as give several groups."""
    deepest = max((row.path.count("/") + 1 for row in rows), default=1)
    found: list[Group] = []
    for depth in range(1, deepest + 1):
        found = _grouped([_part(row.path, depth) for row in rows])
        if len(found) >= PARTS:
            break
    return found


def _part(path: str, depth: int) -> str:
    """The first components of a path, with the number of the layer if it is one of a stack."""
    if not path:
        return OUTPUT
    kept, rest = path.split("/")[:depth], path.split("/")[depth:]
    layer = rest[-1].partition("[") if rest else ("", "", "")
    return "/".join(kept) + layer[1] + layer[2]


def _grouped(names: Sequence[str]) -> list[Group]:
    found, start = [], 0
    for name, members in itertools.groupby(names):
        stop = start + len(list(members))
        found.append(Group(name, start, stop))
        start = stop
    return found


def legible(groups: Sequence[Group], distance: float) -> list[Group]:
    """Those whose names fit, `distance` rows apart: the last, then the largest; even steps among equals."""
    chosen: list[Group] = []
    for group in [*groups[-1:], *sorted(groups, key=lambda g: g.start - g.stop)]:
        if all(abs(group.centre - other.centre) >= distance for other in chosen):
            chosen.append(group)
    return sorted(chosen, key=lambda g: g.start)


def labels(names: Sequence[str]) -> list[str]:
    """The names for an axis, without the modules around all of them, and not too long."""
    steps = [name.split("/")[:-1] for name in names if name != OUTPUT]
    shared = itertools.takewhile(lambda step: len(set(step)) == 1, zip(*steps, strict=False))
    around = len(list(shared)) if len(steps) > 1 else 0
    return [name if name == OUTPUT else shortened("/".join(name.split("/")[around:]), LETTERS) for name in names]
