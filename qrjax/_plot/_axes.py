"""The Axes that a picture is drawn on, given or new, and what all pictures do to theirs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from qrjax._plot._matplotlib import required
from qrjax._terminal._abbreviations import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Inches of a new figure: 700 pixels at matplotlib's 100 an inch.
SIZE = (7.0, 4.5)
# Letters that fit into a width of one letter's height.
LETTERS = 1.9
# Letters as wide as what a legend has beside its text.
HANDLE = 9
# Inches of Axes from which on a text has this size; below, letters are few and small.
SIZES = ((3.6, "medium"), (2.4, "small"), (0.0, "x-small"))
FEW_DECADES = 1e3
# Points of a marker on a line there.
MARKERS = {"medium": 4.5, "small": 3.5, "x-small": 2.5}
# The sizes of the other texts where a title has one.
SMALLER = {"medium": "small", "small": "x-small", "x-small": "xx-small"}


class Panels(tuple["Axes", ...]):
    """Of a picture of several: their Axes, and the figure that they are on, as one of matplotlib's Axes has it."""

    __slots__ = ()

    @property
    def figure(self) -> Figure:
        """The figure, whose `savefig(path)` keeps the picture."""
        return self[0].get_figure(root=True)  # type: ignore[return-value]


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


def inches(axes: Axes) -> tuple[float, float]:
    """The width and the height of the Axes."""
    box, dots = axes.get_window_extent(), axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    return box.width / dots, box.height / dots


def text_size(axes: Axes) -> str:
    """Of the title and of what is written along the axes, so that it fits there."""
    least = min(inches(axes)[0], 3 * inches(axes)[1])
    return next(size for inch, size in SIZES if least >= inch)


def titled(axes: Axes, title: str) -> None:
    """A title, in as many lines as it needs above the Axes; the other texts, if need be, as small and as broken."""
    size = text_size(axes)
    axes.set_title(broken(title, letters(axes, size)), fontsize=size)
    if size != "medium":
        axes.tick_params(labelsize=SMALLER[size])
    for axis, across in ((axes.xaxis, 0), (axes.yaxis, 1)):
        axis.set_label_text(broken(axis.get_label_text(), letters(axes, size, across)), fontsize=size)


def letters(axes: Axes, size: str, across: int = 0) -> int:
    """How many letters of a size fit along the horizontal axis, or along the vertical one (1)."""
    from matplotlib.font_manager import FontProperties

    return int(72 * inches(axes)[across] / FontProperties(size=size).get_size_in_points() * LETTERS)


def broken(text: str, count: int) -> str:
    """The text in lines of so many letters; a word that is longer is cut from its left."""
    count = max(8, count)
    lines = text.splitlines() or [""]
    words = [" ".join(shortened(word, count) for word in line.split(" ")) for line in lines]
    return "\n".join(textwrap.fill(line, count, break_on_hyphens=False, break_long_words=False) for line in words)


def in_numbers(axis: Axis) -> None:
    """A logarithmic axis of few decades with numbers to read, where matplotlib has a power of ten or 6 x 10^-2."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if high < FEW_DECADES * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter("{x:g}")


def color_scale(axes: Axes, image: Any, label: str) -> None:
    """What the colors of an image say, beside it."""
    size = text_size(axes)
    bar = axes.figure.colorbar(image, ax=axes)
    if bar.ax.get_yscale() == "log":
        in_numbers(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=SMALLER[size])
    bar.set_label(broken(label, letters(axes, SMALLER[size], 1)), fontsize=SMALLER[size])


def wide(axes: Axes) -> bool:
    """Whether there is room for all that a picture says."""
    return text_size(axes) == "medium"


def marker_size(axes: Axes) -> float:
    return MARKERS[text_size(axes)]


def entry(axes: Axes, text: str) -> str:
    """A text for a legend within the Axes, in as many lines as it needs there."""
    size = SMALLER[text_size(axes)]
    return broken(text, letters(axes, size) - HANDLE)
