"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def resolved_for_writing(text: str) -> Path:
    """`text` as an absolute path, links followed, which `replacing` can write.

    Raises:
      OSError: if it cannot; its text says why and what to do.
    """
    path = Path(os.path.realpath(text))
    if path.is_dir():
        raise OSError("it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OSError(f"the folder {str(path.parent)!r} does not exist; create it, or choose another")
    trial = _beside(path)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(f"{reason} in {str(path.parent)!r}; choose a folder you may write in") from None
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it if the block ends well and removed if it does not."""
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # Of a fixed length: a suffix could make a long name too long.
    return path.parent / f".qrjax-{os.getpid()}.tmp"
