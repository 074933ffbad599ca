"""Names of layers and variables in little room: their ends, which tell more than their starts; and their order."""

from __future__ import annotations

import re
from collections.abc import Sequence


def shortened(name: str, letters: int, dots: str = "…") -> str:
    """The name in at most so many letters: its steps cut, their numbers kept, or else its start left out.

    Example:
      >>> shortened("encoder/layer_12/attention/kernel", 24)
      'enc…/lay…12/att…/kernel'
    """
    if len(name) <= letters:
        return name
    *folders, last = name.split("/")
    for kept in range(letters if folders else 0, 0, -1):
        end = last if len(last) <= letters // 2 else _cut(last, 2 * kept, dots)
        cut = "/".join([*(_cut(folder, kept, dots) for folder in folders), end])
        if len(cut) <= letters:
            return cut
    return dots + name[len(dots) - letters :] if letters > len(dots) else name[:letters]


def _cut(step: str, kept: int, dots: str) -> str:
    """The start and the last number of a step of a path, in its place or behind dots, if that is shorter."""
    found = list(re.finditer(r"[\d\[\]]+", step[kept:]))
    number = found[-1] if found else None
    short = step[:kept] + dots + (number[0] + (dots if kept + number.end() < len(step) else "") if number else "")
    return short if len(short) < len(step) else step


def in_order(paths: Sequence[str]) -> list[str]:
    """Dense_2 before Dense_10 where the order is that of the alphabet; any other order has a meaning and stays."""
    alphabetical = sorted(paths, key=lambda path: path.split("/"))
    return sorted(paths, key=_natural) if list(paths) == alphabetical else list(paths)


def _natural(path: str) -> list[list[tuple[int, int, str]]]:
    """A key of which the numbers compare as numbers, step by step of the path."""
    return [
        [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", step) if part]
        for step in path.split("/")
    ]
