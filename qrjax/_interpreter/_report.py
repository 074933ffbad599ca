"""What a walk found, row by row, to read, to print and to keep."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

from qrjax._terminal._names import listed, meant
from qrjax._terminal._text import text_of


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation with a weight, or the output of one module.

    Attributes:
      path: the module, "encoder/Dense_0"; layers stacked by a scan end in their number, "layers/Dense_0[3]".
      op: the primitive, "dot_general", or the type of the module.
      shape: shape of the output.
      fan: how many products a weight's output sums, on average where a border cuts some; None without a weight.
      gain: the weight's standard deviation; None without a weight.
      input_mean, input_variance: predicted, of the input that meets the weight; None without a weight.
      mean, variance: predicted, of the output.
      measured_mean, measured_variance: on a real batch; None until measured.
      correlation: for each axis longer than 1, the correlation of two outputs that differ along it only.
      notes: what a reader should know, such as "by sampling".
      weight: the path of the parameter; None without one.
    """

    path: str
    op: str
    shape: tuple[int, ...]
    fan: float | None
    gain: float | None
    input_mean: float | None
    input_variance: float | None
    mean: float
    variance: float
    correlation: dict[int, float]
    notes: tuple[str, ...] = ()
    weight: str | None = None
    measured_mean: float | None = None
    measured_variance: float | None = None
    # Where in the program the row is, for measuring it; not part of what it says.
    site: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def second_moment(self) -> float:
        """Predicted E[y^2]."""
        return self.mean**2 + self.variance

    @property
    def input_second_moment(self) -> float | None:
        """Predicted E[x^2] of the input."""
        if self.input_mean is None or self.input_variance is None:
            return None
        return self.input_mean**2 + self.input_variance

    @property
    def measured_second_moment(self) -> float | None:
        """Measured E[y^2]."""
        if self.measured_mean is None or self.measured_variance is None:
            return None
        return self.measured_mean**2 + self.measured_variance

    @property
    def octaves(self) -> float | None:
        """log2 of the measured over the predicted second moment; None until measured."""
        measured = self.measured_second_moment
        if measured is None:
            return None
        if measured == self.second_moment:
            return 0.0
        if measured <= 0 or self.second_moment <= 0:
            return math.inf if measured > self.second_moment else -math.inf
        return math.log2(measured / self.second_moment)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "site"}
        named["correlation"] = {str(axis): rho for axis, rho in self.correlation.items()}
        moments = ("second_moment", "input_second_moment", "measured_second_moment")
        return (
            named
            | {name: getattr(self, name) for name in moments}
            | {"shape": list(self.shape), "notes": list(self.notes)}
        )


class Report(Sequence[Row]):
    """The rows of a walk in order of execution, and findings in words.

    Iterate over it, index it by number or by path, print it, or keep it with `to_json`.

    Attributes:
      rows: the rows.
      findings: sentences on what a reader should look at; empty where nothing stands out.
      target: the second moment that weights aim at.
    """

    def __init__(self, rows: Sequence[Row], findings: Sequence[str] = (), target: float = 1.0):
        self.rows, self.findings, self.target = tuple(rows), tuple(findings), target

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, which: int | str) -> Row: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[Row]: ...

    def __getitem__(self, which: int | str | slice) -> Row | Sequence[Row]:
        if not isinstance(which, str):
            return self.rows[which]
        found = self.at(which)
        if not found:
            paths = list(dict.fromkeys(row.path for row in self.rows))
            raise KeyError(f"no row has the path {which!r}; paths: {listed(paths)}{meant(which, paths)}")
        return next((row for row in found if row.gain is not None), found[-1])

    def at(self, path: str) -> tuple[Row, ...]:
        """All rows of a path: a module used twice has several."""
        return tuple(row for row in self.rows if row.path == path)

    @property
    def weights(self) -> tuple[Row, ...]:
        """The rows with a weight."""
        return tuple(row for row in self.rows if row.gain is not None)

    @property
    def measured(self) -> bool:
        """Whether a real batch has been through."""
        return any(row.measured_mean is not None for row in self.rows)

    def to_json(self, indent: int | None = None) -> str:
        """The report as JSON: {"target", "findings", "rows": [...]}."""
        rows = [_finite(row.to_dict()) for row in self.rows]
        return json.dumps({"target": self.target, "findings": list(self.findings), "rows": rows}, indent=indent)

    def __repr__(self) -> str:
        return f"<Report: {len(self.rows)} rows, {len(self.findings)} findings>"

    def __str__(self) -> str:
        return _rendered(self)


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN; null says that there is no number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def _rendered(report: Report) -> str:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["module", "operation", "output", "fan", "gain", "in: E x²", "out: mean", "variance", "E y²"]
    if report.measured:
        columns += ["measured E y²", "octaves"]
    columns += ["correlation along axes", "notes"]
    for name in columns:
        numeric = name not in {"module", "operation", "output", "correlation along axes", "notes"}
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name != "notes")
    for row in report:
        table.add_row(*_cells(row, report.measured))
    width = max((len(row.path) + len(row.op) for row in report), default=0) + 200
    lines = [line.rstrip() for line in text_of(table, width).splitlines()]
    return "\n".join(lines + [""] * bool(report.findings) + [f"- {finding}" for finding in report.findings])


def _cells(row: Row, measured: bool) -> list[str]:
    cells = [row.path or "(whole)", row.op, "x".join(map(str, row.shape)), _number(row.fan), _number(row.gain)]
    cells += [_number(v) for v in (row.input_second_moment, row.mean, row.variance, row.second_moment)]
    if measured:
        octaves = row.octaves
        cells += [_number(row.measured_second_moment), "" if octaves is None else f"{octaves:+.2f}"]
    along = " ".join(f"{axis}:{rho:.2f}" for axis, rho in row.correlation.items())
    return [*cells, along, "; ".join(row.notes)]
