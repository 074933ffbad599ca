"""One panel: an axis for a moment, the curves on it, and what lies outside of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qrjax._interpreter._report import Report
from qrjax._plot._curves import Curve, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Moment = Callable[[Curve], Floats]

# Moments this many times above or below the target are as good as infinite or zero, and would flatten the rest.
REACH = 1e36
GREY = "#555555"
# Markers on the edge, in the color of their curve.
OUTSIDE = {"v": "on the edge: zero, or below", "^": "on the edge: above", "x": "on the edge: not a number"}
OUTSIDE_ID = "outside"


def variance_axis(axes: Axes, curves: Sequence[Curve], target: float) -> None:
    """A logarithmic axis around the target."""
    limits = target / REACH, target * REACH
    shown = [v for curve in curves for v in curve.variance if limits[0] <= v <= limits[1]]
    low, high = min([target / 10, *shown]) / 2, max([target * 10, *shown]) * 2
    if any((outside(curve.variance, *limits) == "v").any() for curve in curves):
        low /= 10  # what is on the edge stays apart from what is on the axis
    axes.set(yscale="log", ylim=(low, high), ylabel="variance of the output\n(log scale)")
    axes.axhline(target, color=GREY, linestyle=":", zorder=1)
    for text, height, aligned in (("← exploding", 1, "top"), ("vanishing →", 0, "bottom")):
        axes.annotate(
            text, (1.008, height), xycoords="axes fraction", verticalalignment=aligned,
            rotation=-90, color=GREY, fontsize="small",
        )  # fmt: skip


def mean_axis(axes: Axes, curves: Sequence[Curve], target: float) -> None:
    """An axis around zero: linear, or beyond the size of a typical output logarithmic where a mean needs it."""
    unit = math.sqrt(target)
    shown = [abs(m) for curve in curves for m in curve.mean if abs(m) <= unit * REACH]
    limit = max([unit, *(1.2 * m for m in shown)])
    label = "mean of the output"
    if limit > 10 * unit:
        axes.set_yscale("symlog", linthresh=unit, linscale=2)
        axes.yaxis.get_major_locator().set_params(numticks=5)  # type: ignore[call-arg]
        label, limit = f"{label}\n(log beyond ±{unit:.3g})", 3 * limit
    axes.set(ylim=(-limit, limit), ylabel=label)
    axes.axhline(0, color=GREY, linestyle=":", zorder=1)


def draw(axes: Axes, report: Report, curves: Sequence[Curve], moment: Moment) -> None:
    """The curves: lines through the outputs of weights, filled markers on them, open ones for modules."""
    weights = np.array([row.gain is not None for row in report], bool)
    for curve in curves:
        values = np.clip(moment(curve), *axes.get_ylim())
        where = outside(moment(curve), *axes.get_ylim())
        if curve.look.line:
            _line(axes, curve, values, weights & np.isfinite(values))
        _markers(axes, curve, values, weights & (where == ""), curve.look.weight, curve.look.color)
        _markers(axes, curve, values, ~weights & (where == ""), curve.look.module, "none")
        _edge(axes, curve, np.where(np.isfinite(values), values, axes.get_ylim()[0]), where)


def outside(values: Floats, low: float, high: float) -> NDArray[np.str_]:
    """For each value the marker that says why an axis cannot show it; empty where it can."""
    return np.select([np.isnan(values), values < low, values > high], ["x", "v", "^"], "")


def _line(axes: Axes, curve: Curve, values: Floats, which: NDArray[np.bool_]) -> None:
    depth = np.flatnonzero(which)
    style: dict[str, Any] = {"color": curve.look.color, "linestyle": curve.look.line, "zorder": curve.look.layer}
    axes.plot(depth, values[which], linewidth=1.3, **style)


def _markers(axes: Axes, curve: Curve, values: Floats, which: NDArray[np.bool_], marker: str, face: str) -> None:
    size = curve.look.size * float(np.clip(40 / math.sqrt(len(values) or 1), 2.0, 6.0))
    style: dict[str, Any] = {"color": curve.look.color, "markerfacecolor": face, "zorder": curve.look.layer}
    axes.plot(np.flatnonzero(which), values[which], marker, markersize=size, markeredgewidth=0.9, **style)


def _edge(axes: Axes, curve: Curve, values: Floats, where: NDArray[np.str_]) -> None:
    style: dict[str, Any] = {"color": curve.look.color, "linestyle": "", "markersize": 6, "gid": OUTSIDE_ID}
    for marker in OUTSIDE:
        which = curve.present & (where == marker)
        if which.any():
            axes.plot(np.flatnonzero(which), values[which], marker=marker, clip_on=False, zorder=5, **style)
