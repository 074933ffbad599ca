"""What commands print: paragraphs, tables as wide as the terminal, and bars that show how far the work is."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import click

from qrjax._terminal._tables import Table, fits, left_out, text, turned

WIDTH = 80
# Where a narrow terminal has the columns that it leaves out.
ELSEWHERE = "a wider terminal and --json have them"

# Called with a label, the steps done of it, and a remark.
Advance = Callable[[str, int, str], None]


def print_json(result: object) -> None:
    """All that a command prints; NaN and infinity, which JSON has no words for, are errors."""
    print(json.dumps(result, indent=2, allow_nan=False))


class Screen:
    """The standard output: a terminal, or elsewhere and where quiet plain ASCII text.

    Attributes:
      plus_minus: in ranges.
      block, mark: of bars of characters, and on them.
      width: the columns of the terminal; None where what is printed goes elsewhere, to which it need not fit.
    """

    def __init__(self, quiet: bool = False) -> None:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        self._lively = terminal and not quiet and os.environ.get("TERM") not in ("dumb", "unknown")
        self.plus_minus, self.block, self.mark = ("±", "█", "│") if self._lively else ("+/-", "#", "|")
        self._begun = self._gap = False
        self.width = shutil.get_terminal_size((WIDTH, 0)).columns if terminal else None

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
        """Cells under their headings, aligned to the left in the columns `left` and to the right elsewhere."""
        self.show(Table("", headings, rows, left))

    def show(self, table: Table) -> None:
        """A table that fits: names are shortened, and if that does not suffice its columns are shown as rows."""
        self.gap()
        if self.width is None or fits(table, self.width):
            heading, *lines = text(table._replace(remarks=()), self.width).splitlines()
            self.line("\n".join([click.style(heading, bold=True) if self._lively else heading, *lines]))
            missing = [] if self.width is None else left_out(table, self.width)
            if missing:
                self.gap()
                self.text(f"No room at {self.width} columns for: {', '.join(missing)}; {ELSEWHERE}.")
        else:
            self.line(turned(table, self.width))
        self.gap()
        for remark in table.remarks:
            (self.line if self.width is None else self.text)(remark)

    def text(self, paragraph: str) -> None:
        """A paragraph in lines that can be read."""
        hanging = "  " if paragraph.startswith("- ") else ""
        self.line(textwrap.fill(paragraph, min(WIDTH, self.width or WIDTH), subsequent_indent=hanging))

    def line(self, unbroken: str) -> None:
        """Lines as they are, such as one to copy."""
        # In one piece and at once: a reader may leave after the first.
        print("\n" * (self._gap and self._begun) + unbroken + "\n", end="", flush=True)
        self._gap, self._begun = False, True

    def gap(self) -> None:
        """An empty line between what was printed and what will be."""
        self._gap = True

    def note(self, words: str) -> None:
        """What is under way, on a terminal alone and beside what is printed."""
        if self._lively:
            click.echo(f"{words} ...", err=True)

    @contextmanager
    def progress(self, labels: Sequence[str], total: int) -> Iterator[Advance]:
        """A bar of `total` steps for each of the labels, and for others that come; gone at the end."""
        if not self._lively:
            yield lambda _label, _done, _remark: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[remark]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(), transient=True) as bars:
            tasks = {label: bars.add_task(label, total=total, start=False, remark="") for label in labels}

            def advance(label: str, done: int, remark: str) -> None:
                if label not in tasks:
                    tasks[label] = bars.add_task(label, total=total, start=False, remark="")
                bars.start_task(tasks[label])
                bars.update(tasks[label], completed=done, remark=remark)

            yield advance
