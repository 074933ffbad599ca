"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def resolved_for_writing(text: str) -> Path:
    """`text` as an absolute path, links followed, which `replacing` can write.

    Raises:
      OSError: if it cannot; its `strerror` says why.
    """
    path = Path(os.path.realpath(text))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {str(path.parent)!r} does not exist")
    trial = _beside(path)
    trial.touch()
    trial.unlink()
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
