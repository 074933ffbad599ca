"""The command `qrjax`, and what becomes of its failures."""

from __future__ import annotations

import _thread
import codecs
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click
from click.shell_completion import shell_complete

from qrjax._cli._commands import NAME, complaint, group
from qrjax._cli._failure import Failure

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

COMPLETION = "_QRJAX_COMPLETE"
# One letter each, where a terminal has but ASCII, so that columns stay where they are.
ASCII = {"²": "2", "Δ": "d", "±": "~", "…": "."}
FAILED, WRONG_ARGUMENTS, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (by default the process's own) and returns its exit status.

    0: done; 1: a failure that the message on stderr says how to repair; 2: wrong arguments; 130:
    interrupted; 141: the reader of stdout went away.
    """
    _spell_what_cannot_be_encoded()
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()  # while a failure to do so can still be reported
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except BrokenPipeError:
        _discard_stdout()
        status = BROKEN_PIPE
    except (Failure, OSError) as error:
        _discard_stdout()
        _complain(f"{NAME}: error: {error}")
        status = FAILED
    finally:
        sys.unraisablehook = hook
    return status


def _run(arguments: list[str]) -> int:
    if instruction := os.environ.get(COMPLETION):
        return _complete(instruction)
    try:
        # Not by `group.main`, which has its own way with interrupts and broken pipes.
        with group.make_context(NAME, arguments) as context:
            group.invoke(context)
    except click.exceptions.Exit as stop:  # the help or the version has been printed
        return stop.exit_code
    except click.UsageError as error:
        _complain(complaint(error))
        return WRONG_ARGUMENTS
    except click.ClickException as error:
        raise Failure(error.format_message()) from error
    return 0


def _complete(instruction: str) -> int:
    status = shell_complete(group, {}, NAME, COMPLETION, instruction)
    if status:
        _complain(f"{NAME}: error: `{COMPLETION}` must be bash_source, zsh_source or fish_source, got {instruction!r}")
    return WRONG_ARGUMENTS if status else 0


def _complain(message: str) -> None:
    if sys.stderr is not None:  # or `print` would take stdout in its place
        print(message, file=sys.stderr)


def _spell_what_cannot_be_encoded() -> None:
    codecs.register_error(NAME, _spelled)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # None, replaced by another object, or closed
            stream.reconfigure(errors=NAME)  # type: ignore[union-attr]


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(ASCII.get(a) or a.encode("ascii", "backslashreplace").decode() for a in letters), error.end


def _interrupt_again(unraisable: UnraisableHookArgs) -> None:
    # Python drops what is raised in finalizers and in callbacks of the garbage collector. jaxlib has one of
    # these, where every interrupt lands that comes during a collection.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
    else:
        threading.Timer(0.01, _thread.interrupt_main).start()  # when this callback is over


def _discard_stdout() -> None:
    """Flushes stdout if that works; what it still holds would otherwise fail again, loudly, when Python ends."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(status: int) -> NoReturn:
    # Not by `return`: after an interrupted compilation jaxlib 0.10 crashes in the interpreter's shutdown.
    _discard_stdout()
    os._exit(status)
