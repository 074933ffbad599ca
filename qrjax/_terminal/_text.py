"""Tables of rich as text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def text_of(table: Table, width: int) -> str:
    """What a table shows on a page of so many columns, without colors, wherever this runs."""
    from rich.console import Console

    stream = io.StringIO()
    # In a notebook rich would show HTML and leave the text empty.
    Console(file=stream, width=width, color_system=None, force_terminal=False, force_jupyter=False).print(table)
    return stream.getvalue()
