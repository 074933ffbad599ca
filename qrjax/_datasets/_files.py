"""Files of a dataset: where they lie, whether they are the published ones, and what is said if they are not."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

from qrjax._datasets._dataset import Checksums

ALGORITHMS: dict[str, Callable[[], Any]] = {
    # Against damage, not against malice: also where a policy forbids MD5 for security.
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
PIECE = 2**20
GZIP_ERRORS = (BadGzipFile, EOFError, zlib.error)


class CorruptFile(ValueError):
    """A file is damaged or of another format; the message says what was expected and found, and the remedy."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


# Called with what was expected and what was found.
Corrupt = Callable[[str, str], CorruptFile]


class Publication(NamedTuple):
    """Where a dataset is published, and the digests that its publisher gives, by file name."""

    title: str
    where: str
    digests: Mapping[str, str]

    @property
    def remedy(self) -> str:
        return f"{self.title} is published at {self.where}"


class File(NamedTuple):
    path: Path
    publication: Publication

    def corrupt(self, expected: str, found: str) -> CorruptFile:
        remedy = f"get the file again: {self.publication.remedy}"
        return CorruptFile(f"cannot read {str(self.path)!r}: expected {expected}, found {found}; {remedy}")

    @contextmanager
    def opened(self, checksums: Checksums) -> Iterator[IO[bytes]]:
        """The file at its beginning, its digest checked.

        Raises:
          CorruptFile: if the digest is another.
          ValueError: if there is no digest to compare.
        """
        with self.path.open("rb") as stream:
            if checksums is not False:
                self._check(stream, self._expected(checksums))
                stream.seek(0)
            yield stream

    def _expected(self, checksums: Mapping[str, str] | Literal[True]) -> str:
        digests = self.publication.digests if checksums is True else checksums
        if self.path.name in digests:
            return digests[self.path.name]
        known = ", ".join(digests) or "no file"
        if checksums is True:
            raise ValueError(
                f"`checksums` is True, but of {str(self.path)!r} no digest is published, only of {known}; keep the "
                f"published file in the folder, pass a mapping {{{self.path.name!r}: 'sha256:...'}}, or False"
            )
        raise ValueError(
            f"`checksums` holds no digest of {str(self.path)!r}, only of {known}; add {self.path.name!r}: 'sha256:...'"
        )

    def _check(self, stream: IO[bytes], expected: str) -> None:
        algorithm, _, digest = expected.partition(":")
        found = hashlib.file_digest(stream, ALGORITHMS[algorithm]).hexdigest()  # type: ignore[arg-type]
        if found != digest.lower():
            raise self.corrupt(f"the {algorithm} digest {digest.lower()}", found)


def folder_of(folder: Path | None, publication: Publication) -> Path:
    """The folder, if there is one.

    Raises:
      ValueError, OSError: if there is none.
    """
    if folder is None:
        raise ValueError(
            f"`folder` must be the folder of {publication.title}'s files, got None; nothing is downloaded: "
            f"{publication.remedy}"
        )
    if not folder.exists():
        raise FileNotFoundError(f"`folder` {str(folder)!r} does not exist; {publication.remedy}")
    if not folder.is_dir():
        raise NotADirectoryError(f"`folder` {str(folder)!r} is a file; name the folder that holds it")
    return folder


def located(folder: Path, names: Sequence[str], publication: Publication) -> File:
    """The first of `names` in the folder.

    Raises:
      FileNotFoundError: if there is none of them.
    """
    for name in names:
        if (folder / name).is_file():
            return File(folder / name, publication)
    others = f" (or {', '.join(names[1:])})" if names[1:] else ""
    raise missing(folder, f"{names[0]}{others}", publication)


def missing(folder: Path, what: str, publication: Publication) -> FileNotFoundError:
    return FileNotFoundError(f"missing in the folder {str(folder)!r}: {what}; {publication.remedy}")


def taken(stream: Stream, size: int) -> bytearray:
    """The next `size` bytes, or fewer where the stream ends; a size that a header only claims takes no memory."""
    found = bytearray()
    while piece := stream.read(min(PIECE, size - len(found))):
        found += piece
    return found


def skipped(stream: Stream, size: int) -> int:
    """How many of the next `size` bytes there were."""
    left = size
    while piece := stream.read(min(PIECE, left)):
        left -= len(piece)
    return size - left


def check_checksums(checksums: Any) -> Checksums:
    """`checksums`, if it is a bool or maps file names to digests that can be computed.

    Raises:
      TypeError, ValueError: if it is not.
    """
    if isinstance(checksums, bool):
        return checksums
    if not isinstance(checksums, Mapping):
        kind = type(checksums).__name__
        raise TypeError(f"`checksums` must be True, False or a mapping of file names, got {checksums!r} of type {kind}")
    for name, text in checksums.items():
        algorithm, _, digest = text.partition(":") if isinstance(text, str) else ("", "", "")
        size = 2 * ALGORITHMS[algorithm]().digest_size if algorithm in ALGORITHMS else None
        if len(digest) != size or set(digest.lower()) - set("0123456789abcdef"):
            raise ValueError(
                f"`checksums` must hold 'md5:' with 32 or 'sha256:' with 64 hexadecimal digits, got {text!r} for "
                f"{name!r}; sha256sum prints one"
            )
    return dict(checksums)
