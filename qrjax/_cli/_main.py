"""The command `qrjax`: its parser, and what becomes of its failures."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

import qrjax
from qrjax._cli import _demo
from qrjax._cli._failure import Failure

# Each has NAME, HELP, DESCRIPTION, EXAMPLES, add_arguments(parser) and run(args).
COMMANDS = (_demo,)

FAILED, WRONG_ARGUMENTS, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (by default the process's own) and returns its exit status.

    0: done; 1: a failure that the message on stderr says how to repair; 2: wrong arguments; 130:
    interrupted; 141: the reader of stdout went away.
    """
    _escape_what_stdout_cannot_encode()
    try:
        status = _run(argv)
        _flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        status = BROKEN_PIPE
    except Failure as failure:
        print(f"qrjax: error: {failure}", file=sys.stderr)
        status = FAILED
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


def _escape_what_stdout_cannot_encode() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # None, replaced by another object, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flush() -> None:
    """Flushes stdout while a failure to do so can still be reported."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_stdout()
        raise Failure(f"cannot write to stdout: {error.strerror}; send it elsewhere") from error


def _discard_stdout() -> None:
    # What is still buffered would fail again, with a message, when the interpreter shuts down.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
