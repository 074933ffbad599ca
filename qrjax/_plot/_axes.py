"""The Axes that a picture is drawn on, given or new, and what all pictures do to theirs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qrjax._plot._matplotlib import required

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches of a new figure: 700 pixels at matplotlib's 100 an inch.
SIZE = (7.0, 4.5)
# Letters that fit into a width of one letter's height.
LETTERS = 2.0
# Letters as wide as what a legend has beside its text.
HANDLE = 12


def panel(ax: Any, size: tuple[float, float] = SIZE) -> Axes:
    """`ax`, or the Axes of a new figure of pyplot's, which a notebook shows by itself."""
    axes_type = required().axes.Axes
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, axes_type):
        raise TypeError(f"`ax` must be one of matplotlib's Axes, got {ax!r}; None makes a figure")
    return ax


def plain(axes: Axes, grid: str = "both") -> None:
    """Fine lines behind what is drawn, and no box around it."""
    axes.grid(axis=grid, alpha=0.3, linewidth=0.5)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def titled(axes: Axes, title: str) -> None:
    """A title, in as many lines as it needs above the Axes."""
    axes.set_title(_broken(axes, title, "medium", 0), fontsize="medium")


def entry(axes: Axes, text: str, size: str) -> str:
    """A text for a legend within the Axes, in as many lines as it needs there."""
    return _broken(axes, text, size, HANDLE)


def _broken(axes: Axes, text: str, size: str, taken: int) -> str:
    from matplotlib.font_manager import FontProperties

    points = axes.get_window_extent().width / axes.figure.dpi * 72
    letters = int(points / FontProperties(size=size).get_size_in_points() * LETTERS) - taken
    return textwrap.fill(text, max(16, letters), break_on_hyphens=False)


def legend_along(axes: Axes, handles: Sequence[Any], *, above: bool) -> None:
    """A legend inside of the Axes at an end of the linear vertical axis, in up to three columns that fit."""
    for columns in (3, 2, 1):
        legend = axes.legend(
            handles=handles, loc="upper center" if above else "lower center", ncols=columns, fontsize="small",
            framealpha=1, edgecolor="none",
        )  # fmt: skip
        if legend.get_window_extent().width <= axes.get_window_extent().width:
            break
    _make_room(axes, above)


def _make_room(axes: Axes, above: bool) -> None:
    """Moves the end of the axis until the legend covers nothing."""
    legend = axes.get_legend()
    assert legend is not None
    # Some more, as a layout may still make the Axes lower.
    share = min(1.15 * legend.get_window_extent().height / axes.get_window_extent().height + 0.03, 0.7)
    low, high = axes.get_ylim()
    room = (high - low) * share / (1 - share)
    axes.set_ylim((low, high + room) if above else (low - room, high))
