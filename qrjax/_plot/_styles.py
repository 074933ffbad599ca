"""How names are told apart: by color, by lightness, and by line and marker or by hatch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from qrjax._plot._colors import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = str | tuple[int, tuple[int, ...]]


class Style(NamedTuple):
    """Of a name's line or box."""

    color: str
    line: Line
    marker: str
    hatch: str


# Okabe and Ito's palette for all kinds of color vision. Their first color is black, for which the color of text stands
# here, as black is not seen in dark styles. The first five have lightnesses of 0, 46, 71, 61 and 54 of 100.
TEXT, BLUE, VERMILION = "text", "#0072B2", "#D55E00"
STYLES = (
    Style(TEXT, "-", "o", ""),
    Style(BLUE, "--", "s", "////"),
    Style("#E69F00", "-.", "^", "...."),
    Style("#CC79A7", ":", "D", "xxxx"),
    Style(VERMILION, (0, (8, 2, 2, 2, 2, 2)), "v", "\\\\\\\\"),
    Style("#56B4E9", (0, (10, 3)), "P", "----"),
    Style("#009E73", (0, (2, 4)), "X", "||||"),
)


def seen(color: str, axes: Axes) -> str:
    """The color, or for TEXT that of the text of these Axes."""
    return ink(axes) if color == TEXT else color


def styled(names: Iterable[str], axes: Axes) -> dict[str, Style]:
    """A style for every name. Beyond the last color the first comes again, with other lines and hatches."""
    found = {}
    for n, name in enumerate(names):
        other = STYLES[(n + n // len(STYLES)) % len(STYLES)]
        found[name] = other._replace(color=seen(STYLES[n % len(STYLES)].color, axes))
    return found
