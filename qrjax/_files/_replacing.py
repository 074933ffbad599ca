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
    except OSError as error:
        raise of_given(error, path) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _as_readable_as_others(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def of_given(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """An error on a file that stands for the one at `path`, with the name that was given."""
    folder = Path(os.path.realpath(path)).parent
    missing = "" if folder.is_dir() else f"; the folder {str(folder)!r} does not exist"
    return type(error)(error.errno, f"{error.strerror}{missing}", os.fspath(path))


def _as_readable_as_others(path: Path) -> None:
    # Temporary files are for their owner alone; what a person asked for is as readable as what `open` makes.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
