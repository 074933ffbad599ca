"""Whose an error is: a person's own code's, an option's, or the work's. None of them shows our traceback."""

from __future__ import annotations

import contextlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

import qrjax
from qrjax._cli._failure import Failure

PACKAGE = Path(qrjax.__file__).parent
# What lies here is nobody's own code, nor is what has no file.
LIBRARIES = (PACKAGE, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")))
# Characters of a message; what is cut off rarely helps and may fill the screen.
LETTERS = 300


@contextmanager
def own_code(what: str, remedy: Callable[[BaseException], str] = lambda _: "") -> Iterator[None]:
    """Runs a person's code, whose prints go to stderr and whose errors become a line: type, message and place."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Failure, click.ClickException):
        raise
    except (Exception, SystemExit) as error:
        raise Failure(f"{what}: {described(error)}{remedy(error)}") from error


@contextmanager
def own_errors(options: Mapping[str, str]) -> Iterator[None]:
    """What qrjax raises: of an argument in `options`, {"select": "--select"}, a usage error; else a failure."""
    try:
        yield
    except (TypeError, ValueError, LookupError) as error:
        if not _is_ours(error):
            raise
        message = str(error.args[0] if error.args else error)
        named = re.match(r"`(\w+)` (.*)", message, re.DOTALL)
        if named and named[1] in options:
            raise click.BadParameter(named[2], param_hint=options[named[1]]) from error
        raise Failure(message) from error


def described(error: BaseException) -> str:
    """An error in one line: its type, the start of its message, and the last line of a person's own code."""
    lines = [line.strip() for line in str(error.msg if isinstance(error, SyntaxError) else error).splitlines()]
    message = " ".join(filter(None, lines))
    if len(message) > LETTERS:
        message = message[:LETTERS].rsplit(" ", 1)[0] + " ..."
    name, place = type(error).__name__, _place(error)
    return f"{name}: {message}{place}" if message else f"{name}{place}"


def _is_ours(error: BaseException) -> bool:
    """Whether qrjax raised it, rather than Python where qrjax calls a person's function."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return Path(frame.filename).is_relative_to(PACKAGE) and (frame.line or "").startswith("raise ")


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return _written(error.filename, error.lineno, error.text)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and not any(path.is_relative_to(library) for library in LIBRARIES):
            return _written(frame.filename, frame.lineno, frame.line)
    return ""


def _written(file: str, line: int | None, code: str | None) -> str:
    with contextlib.suppress(ValueError):  # elsewhere than below the current folder
        file = str(Path(file).relative_to(Path.cwd()))
    return f" ({file}, line {line}{': ' + code.strip() if code else ''})"
