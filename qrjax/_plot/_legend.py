"""What lines and markers stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qrjax._interpreter._report import Report
from qrjax._plot._curves import Curve
from qrjax._plot._panel import GREY, OUTSIDE, OUTSIDE_ID

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def legend(panels: Sequence[Axes], report: Report, curves: Sequence[Curve]) -> None:
    """A legend above the first panel."""
    entries = [_entry(curve.name, *curve.look[:3]) for curve in curves]
    entries.append(_entry(f"target of weights: E[y²] = {report.target:g}", GREY, ":", ""))
    kinds = {row.gain is not None for row in report}
    if len(kinds) > 1:
        entries += [
            _entry("filled: output of a weight", GREY, "", "o"),
            _entry("open: output of a whole module, at its end", GREY, "", "s"),
        ]
        entries[-1].set_markerfacecolor("none")
    found = {line.get_marker() for axes in panels for line in axes.lines if line.get_gid() == OUTSIDE_ID}
    entries += [_entry(text, GREY, "", marker) for marker, text in OUTSIDE.items() if marker in found]
    panels[0].legend(
        handles=entries, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2,
        frameon=False, fontsize="small", handlelength=3, borderaxespad=0.2, columnspacing=1.5,
    )  # fmt: skip


def _entry(label: str, color: str, line: str, marker: str) -> Any:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": line, "marker": marker, "color": color, "label": label}
    return Line2D([], [], markersize=5, linewidth=1.3, **style)
