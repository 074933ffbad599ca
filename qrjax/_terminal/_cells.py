"""Values as a reader wants to see them in a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: float | None, digits: int = 3) -> str:
    """So many digits; nothing for None."""
    if value is None:
        return ""
    return f"{value + 0.0:.{digits}g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
    """So many digits after the point; never -0.00, which is 0.00."""
    if value is None:
        return ""
    return f"{(round(value, digits) + 0.0 if math.isfinite(value) else value):{sign}.{digits}f}"


def counted(count: int, word: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def cell(value: Any) -> str:
    """A value of any kind that rows have: a number, a shape, words, numbers by axis."""
    if isinstance(value, Mapping):
        return " ".join(f"{axis}:{decimal(rho)}" for axis, rho in value.items())
    if isinstance(value, tuple):
        return ("; " if any(isinstance(item, str) for item in value) else "x").join(map(str, value))
    if value is None or isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
