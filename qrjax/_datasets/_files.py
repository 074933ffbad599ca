"""Files of a dataset: where they lie, whether they are the published ones, and what is said if they are not."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from qrjax._datasets._dataset import Checksums, Options
from qrjax._datasets._publication import CorruptFile, Publication
from qrjax._terminal._received import received

ALGORITHMS: dict[str, Callable[[], Any]] = {
    # Against damage, not against malice: also where a policy forbids MD5 for security.
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
GZIP_ERRORS = (BadGzipFile, EOFError, zlib.error)


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

    def content(self, checksums: Checksums) -> bytes:
        """All of it; errors as `opened`."""
        with self.opened(checksums) as stream:
            return stream.read()

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

    def is_published(self, stream: IO[bytes]) -> bool:
        """Whether the digest of a file at its beginning, where it is left, is the published one."""
        expected = self.publication.digests.get(self.path.name, "")
        algorithm, _, digest = expected.partition(":")
        found = _digest(stream, algorithm) == digest if expected else False
        stream.seek(0)
        return found

    def _check(self, stream: IO[bytes], expected: str) -> None:
        algorithm, _, digest = expected.partition(":")
        if (found := _digest(stream, algorithm)) != digest.lower():
            raise self.corrupt(f"the {algorithm} digest {digest.lower()}", found)


def _digest(stream: IO[bytes], algorithm: str) -> str:
    return hashlib.file_digest(stream, ALGORITHMS[algorithm]).hexdigest()  # type: ignore[arg-type]


def folder_of(options: Options, name: str, publication: Publication) -> Path:
    """The folder of the files, which are fetched if that was asked for.

    Raises:
      ValueError, OSError: if there is none, or they cannot be fetched.
    """
    folder = options.folder
    if folder is not None and folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`folder` {str(folder)!r} is a file; name the folder that holds it")
    if options.download:
        from qrjax._datasets._download import downloaded

        return downloaded(folder, publication, name)
    if folder is None:
        raise ValueError(
            f"`folder` must be the folder of {publication.title}'s files, got None; {publication.remedy}, and "
            "download=True fetches it"
        )
    if not folder.exists():
        raise FileNotFoundError(f"`folder` {str(folder)!r} does not exist; {publication.remedy}")
    return folder


def check_no_files(name: str, source: str, options: Options) -> None:
    """Nothing, unless files of a dataset are spoken of that has none.

    Raises:
      ValueError: if they are.
    """
    for argument, value, none in (
        ("folder", options.folder, None), ("checksums", options.checksums, False), ("download", options.download, False)
    ):  # fmt: skip
        if value != none:
            shown = repr(str(value)) if argument == "folder" else repr(value)
            raise ValueError(f"`{argument}` must be {none} for {name}, {source}, got {shown}")


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


def check_checksums(checksums: Any) -> Checksums:
    """`checksums`, if it is a bool or maps file names to digests that can be computed.

    Raises:
      TypeError, ValueError: if it is not.
    """
    if isinstance(checksums, bool):
        return checksums
    if not isinstance(checksums, Mapping):
        raise TypeError(f"`checksums` must be True, False or a mapping of file names, got {received(checksums)}")
    for name, text in checksums.items():
        algorithm, _, digest = text.partition(":") if isinstance(text, str) else ("", "", "")
        size = 2 * ALGORITHMS[algorithm]().digest_size if algorithm in ALGORITHMS else None
        if len(digest) != size or set(digest.lower()) - set("0123456789abcdef"):
            raise ValueError(
                f"`checksums` must hold 'md5:' with 32 or 'sha256:' with 64 hexadecimal digits, got {text!r} for "
                f"{name!r}; sha256sum prints one"
            )
    return dict(checksums)
