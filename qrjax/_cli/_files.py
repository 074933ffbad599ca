"""Where a file can be written, found out before any work is done, and its writing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qrjax._cli._failure import Failure
from qrjax._files._replacing import replacing

# Formats of checkpoints that are written.
WRITTEN = (".npz", ".safetensors")


def shown(path: Path) -> str:
    """A path as one writes it in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def resolved_for_writing(text: str) -> Path:
    """`text` as an absolute path, links followed, which can be replaced as a whole.

    Raises:
      OSError: if it cannot; its `strerror` says why.
    """
    path = Path(os.path.realpath(text))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {os.path.dirname(text)!r} does not exist")
    # What replaces it is first written beside it, under a name as short as this.
    trial = path.parent / f".qrjax-{os.getpid()}.tmp"
    trial.touch()
    trial.unlink()
    return path


@contextmanager
def written(path: Path, remedy: str) -> Iterator[Path]:
    """Where to write what becomes the file at `path`, whole or not at all.

    Raises:
      Failure: if that does not work; it ends with the remedy.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise Failure(f"cannot write {str(path)!r}: {error.strerror or error}; {remedy}") from error
