"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside `path`, links followed, moved onto it if the block ends well and removed if it does not.

    Raises:
      OSError: if the folder does not exist or cannot be written, or the disk is full; `path` is then as it was.
    """
    target = Path(os.path.realpath(path))
    # Of a fixed length: a suffix could make a long name too long.
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".qrjax-", suffix=".tmp")
    except OSError as error:  # which names the file beside it
        missing = f"; the folder {str(target.parent)!r} does not exist" if not target.parent.is_dir() else ""
        raise type(error)(error.errno, f"{error.strerror}{missing}", os.fspath(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _as_readable_as_others(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _as_readable_as_others(path: Path) -> None:
    # Temporary files are for their owner alone; what a person asked for is as readable as what `open` makes.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
