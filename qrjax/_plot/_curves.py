"""What a picture shows of a report: moments by row, and how each curve looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrjax._interpreter._report import Report, Row
from qrjax._plot._styles import BLUE, TEXT, VERMILION

Floats = NDArray[np.float64]


class Look(NamedTuple):
    """Told apart by color, by line and by marker, so that any one of them is enough."""

    color: str
    line: str
    weight: str  # the marker of a weight's output
    module: str  # the marker of a module's output
    size: float
    layer: int  # what lies above what


PREDICTED = Look(TEXT, "-", ".", "_", 1.0, 3)
MEASURED = Look(BLUE, "", "o", "s", 0.75, 4)
DEFAULT = Look(VERMILION, "--", "v", "^", 0.75, 2)


class Curve(NamedTuple):
    """What is known of the rows in one way, a number for each row of the picture; NaN where there is none.

    Gradients are squared norms per example, which no width changes.
    """

    name: str
    word: str  # the name in a sentence
    short: str  # the name in a small legend
    look: Look
    mean: Floats
    variance: Floats
    gradient: Floats
    present: NDArray[np.bool_]
    has_gradient: NDArray[np.bool_]


def curves(report: Report, default: Report | None) -> list[Curve]:
    """The curves of a picture, in the order of its legend.

    Raises:
      ValueError: if no row of `default` is one of `report`.
    """
    found = [_curve("predicted", "predicted", "predicted", PREDICTED, report.rows, measured=False)]
    if report.measured:
        found.append(_curve("measured on a batch", "measured", "measured", MEASURED, report.rows, measured=True))
    if default is not None:
        how = "measured" if default.measured else "predicted"
        rows = _aligned(report, default)
        found.append(
            _curve(f"default initialization, {how}", "by default", "default", DEFAULT, rows, measured=default.measured)
        )
    return found


def summary(curves: Sequence[Curve]) -> str:
    """What became of the signal, in a sentence."""
    last = ", ".join(f"{curve.variance[-1]:.2g} {curve.word}" for curve in curves if curve.present[-1])
    return f"The signal through depth: at the end its variance is {last}"


def _curve(
    name: str, word: str, short: str, look: Look, rows: Sequence[Row | None], *, measured: bool
) -> Curve:  # fmt: skip
    pairs = [_moments(row, measured) for row in rows]
    numbers = np.array([(math.nan, math.nan) if p is None else p for p in pairs], np.float64).reshape(-1, 2)
    present = np.array([p is not None for p in pairs], bool)
    norms = [None if row is None else row.measured_gradient_norm if measured else row.gradient_norm for row in rows]
    gradient = np.array([math.nan if norm is None else norm**2 for norm in norms], np.float64)
    has_gradient = np.array([norm is not None for norm in norms], bool)
    return Curve(name, word, short, look, numbers[:, 0], numbers[:, 1], gradient, present, has_gradient)


def _moments(row: Row | None, measured: bool) -> tuple[float, float] | None:
    if row is None:
        return None
    if not measured:
        return row.mean, row.variance
    if row.measured_mean is None or row.measured_variance is None:
        return None
    return row.measured_mean, row.measured_variance


def _aligned(report: Report, default: Report) -> list[Row | None]:
    """The default's row for each of the report's: the same path and operation, for the same time."""
    known = dict(zip(_identities(default), default, strict=True))
    found = [known.get(identity) for identity in _identities(report)]
    if report.rows and not any(found):
        raise ValueError(
            "`default` must be of the same model as `report`, but no row has the path and the operation of one there: "
            f"{default[0].path!r} here, {report[0].path!r} there; pass qrjax.analyze(module, x, weights='module')"
            if default.rows
            else "`default` has no rows; pass qrjax.analyze(module, x, weights='module')"
        )
    return found


def _identities(report: Report) -> list[Any]:
    seen: dict[Any, int] = {}
    identities = []
    for row in report:
        key = row.path, row.op, row.weight
        seen[key] = seen.get(key, 0) + 1
        identities.append((key, seen[key]))
    return identities
