"""What commands print: rich on a terminal, plain ASCII text elsewhere."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

WIDTH = 80

# Called with a label, the steps done of it, and a remark.
Advance = Callable[[str, int, str], None]


class Screen(Protocol):
    plus_minus: str
    block: str  # of bars
    mark: str  # on bars

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
        """Cells under their headings, aligned to the left in the columns `left` and to the right elsewhere."""
        ...

    def text(self, paragraph: str) -> None: ...

    def line(self, unbroken: str) -> None: ...

    def progress(self, labels: Sequence[str], total: int) -> AbstractContextManager[Advance]:
        """A bar of `total` steps for each of the labels."""
        ...


def screen(quiet: bool) -> Screen:
    interactive = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return Terminal() if interactive and not quiet else Plain()


def print_json(result: Any) -> None:
    """All that a command prints; NaN and infinity, which JSON has no words for, are errors."""
    print(json.dumps(result, indent=2, allow_nan=False))


class Plain:
    plus_minus = "+/-"
    block = "#"
    mark = "|"

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        print()
        for row in (headings, *rows):
            cells = [text.ljust(widths[k]) if k in left else text.rjust(widths[k]) for k, text in enumerate(row)]
            print("  ".join(cells).rstrip())
        print()

    def text(self, paragraph: str) -> None:
        # In one piece and at once: a reader may leave after its first line.
        print(textwrap.fill(paragraph, WIDTH) + "\n", end="", flush=True)

    def line(self, unbroken: str) -> None:
        print(unbroken)

    @contextmanager
    def progress(self, labels: Sequence[str], total: int) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _label, _done, _remark: None


class Terminal:
    plus_minus = "±"
    block = "█"
    mark = "│"

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="left" if number in left else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        # A terminal too narrow for it breaks its lines, where rich would leave out digits.
        natural = self._console.measure(table, options=self._console.options.update(width=10_000)).maximum
        Console(width=max(natural, self._console.width)).print(table, crop=False)

    def text(self, paragraph: str) -> None:
        self._console.print(paragraph, width=min(WIDTH, self._console.width))

    def line(self, unbroken: str) -> None:
        self._console.print(unbroken, soft_wrap=True)

    @contextmanager
    def progress(self, labels: Sequence[str], total: int) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[remark]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            tasks = {label: bars.add_task(label, total=total, start=False, remark="") for label in labels}

            def advance(label: str, done: int, remark: str) -> None:
                bars.start_task(tasks[label])
                bars.update(tasks[label], completed=done, remark=remark)

            yield advance
