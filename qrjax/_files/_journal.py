"""A file of JSON lines that grows by whole lines, whatever happens to who writes it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qrjax._files._replacing import of_given

# As protocol buffers write them: JSON has no numbers for these.
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Record = dict[str, Any]
FARTHEST = 2**31 - 2


class Journal:
    """An open journal: its first line says what it is, each other holds one record.

    What a killed writer left of its last line is dropped, so that a journal always holds whole records.
    """

    def __init__(self, handle: int, path: Path, records: list[Record]) -> None:
        self._handle = handle
        self.path = path
        self.records = records

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds the records, all or none, and waits until the disk has them.

        Raises:
          OSError: if they cannot be written, for example because the disk is full; the journal is then as before.
        """
        data = "".join(encoded(record) + "\n" for record in records).encode()
        size = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, data)
            os.fsync(self._handle)
        except BaseException:
            os.ftruncate(self._handle, size)
            raise
        self.records.extend(map(dict, records))


@contextmanager
def opened(path: str | os.PathLike[str], kind: str, names: Collection[str] = ()) -> Iterator[Journal]:
    """The journal of this kind at `path`, made if it is not there, for this process alone.

    Every record in it must have these names.

    Raises:
      ValueError: if the file holds something else, is damaged, or another process writes to it.
      OSError: if it cannot be written.
    """
    where = Path(os.path.realpath(path))
    try:
        # Windows would write two bytes for the end of a line.
        handle = os.open(where, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise of_given(error, path) from None
    try:
        _lock(handle, where)
        records, whole = _parsed(where.read_bytes(), where, kind, names)
        os.ftruncate(handle, whole)
        journal = Journal(handle, where, records)
        if not whole:
            journal.append([_header(kind)])
            journal.records.clear()
        yield journal
    finally:
        os.close(handle)


def read(path: str | os.PathLike[str], kind: str, names: Collection[str] = ()) -> list[Record]:
    """The whole records of a journal, without changing it; it may be growing.

    Raises:
      ValueError: if it is not a journal of this kind, or damaged.
      OSError: if it cannot be read.
    """
    return _parsed(Path(path).read_bytes(), Path(path), kind, names)[0]


def _header(kind: str) -> Record:
    return {"format": kind, "version": 1}


def _parsed(data: bytes, path: Path, kind: str, names: Collection[str]) -> tuple[list[Record], int]:
    """The records, and how many bytes hold whole lines."""
    lines = data.split(b"\n")
    torn = lines.pop()
    if not lines:
        if not encoded(_header(kind)).encode().startswith(torn):
            raise ValueError(f"{str(path)!r} is not a file of {kind}; it was left as it is, choose another name")
        return [], 0
    header, *records = (_record(line, number, path) for number, line in enumerate(lines, 1))
    if header.get("format") != kind:
        raise ValueError(f"{str(path)!r} is not a file of {kind}; it was left as it is, choose another name")
    if header.get("version") != 1:
        raise ValueError(
            f"{str(path)!r} has the format {header.get('version')!r}, and this qrjax reads 1; install a later one"
        )
    for number, record in enumerate(records, 2):
        if missing := [name for name in names if name not in record]:
            raise ValueError(
                f"line {number} of {str(path)!r} has no {missing[0]!r}, so it is damaged; delete that line, and it "
                "will be run again"
            )
    return records, len(data) - len(torn)


def _record(line: bytes, number: int, path: Path) -> Record:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"line {number} of {str(path)!r} is damaged, or this is no file of results: {error}; if it is one, delete "
            "that line, and it will be run again"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"line {number} of {str(path)!r} is not an object, so this is no file of results")
    return {name: decoded(value) for name, value in found.items()}


def encoded(value: Any) -> str:
    """One line of strict JSON."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: decoded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [decoded(inner) for inner in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _lock(handle: int, path: Path) -> None:
    """For this process, until the file is closed; on the file itself, so that nothing is left beside it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Who reads the file may not read what is locked: a byte that it hardly reaches, the last that can be.
            os.lseek(handle, FARTHEST, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise ValueError(f"another process is writing to {str(path)!r}; wait for it, or choose another name") from None
