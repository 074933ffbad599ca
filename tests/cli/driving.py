"""The command line as a user drives it: in subprocesses and in this one, in a pseudo-terminal and without one."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

from qrjax._cli import main

QRJAX = (sys.executable, "-W", "error", "-m", "qrjax")
ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
PNG = b"\x89PNG\r\n\x1a\n"


def run(*arguments, **options):
    return subprocess.run([*QRJAX, *arguments], capture_output=True, text=True, timeout=300, check=False, **options)


def in_terminal(*arguments, env, interrupt_at=None):
    """What a run in a pseudo-terminal shows, and its exit status; interrupted once `interrupt_at` shows."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen([*QRJAX, *arguments], env=env, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    while chunk := read(terminal):
        shown += chunk
        if interrupt_at is not None and interrupt_at in shown:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(terminal)
    return shown.decode(), process.wait(timeout=60)


def in_terminal_here(*arguments, columns=100):
    """As `in_terminal`, without the seconds that a process takes to import everything."""
    terminal, inside = pty.openpty()
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read(terminal), b"")))
    reader.start()
    with pytest.MonkeyPatch.context() as patch, open(inside, "w", encoding="utf-8") as stream:
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns)}.items():
            patch.setenv(name, value)
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, stream)
        status = main(arguments)
    reader.join()
    os.close(terminal)
    return b"".join(shown).decode(), status


def read(terminal):
    try:
        return os.read(terminal, 2**16)
    except OSError:  # Linux's way to say that the other end is closed
        return b""
