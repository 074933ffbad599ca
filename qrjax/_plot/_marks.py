"""What lines and markers of the signal stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qrjax._interpreter._report import Report
from qrjax._plot._axes import wide
from qrjax._plot._colors import muted
from qrjax._plot._curves import Curve
from qrjax._plot._panel import OUTSIDE, OUTSIDE_ID
from qrjax._plot._styles import seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def entries(panels: Sequence[Axes], report: Report, curves: Sequence[Curve]) -> list[Any]:
    """A handle for each curve, with the mark of a module beside that of a weight where there are both."""
    axes = panels[0]
    of_weights = {row.gain is not None for row in report}
    kinds = [words for words, weights in (("weights", True), ("modules", False)) if weights in of_weights]
    found: list[Any] = []
    for curve in curves:
        label = curve.name + f": {', '.join(kinds)}" * (len(kinds) > 1) if wide(axes) else curve.short
        found.append(tuple(_mark(axes, curve, kind, label) for kind in kinds))
    target = f"target of weights: E[y²] = {report.target:g}" if wide(axes) else "target"
    found.append(_line(target, muted(axes), ":", ""))
    edges = {line.get_marker() for axes in panels for line in axes.lines if line.get_gid() == OUTSIDE_ID}
    return found + [_line(text, muted(axes), "", marker) for marker, text in OUTSIDE.items() if marker in edges]


def _mark(axes: Axes, curve: Curve, kind: str, label: str) -> Any:
    look, color = curve.look, seen(curve.look.color, axes)
    if kind == "weights":
        return _line(label, color, look.line, look.weight)
    mark = _line(label, color, "", look.module)
    mark.set_markerfacecolor("none")
    return mark


def _line(label: str, color: str, line: str, marker: str) -> Any:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": line, "marker": marker, "color": color, "label": label}
    return Line2D([], [], markersize=5, linewidth=1.3, **style)
