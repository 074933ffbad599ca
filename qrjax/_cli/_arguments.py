"""Types of command-line arguments; a message that begins in lower case follows the name of its argument."""

from __future__ import annotations

import functools
import math
import os
import textwrap
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click

from qrjax._cli._files import resolved_for_writing
from qrjax._terminal._names import nearest as near


class WholeNumber(click.ParamType[int]):
    """Whole numbers from `least` to `most`; not click's own, which shows these in every help."""

    name = "number"

    def __init__(self, least: int, most: float, example: str) -> None:
        self._least, self._most, self._example = least, most, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = self._least - 1
        if not self._least <= number <= self._most:
            required = f"a whole number from {self._least} to {self._most}"
            required = required if self._most < math.inf else "a positive whole number"
            self.fail(f"must be {required}, got {value!r}; for example {self._example}", param, ctx)
        return number


Positive = functools.partial(WholeNumber, 1, math.inf, "10")
Seed = functools.partial(WholeNumber, 0, 2**32 - 1, "--seed 7")


class OneOf(click.Choice[str]):
    """A choice whose error names the nearest one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:  # noqa: ARG002
        return f"must be {alternatives(self.choices)}, got {value!r}{nearest(value, self.choices)}"


class SeveralOf(click.ParamType[tuple[str, ...]]):
    """Some of the choices with commas between them, or all."""

    name = "choices"

    def __init__(self, choices: Iterable[str]) -> None:
        self.choices = tuple(choices)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        listed = f"[{'|'.join((*self.choices, 'all'))}],..."
        return listed if len(listed) < 60 else "NAMES,..."  # longer ones leave the page

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        if value == "all":
            return self.choices
        words = tuple(dict.fromkeys(str(value).split(",")))
        for word in words:
            if word not in self.choices:
                listed = f"must be {alternatives((*self.choices, 'all'))}, or several with commas between"
                self.fail(f"{listed}, got {word!r}{nearest(word, self.choices)}", param, ctx)
        return words


class OutputPath(click.Path):
    """Paths that end in one of the suffixes and can be written, checked before any work is done."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__()
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        text = os.fspath(value)
        if Path(text).suffix.lower() not in self._suffixes:
            example = f"{Path(text).stem or 'result'}{self._suffixes[0]}"
            self.fail(f"must end in {alternatives(self._suffixes)}, got {text!r}; for example {example}", param, ctx)
        try:
            return resolved_for_writing(text)
        except OSError as error:
            remedy = "name a file in an existing folder you may write to"
            self.fail(f"cannot be written, got {text!r}: {error.strerror}; {remedy}", param, ctx)


PicturePath = functools.partial(OutputPath, ".png", ".pdf", ".svg")


def alternatives(words: Iterable[str]) -> str:
    """The words as "a", "a or b", "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def nearest(word: str, words: Collection[str]) -> str:
    """A question that ends a message about an unknown `word`; empty if none of `words` is near."""
    found = near(word, words)
    return f"; did you mean {alternatives(found)}?" if found else ""


def examples(*commands: str) -> str:
    """The end of a command's help: lines to copy, which click shall not fill into a paragraph."""
    return "\n  ".join(["\b\nExamples:", *map(_broken, commands)])


def _broken(command: str) -> str:
    """A command in lines that fit a page, as the shell takes it."""
    # Elsewhere than before an option a break could fall between quotes.
    parts = command.replace(" ", "\0").replace("\0--", " --")
    lines = textwrap.wrap(parts, 74, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return " \\\n  ".join(lines).replace("\0", " ")
