"""The command `qrjax`: its parser, and what becomes of its failures."""

from __future__ import annotations

import _thread
import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import qrjax
from qrjax._cli import _demo
from qrjax._cli._failure import Failure

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Each has NAME, HELP, DESCRIPTION, EXAMPLES, add_arguments(parser) and run(args).
COMMANDS = (_demo,)

FAILED, WRONG_ARGUMENTS, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (by default the process's own) and returns its exit status.

    0: done; 1: a failure that the message on stderr says how to repair; 2: wrong arguments; 130:
    interrupted; 141: the reader of stdout went away.
    """
    _escape_what_cannot_be_encoded()
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        status = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # while a failure to do so can still be reported
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except BrokenPipeError:
        _discard_stdout()
        status = BROKEN_PIPE
    except (Failure, OSError) as error:
        _discard_stdout()
        print(f"qrjax: error: {error}", file=sys.stderr)
        status = FAILED
    finally:
        sys.unraisablehook = hook
    return status


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help, the version or the error
        return int(stop.code or 0)
    if args.command is None:
        parser.print_help(sys.stderr)
        return WRONG_ARGUMENTS
    args.run(args)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qrjax",
        description="Quasirandom, addressable, signal-preserving weight initialization for JAX and Flax.",
        epilog="example:\n  qrjax demo --seeds 3 --out curves.png\n\n`qrjax COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qrjax {qrjax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        added = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def _escape_what_cannot_be_encoded() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # None, replaced by another object, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


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
