"""Results of seeds, epoch by epoch, as box plots side by side."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._plot._arrays import Floats
from qrjax._plot._axes import entry, panel, plain, titled
from qrjax._plot._colors import ink, muted
from qrjax._plot._legend import legend
from qrjax._plot._seeds import labelled, number, runs
from qrjax._plot._styles import Style, styled
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

# Boxes that a picture of 700 pixels can hold, and groups of them.
BOXES, GROUPS = 36, 12
# Of the distance between two groups, what the boxes of one take.
WIDTH = 0.84
FILL = 0.35


def boxes(
    results: Mapping[str, Any], *, ylabel: str = "test accuracy, %", epochs: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draws the results of all seeds after every epoch: a group of boxes for an epoch, a box for a name.

    A box reaches from the first to the third quartile, with a line at the median; whiskers reach to the last seed
    within 1.5 times its height, and seeds beyond are markers. NaN and infinities are left out, and the legend counts
    the seeds that end with one, as diverged, and those that have one before, as gaps.

    Args:
      results: names and arrays of (seeds, epochs). The numbers of seeds may differ, those of epochs not.
      ylabel: what the results are, with the unit.
      epochs: which to show, counted from 1. By default all, or if they are many, evenly chosen ones with the first and
        the last: at most 12, and fewer for more than three names.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `results` does not map names to arrays of real numbers, `epochs` is not integers, or `ax` no Axes.
      ValueError: if `results` or an array is empty, shapes do not fit, or an epoch is not there.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import numpy as np, qrjax
      >>> seeds = 90 + np.arange(10) / 2 + np.random.default_rng(0).normal(size=(20, 10))
      >>> axes = qrjax.plot.boxes({"glorot_uniform_qr()": seeds, "glorot_uniform": seeds - 1})
      >>> len(axes.patches), axes.get_title()
      (20, 'Quartiles of 20 seeds after each epoch')

    Reference:
      Miranskyy, Sorrenti, Thakar 2024, arXiv 2408.02654, has such figures.
    """
    tables = runs("results", results, "epochs")
    count = next(iter(tables.values())).shape[1]
    shown = _spread(count, len(tables)) if epochs is None else _checked(epochs, count)
    axes = panel(ax)
    styles = styled(tables, axes)
    for place, (name, table) in enumerate(tables.items()):
        _draw(axes, table[:, [e - 1 for e in shown]], styles[name], place, len(tables))
    axes.set(xlim=(-0.5, len(shown) - 0.5), xlabel="epoch", ylabel=ylabel)
    axes.set_xticks(range(len(shown)), [str(epoch) for epoch in shown])
    for between in range(1, len(shown)):
        axes.axvline(between - 0.5, color=muted(axes, 0.4), linewidth=0.5, zorder=0)
    plain(axes, "y")
    titled(axes, _title(tables, shown, count))
    # Below, as accuracies grow, and as room above them would be marked with more than 100 %.
    legend(axes, _entries(axes, tables, styles), own=ax is None, above=False, corners=False)
    return axes


def _spread(count: int, names: int) -> list[int]:
    """Epochs from the first to the last, evenly chosen where not all have room."""
    most = min(GROUPS, max(2, BOXES // names))
    return [int(e) for e in np.unique(np.linspace(1, count, min(count, most)).round())]


def _checked(epochs: Any, count: int) -> list[int]:
    try:
        found = [operator.index(epoch) for epoch in epochs]
    except TypeError:
        raise TypeError(f"`epochs` must be integers, got {received(epochs)}; for example [1, 5, 10]") from None
    if not found:
        raise ValueError("`epochs` is empty; None chooses")
    wrong = [epoch for epoch in found if not 1 <= epoch <= count]
    if wrong:
        raise ValueError(f"`epochs` must be from 1 to {count}, the columns of `results`, got {wrong[0]}")
    return sorted(set(found))


def _draw(axes: Axes, columns: Floats, style: Style, place: int, names: int) -> None:
    width = WIDTH / names
    line = {"color": style.color, "linewidth": 1.0}
    axes.boxplot(
        [column[np.isfinite(column)] for column in columns.T],
        positions=np.arange(columns.shape[1]) + (place - (names - 1) / 2) * width, widths=0.8 * width,
        manage_ticks=False, patch_artist=True,
        boxprops=_box(style), whiskerprops=line, capprops=line, medianprops={"color": ink(axes), "linewidth": 1.8},
        flierprops={"marker": style.marker, "markersize": 3, "color": style.color, "markeredgecolor": style.color},
    )  # fmt: skip


def _box(style: Style) -> dict[str, Any]:
    return {"facecolor": (style.color, FILL), "hatch": style.hatch, "edgecolor": style.color, "linewidth": 1.0}


def _entries(axes: Axes, tables: Mapping[str, Floats], styles: Mapping[str, Style]) -> list[Patch]:
    from matplotlib.patches import Patch

    return [Patch(**_box(style), label=entry(axes, labelled(name, tables[name]))) for name, style in styles.items()]


def _title(tables: Mapping[str, Floats], shown: Sequence[int], count: int) -> str:
    after = "each epoch" if len(shown) == count else f"{len(shown)} of {count} epochs"
    return f"Quartiles of {number(tables)} after {after}"
