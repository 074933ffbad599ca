"""Compiled programs that are kept from one run of the tests to the next, and for the processes of one run.

They lie where pytest keeps what it keeps, so that `pytest --cache-clear` removes them.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import time
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jaxlib

# Of what JAX raises where a program cannot be written or read, or where its insides are others.
INSIDES = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)

UNUSED = 10 * 24 * 3600  # seconds after which a program is forgotten


class Programs:
    """A folder of them, by a digest of what they are compiled from and of who compiles."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._compiler = f"{jax.__version__} {jaxlib.__version__} {os.environ.get('XLA_FLAGS')} {_processor()}".encode()

    def found_or_made(self, key: bytes, load: Callable[[bytes], Any], make: Callable[[], Any]) -> Any:
        """What `load` makes of the program that is kept for the key; else what `make` compiles, kept from then on."""
        file = self._folder / hashlib.sha256(self._compiler + b" " + key).hexdigest()
        with contextlib.suppress(OSError, zlib.error, *INSIDES):
            found = load(zlib.decompress(file.read_bytes()))
            os.utime(file)
            return found
        made = make()
        with contextlib.suppress(OSError, *INSIDES):
            part = file.with_suffix(f".{os.getpid()}")  # in whole or not at all, as another process may read it
            part.write_bytes(zlib.compress(made.serialize(), 1))
            part.replace(file)
        return made

    def forget(self) -> None:
        """What no test has used for days, as where the code has changed."""
        oldest = time.time() - UNUSED
        for file in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < oldest:
                    os.unlink(file)


def _processor() -> str:
    """What compiled code depends on."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"
