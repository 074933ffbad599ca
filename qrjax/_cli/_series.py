"""Several checkpoints of one run: how far each layer had moved at each of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np

from qrjax._cli._causes import own_errors
from qrjax._cli._checkpoints import checkpoint_at
from qrjax._cli._failure import Failure
from qrjax._cli._matching import matched
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._steps import step_of

if TYPE_CHECKING:
    from qrjax import Record
    from qrjax._tracking._changes import Changes

# Columns of the table; of more checkpoints these many are shown, evenly chosen.
COLUMNS = 6
# Characters that a terminal has for the names at least, and for each number.
NAME, NUMBER = 34, 11
# What Orbax calls a checkpoint that it is writing, or did not complete.
UNFINISHED = ".orbax-checkpoint-tmp"


class Point(NamedTuple):
    """One checkpoint and what it has of changes, without its arrays."""

    step: int
    path: Path
    kind: str
    found: Changes


def numbered(paths: Sequence[Path]) -> list[tuple[int, Path]]:
    """The checkpoints in order of the steps in their names; by position where a name has none, or has another's."""
    whole = [path for path in paths if UNFINISHED not in path.name]
    for path in paths:
        if UNFINISHED in path.name:
            click.echo(f"Left out, as it was not completed: {str(path)!r}", err=True)
    steps = [step_of(path) for path in whole]
    if None in steps or len(set(steps)) < len(steps):
        click.echo("The names do not number the checkpoints: they count as 1, 2, ... in the order given", err=True)
        return list(enumerate(whole, 1))
    return sorted((step, path) for step, path in zip(steps, whole, strict=True) if step is not None)


def tracked(record: Record, paths: Sequence[Path], subtree: str | None, threshold: float) -> list[Point]:
    """What each checkpoint changed; each is read once, and one at a time is held."""
    import qrjax
    from qrjax._tracking._changes import Changes

    points = []
    steps = numbered(paths)
    if not steps:
        raise Failure("none of the checkpoints was completed; give one that was")
    for step, path in steps:
        file = checkpoint_at(path)
        match = matched(record, file, subtree)
        with own_errors({}), match.precision:
            found = qrjax.changes(record, match.params(file), threshold=threshold)
        points.append(Point(step, path, file.kind, Changes(found.rows, found.total, found.threshold)))
    if len({tuple(row.path for row in point.found) for point in points}) > 1:
        raise Failure("the checkpoints have different variables; give those of one run")
    return points


def print_series(record: Path, points: Sequence[Point], as_json: bool) -> None:
    """A table of layers against steps, or everything as JSON."""
    if as_json:
        every = [{"step": p.step, "checkpoint": str(p.path), **json.loads(p.found.to_json())} for p in points]
        print_json({"checkpoints": every})
        return
    from qrjax._plot._movement import layers

    output = Screen()
    count = COLUMNS if output.width is None else max(2, min(COLUMNS, (output.width - NAME) // NUMBER))
    places = np.unique(np.linspace(0, len(points) - 1, min(count, len(points))).round().astype(int))
    chosen = [points[i] for i in places]
    moved = [layers(point.found) for point in chosen]
    output.line(f"{len(points)} checkpoints, {points[0].path} to {points[-1].path}, against {record}")
    rest = f"; {len(chosen)} of {len(points)} steps, --json has all" if len(chosen) < len(points) else ""
    output.text(f"Root-mean-square change from the initial weights, by step{rest}")
    rows = [[name, *(f"{row[name]:.3g}" for row in moved)] for name in moved[0]]
    shares = [f"{point.found.total.changed_percent:.1f} %" for point in chosen]
    output.table(("layer", *(str(point.step) for point in chosen)), [*rows, ["changed", *shares]])
    output.line(f"changed: of all weights, by more than {points[0].found.threshold:g}")


def draw_series(points: Sequence[Point]) -> Any:
    """The figure of all steps."""
    from qrjax import plot as pictures

    return pictures.movement({point.step: point.found for point in points}).figure
