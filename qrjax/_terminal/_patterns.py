"""Names chosen by patterns, as a shell's, or by a function of a name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from qrjax._terminal._names import listed, meant
from qrjax._terminal._received import received

Selection = str | Sequence[str] | Callable[[str], bool] | None
T = TypeVar("T")


def patterns_of(name: str, selection: Any) -> list[str]:
    """The patterns of a selection that is neither a function nor None.

    Raises:
      TypeError: if it is no pattern, nor patterns.
    """
    patterns = [selection] if isinstance(selection, str) or not isinstance(selection, Iterable) else list(selection)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"`{name}` must be a pattern, patterns or a function of a path, got {received(selection)}")
    return patterns


def chosen_by(name: str, selection: Any) -> Callable[[str], bool]:
    """Whether a name is selected; errors as `patterns_of`."""
    if callable(selection):
        return selection
    patterns = patterns_of(name, selection)
    return lambda path: any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def first_match(table: Mapping[str, T], path: str, default: T) -> T:
    """The value of the first pattern that a name matches."""
    return next((value for pattern, value in table.items() if fnmatch.fnmatchcase(path, pattern)), default)


def check_patterns(name: str, patterns: Iterable[str], paths: Iterable[str], what: str = "parameter") -> None:
    """Nothing, if each pattern matches one of the paths.

    Raises:
      ValueError: otherwise.
    """
    paths = list(dict.fromkeys(paths))
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise ValueError(
                f"`{name}` has the pattern {pattern!r}, which matches no {what}; {what}s: {listed(paths)}; a pattern "
                f"may use *, as in '*/kernel'{meant(pattern, paths)}"
            )
