"""One panel: an axis for a moment, the curves on it, and what lies outside of it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrjax._interpreter._report import Report
from qrjax._plot._axes import marker_size, wide
from qrjax._plot._colors import muted
from qrjax._plot._curves import Curve, Floats
from qrjax._plot._styles import seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Quantity(NamedTuple):
    """What one panel shows."""

    axis: Callable[[Axes, Sequence[Curve], float], None]
    values: Callable[[Curve], Floats]
    present: Callable[[Curve], NDArray[np.bool_]]


# Moments this many times above or below the target are as good as infinite or zero, and would flatten the rest.
REACH = 1e36
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
    axes.axhline(target, color=muted(axes), linestyle=":", zorder=1)
    for text, height, aligned in (("← exploding", 1, "top"), ("vanishing →", 0, "bottom")) if wide(axes) else ():
        axes.annotate(
            text, (1.008, height), xycoords="axes fraction", verticalalignment=aligned,
            rotation=-90, color=muted(axes), fontsize="small",
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
    axes.axhline(0, color=muted(axes), linestyle=":", zorder=1)


def gradient_axis(axes: Axes, curves: Sequence[Curve], target: float) -> None:  # noqa: ARG001
    """A logarithmic axis around what there is, ten times longer at least."""
    shown = [v for curve in curves for v in curve.gradient if 1 / REACH <= v <= REACH] or [1.0]
    middle = math.sqrt(min(shown)) * math.sqrt(max(shown))
    low, high = min(middle / 10, *shown) / 2, max(middle * 10, *shown) * 2
    if any((outside(curve.gradient, 1 / REACH, REACH) == "v").any() for curve in curves):
        low /= 10  # what is on the edge stays apart from what is on the axis
    axes.set(yscale="log", ylim=(low, high), ylabel="squared gradient\n(log scale)")


VARIANCE = Quantity(variance_axis, operator.attrgetter("variance"), operator.attrgetter("present"))
MEAN = Quantity(mean_axis, operator.attrgetter("mean"), operator.attrgetter("present"))
GRADIENT = Quantity(gradient_axis, operator.attrgetter("gradient"), operator.attrgetter("has_gradient"))


def quantities(report: Report) -> tuple[Quantity, Quantity]:
    """Those of the upper panel and of the lower one."""
    return VARIANCE, GRADIENT if report.has_gradients else MEAN


def draw(axes: Axes, report: Report, curves: Sequence[Curve], quantity: Quantity) -> None:
    """The curves: lines through the outputs of weights, filled markers on them, open ones for modules."""
    weights = np.array([row.gain is not None for row in report], bool)
    for curve in curves:
        values = np.clip(quantity.values(curve), *axes.get_ylim())
        where = outside(quantity.values(curve), *axes.get_ylim())
        if curve.look.line:
            _line(axes, curve, values, weights & np.isfinite(values))
        _markers(axes, curve, values, weights & (where == ""), curve.look.weight, seen(curve.look.color, axes))
        _markers(axes, curve, values, ~weights & (where == ""), curve.look.module, "none")
        _edge(axes, curve, np.where(np.isfinite(values), values, axes.get_ylim()[0]), where, quantity.present(curve))


def outside(values: Floats, low: float, high: float) -> NDArray[np.str_]:
    """For each value the marker that says why an axis cannot show it; empty where it can."""
    return np.select([np.isnan(values), values < low, values > high], ["x", "v", "^"], "")


def _line(axes: Axes, curve: Curve, values: Floats, which: NDArray[np.bool_]) -> None:
    style: dict[str, Any] = {"color": seen(curve.look.color, axes), "zorder": curve.look.layer}
    axes.plot(np.flatnonzero(which), values[which], linestyle=curve.look.line, linewidth=1.3, **style)


def _markers(axes: Axes, curve: Curve, values: Floats, which: NDArray[np.bool_], marker: str, face: str) -> None:
    size = curve.look.size * marker_size(axes) * float(np.clip(9 / math.sqrt(len(values) or 1), 0.45, 1.3))
    style: dict[str, Any] = {"color": seen(curve.look.color, axes), "markerfacecolor": face, "zorder": curve.look.layer}
    axes.plot(np.flatnonzero(which), values[which], marker, markersize=size, markeredgewidth=0.9, **style)


def _edge(axes: Axes, curve: Curve, values: Floats, where: NDArray[np.str_], present: NDArray[np.bool_]) -> None:
    style: dict[str, Any] = {"color": seen(curve.look.color, axes), "linestyle": "", "markersize": 6, "gid": OUTSIDE_ID}
    for marker in OUTSIDE:
        which = present & (where == marker)
        if which.any():
            axes.plot(np.flatnonzero(which), values[which], marker=marker, clip_on=False, zorder=5, **style)
