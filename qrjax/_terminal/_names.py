"""Names that people give: those that there are, and which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

# As many alternatives does a message ask about, and so many names does it list.
ASKED, LISTED = 2, 20


def choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """`value`, if it is one of `choices`: strings, and perhaps None.

    Raises:
      ValueError: if it is not; the message has the choices and the nearest of them.
    """
    if (value is None or isinstance(value, str)) and value in choices:
        return value
    from qrjax._terminal._received import received  # which loads JAX

    got = repr(value) if isinstance(value, str) else received(value)
    raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {got}{meant(value, choices)}")


def meant(value: Any, names: Iterable[Any]) -> str:
    """A question that ends a message about an unknown name; empty if none of `names` is near."""
    found = nearest(value, names) if isinstance(value, str) else []
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def nearest(word: str, names: Iterable[Any]) -> list[str]:
    """The nearest of the names, whatever their case: those that begin or end like it, or else that look like it."""
    folded = {name.lower(): name for name in names if isinstance(name, str)}
    wanted = word.lower()
    longer = [name for name in folded if wanted and (name.startswith(wanted) or name.endswith(f"/{wanted}"))]
    found = longer[:ASKED] or difflib.get_close_matches(wanted, folded, ASKED)
    return [folded[name] for name in found]


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "") if names else "none"
