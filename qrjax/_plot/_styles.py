"""How names are told apart: by color, by lightness, and by line and marker or by hatch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Line = str | tuple[int, tuple[int, ...]]


class Style(NamedTuple):
    """Of a name's line or box."""

    color: str
    line: Line
    marker: str
    hatch: str


# Okabe and Ito's palette for all kinds of color vision. The first five have lightnesses of 0, 46, 71, 61 and 54 of 100.
STYLES = (
    Style("#000000", "-", "o", ""),
    Style("#0072B2", "--", "s", "////"),
    Style("#E69F00", "-.", "^", "...."),
    Style("#CC79A7", ":", "D", "xxxx"),
    Style("#D55E00", (0, (8, 2, 2, 2, 2, 2)), "v", "\\\\\\\\"),
    Style("#56B4E9", (0, (10, 3)), "P", "----"),
    Style("#009E73", (0, (2, 4)), "X", "||||"),
)


def styled(names: Iterable[str]) -> dict[str, Style]:
    """A style for every name. Beyond the last color the first comes again, with other lines and hatches."""
    found = {}
    for n, name in enumerate(names):
        other = STYLES[(n + n // len(STYLES)) % len(STYLES)]
        found[name] = other._replace(color=STYLES[n % len(STYLES)].color)
    return found
