"""Changes of outputs against width: the rows, their slopes and what is made of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._coordinates._settings import checked_tolerance
from qrjax._interpreter._finding import ERROR, Finding, UnhealthyError
from qrjax._signals._quadrature import Floats
from qrjax._terminal._cells import counted, decimal, number
from qrjax._terminal._names import listed, meant
from qrjax._terminal._patterns import Selection, check_patterns, chosen_by, patterns_of
from qrjax._terminal._received import received
from qrjax._terminal._shown import Shown, plain, scalars_of
from qrjax._terminal._tables import Table

STABLE, GROWS, FALLS, UNMOVED, UNEVEN, DIVERGED = "stable", "grows", "falls", "unmoved", "uneven", "diverged"
# Verdicts with which a check has failed.
FAILING = (GROWS, FALLS, UNEVEN, DIVERGED)
# Below this share of what it was, an output's change is rounding.
ROUNDING = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinate:
    """One row: the output of an operation with a weight, or of a module, at several widths.

    Attributes:
      path, operation: as in `qrjax.Row`.
      widths: those of the check.
      changes: for each width the root mean square of the output's change by all steps, over its elements; the
        geometric mean over the seeds.
      first: for each width the root mean square of the output before the first step, likewise.
      slope: of log2 of the change against log2 of the width, by least squares; None where a change is none or not
        finite. 0.5 means that it grows as the root of the width.
      error: the standard error of the slope, from the seeds; None with one seed.
      steps: the slope after each step, (steps,); NaN where there is none.
      tolerance: up to what slope, in absolute value, the row counts as stable.
    """

    path: str
    operation: str
    widths: tuple[int, ...]
    changes: tuple[float, ...]
    first: tuple[float, ...]
    slope: float | None
    error: float | None
    steps: tuple[float, ...]
    tolerance: float

    @property
    def verdict(self) -> str:
        """ "stable", "grows" or "falls"; "unmoved" if no width changed it, "uneven" if some did not, "diverged" if
        what came out is not finite."""
        if not all(map(math.isfinite, self.changes)):
            return DIVERGED
        moved = [c > ROUNDING * f for c, f in zip(self.changes, self.first, strict=True)]
        if not all(moved) or self.slope is None:
            return UNEVEN if any(moved) else UNMOVED
        if abs(self.slope) <= self.tolerance:
            return STABLE
        return GROWS if self.slope > 0 else FALLS

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return plain(self)


class CoordinateCheck(Shown, Sequence[Coordinate]):
    """What `qrjax.coordinate_check` found: a row for each output that all widths have, in order of execution.

    Iterate over it, index it by number or by path, print it, draw it with `qrjax.plot.coordinates`, or ask
    `assert_stable` in a test.

    Attributes:
      rows: the rows.
      widths: those that were trained.
      losses: (widths, seeds, steps + 1), the loss before each step and after the last one.
      findings: sentences on what a reader should know, each with a `severity`.
      settings: what was trained how: {"optimizer", "multipliers", "rate", "steps", "seeds", "tolerance", ...}.
    """

    def __init__(
        self, rows: Sequence[Coordinate], widths: Sequence[int], losses: Floats, findings: Sequence[Finding],
        settings: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.rows, self.widths, self.losses = tuple(rows), tuple(widths), losses
        self.findings, self.settings = tuple(findings), dict(settings)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Coordinate]:
        return iter(self.rows)

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, str):
            return self.rows[which]
        found = [row for row in self.rows if row.path == which]
        if not found:
            paths = list(dict.fromkeys(row.path for row in self.rows))
            raise KeyError(f"no row has the path {which!r}; paths: {listed(paths)}{meant(which, paths)}")
        return found[-1]

    @property
    def steepest(self) -> Coordinate | None:
        """The row whose slope is farthest from 0; None if no row has one."""
        sloping = [row for row in self.rows if row.slope is not None]
        return max(sloping, key=lambda row: abs(row.slope or 0.0), default=None)

    def assert_stable(self, tolerance: float | None = None, select: Selection = None) -> None:
        """Raises where an output's change depends on the width, as in a test of a model.

        Args:
          tolerance: the largest slope, in absolute value; by default that of the check.
          select: of which rows, a pattern of their paths or several, such as ("norm", "head"), or a function of a path;
            by default all. Over depth the parts of branches are to change less the more there are, and what they add up
            to is to be stable.

        Raises:
          UnhealthyError: if a row grows, falls, moves at some widths only or is not finite; an AssertionError whose
            message lists them.
          ValueError: if `tolerance` is not positive, or `select` or a pattern of it matches no row.
          TypeError: if `select` is none of these.
        """
        allowed = self.settings["tolerance"] if tolerance is None else checked_tolerance(tolerance)
        rows = [dataclasses.replace(row, tolerance=allowed) for row in self._selected(select)]
        failing = [Finding(_said(row), ERROR) for row in rows if row.verdict in FAILING]
        if failing:
            lines = "\n".join(f"- {finding}" for finding in failing)
            raise UnhealthyError(
                f"{counted(len(failing), 'output')} of {len(rows)} changed by training as the width says, beyond a "
                f"slope of {number(allowed)}:\n{lines}",
                failing,
            )

    def _selected(self, select: Selection) -> Sequence[Coordinate]:
        if select is None:
            return self.rows
        paths, chosen = [row.path for row in self.rows], chosen_by("select", select)
        if not callable(select):
            check_patterns("select", patterns_of("select", select), paths, "row")
        rows = [row for row in self.rows if chosen(row.path)]
        if not rows:
            raise ValueError(f"`select` {received(select)} matches no row; rows: {listed(list(dict.fromkeys(paths)))}")
        return rows

    def to_dict(self) -> dict[str, Any]:
        """{"widths", "settings", "losses", "findings", "severities", "rows": [...]}, plain values."""
        return {
            "widths": list(self.widths),
            "settings": dict(self.settings),
            "losses": self.losses.tolist(),
            "findings": list(map(str, self.findings)),
            "severities": [finding.severity for finding in self.findings],
            "rows": self._rows(),
        }

    def scalars(self) -> dict[str, float]:
        """The slopes, their errors and the changes at each width, "Dense_0/slope" and so on, to log."""
        return scalars_of((row.path, _numbers(row)) for row in self.rows)

    def _rows(self) -> list[dict[str, Any]]:
        return [row.to_dict() for row in self.rows]

    def _table(self) -> Table:
        s = self.settings
        how = s["optimizer"]
        if s["rate"] is not None:
            how += f", {'a multiplier a weight' if s['multipliers'] else 'one rate'}, rate {number(s['rate'])}"
        title = f"Coordinate check: {how}, {counted(s['steps'], 'step')}, {counted(s['seeds'], 'seed')}"
        columns = [f"change at {self.widths[0]}", *map(str, self.widths[1:])]
        headings = ["output", "operation", *columns, "slope", "±", "verdict"]
        cells = [
            [row.path or "(whole)", row.operation, *map(number, row.changes), decimal(row.slope, sign="+"),
             decimal(row.error), row.verdict]
            for row in self.rows
        ]  # fmt: skip
        error = len(headings) - 2
        # The outer widths are the last ones to go.
        spare = [1, error, *range(3, 1 + len(self.widths))]
        return Table(
            title, headings, cells, (0, 1, len(headings) - 1), spare, remarks=[f"- {f}" for f in self.findings]
        )


def _numbers(row: Coordinate) -> dict[str, Any]:
    changes = {f"change_{width}": change for width, change in zip(row.widths, row.changes, strict=True)}
    return {"slope": row.slope, "error": row.error, **changes}


def _said(row: Coordinate) -> str:
    name = f"{row.path or '(whole)'} ({row.operation})"
    ends = f"{number(row.changes[0])} at {row.widths[0]}, {number(row.changes[-1])} at {row.widths[-1]}"
    if row.slope is None or row.verdict not in (GROWS, FALLS):
        return f"{name} is {row.verdict}: its change is {ends}"
    return f"{name} {row.verdict} by a slope of {row.slope:+.2f}: its change is {ends}"


def coordinate(
    path: str, operation: str, widths: Sequence[int], first: Floats, changes: Floats, tolerance: float
) -> Coordinate:
    """A row, from what was measured: `first` of (widths, seeds), `changes` of (widths, seeds, steps)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(changes)
        places = np.log2(np.array(widths, np.float64))
        places -= places.mean()
        slopes = np.einsum("w,wst->st", places / (places @ places), logs)
        last = np.exp2(logs[..., -1].mean(1))
        at_first = np.exp2(np.log2(first).mean(1))
    seeds = slopes[:, -1]
    known = bool(np.isfinite(seeds).all())
    error = float(seeds.std(ddof=1) / math.sqrt(len(seeds))) if known and len(seeds) > 1 else None
    return Coordinate(
        path, operation, tuple(widths), tuple(map(float, last)), tuple(map(float, at_first)),
        float(seeds.mean()) if known else None, error, tuple(map(float, slopes.mean(0))), tolerance,
    )  # fmt: skip
