"""The signal through depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

from qrjax._interpreter._report import Report
from qrjax._plot._axes import SMALLER, Panels, inches, plain, text_size, titled
from qrjax._plot._colors import ink
from qrjax._plot._curves import Curve, curves, summary
from qrjax._plot._legend import legend, legend_above
from qrjax._plot._marks import entries
from qrjax._plot._matplotlib import required
from qrjax._plot._modules import groups, labels, legible
from qrjax._plot._panel import draw, quantities
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches between the names of two modules.
SPACE = 0.19
# More modules than these are not shaded: stripes would hide the curves.
STRIPES = 40


@overload
def signal(report: Report, *, default: Report | None = None, ax: Axes) -> Axes: ...


@overload
def signal(report: Report, *, default: Report | None = None, ax: Iterable[Axes] | None = None) -> Panels: ...


def signal(report: Report, *, default: Report | None = None, ax: Any = None) -> Axes | Panels:
    """Draws the variance and the mean, or the gradient, of every output against depth.

    The upper panel holds the variances, on a logarithmic axis with the weights' target. The lower one holds the means,
    linear, or logarithmic beyond the size of a typical output where a mean needs it; of a report that has gradients
    these instead, as squared norms per example (see `qrjax.Row`) on a logarithmic axis. Predicted moments are joined
    by a line, measured ones are markers: filled for a weight's output, open for a module's. A moment that the axis
    cannot show, such as a variance of zero, is a marker on the edge.

    Args:
      report: from `qrjax.measure`, or with predictions alone from `qrjax.analyze` or `qrjax.autoinit`.
      default: a report of the same model for comparison, usually of the module's own initialization:
        `qrjax.analyze(module, x, weights="module")`, or `qrjax.measure(module, module.init(key, x), x)`. Its
        measured moments are drawn if it has them, else the predicted.
      ax: None for a new figure, a pair of matplotlib's Axes for both panels, or one of them for the variances alone.

    Returns:
      The Axes (variances, means) or (variances, gradients), or where `ax` is one of them, that one.
      `.figure.savefig(path)` keeps the picture in either case.

    Raises:
      TypeError: if `report` or `default` is no report, or `ax` no Axes.
      ValueError: if `report` has no rows, or `default` is of another model.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, matplotlib, qrjax
      >>> matplotlib.use("agg")
      >>> network = nn.Sequential([nn.Dense(64), nn.relu] * 20 + [nn.Dense(10)])
      >>> x = jax.ShapeDtypeStruct((32, 64), jnp.float32)
      >>> default = qrjax.analyze(network, x, weights="module")
      >>> variances, means = qrjax.plot.signal(qrjax.analyze(network, x), default=default)
      >>> variances.get_yscale(), [text.get_text() for text in variances.get_legend().get_texts()][:2]
      ('log', ['predicted: weights, modules', 'default initialization, predicted: weights, modules'])
    """
    _check(report, "report")
    if default is not None:
        _check(default, "default")
    if not report.rows:
        raise ValueError("`report` has no rows to draw; pass what qrjax.analyze(module, x) returns")
    found = curves(report, default)
    panels = _panels(ax, report, found)
    for axes, quantity in zip(panels, quantities(report), strict=False):
        quantity.axis(axes, found, report.target)
        draw(axes, report, found, quantity)
    _name_modules(panels, report)
    handles = entries(panels, report, found)
    if ax is None:
        legend_above(panels[0], handles)
    else:
        legend(panels[0], handles, own=False, corners=False)
    return panels[0] if ax is panels[0] else panels


def _check(report: Any, name: str) -> None:
    if not isinstance(report, Report):
        raise TypeError(
            f"`{name}` must be a qrjax.Report, got {received(report)}; qrjax.analyze, qrjax.measure and "
            "qrjax.autoinit(..., report=True) return one"
        )


def _panels(ax: Any, report: Report, found: Sequence[Curve]) -> Panels:
    """One panel or two, given or new."""
    axes_type = required().axes.Axes
    if ax is None:
        return _figure(len(report), summary(found))
    panels = Panels(ax if isinstance(ax, Iterable) else (ax,))
    if len(panels) not in (1, 2) or not all(isinstance(axes, axes_type) for axes in panels):
        raise TypeError(f"`ax` must be one of matplotlib's Axes or a pair of them, got {ax!r}; None makes a figure")
    return panels


def _figure(rows: int, title: str) -> Panels:
    import matplotlib.pyplot as plt

    width = min(max(8.0, 4 + rows / 16), 14.0)
    figure, panels = plt.subplots(2, 1, sharex=True, figsize=(width, 6), height_ratios=(2.2, 1), layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize="medium")
    return Panels(panels)


def _name_modules(panels: Sequence[Axes], report: Report) -> None:
    """Names along the axis, as many as fit, and a shade behind every other module."""
    parts = groups(report.rows)
    named = legible(parts, SPACE * len(report) / inches(panels[-1])[0])
    names = labels([group.name for group in named])
    for axes in panels:
        axes.set_xlim(-0.8, len(report) - 0.2)
        axes.set_xticks(
            [group.centre for group in named], names, rotation=45, horizontalalignment="right", rotation_mode="anchor"
        )
        plain(axes, "y")
        for group in parts[::2] if len(parts) <= min(STRIPES, len(report) - 1) else ():
            axes.axvspan(group.start - 0.5, group.stop - 0.5, color=ink(axes), alpha=0.05, linewidth=0, zorder=0)
    panels[-1].set_xlabel("modules, in order of execution")
    for axes in panels:
        titled(axes, "")
        axes.tick_params("x", labelsize=SMALLER[text_size(axes)])
