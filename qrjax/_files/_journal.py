"""A file of JSON lines that grows by whole lines, whatever happens to who writes it."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from qrjax._files._replacing import of_given

# As protocol buffers write them: JSON has no numbers for these.
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Record = dict[str, Any]
FARTHEST = 2**31 - 2


# Seconds that processes of one run wait for each other; each writes for a moment only.
PATIENCE, MOMENT = 60.0, 0.01


class DamagedLineWarning(UserWarning):
    """A line of a file of results cannot be read, and was set aside: what it held will be run again."""


class Lines(NamedTuple):
    """The whole records of a journal, the number of each one's line, and how many bytes hold whole lines."""

    records: list[Record]
    numbers: list[int]
    whole: int


class Journal:
    """An open journal: its first line says what it is, each other holds one record.

    What a killed writer left of its last line is dropped, so that a journal always holds whole records.

    Attributes:
      path: where it is.
      records, numbers: what it held when it was last read, and the numbers of their lines.
    """

    def __init__(self, handle: int, path: Path, kind: str, names: Collection[str], shared: bool) -> None:
        self._handle, self._kind, self._names, self._shared = handle, kind, names, shared
        self.path = path
        self.records: list[Record] = []
        self.numbers: list[int] = []
        self._whole = 0

    def reload(self) -> None:
        """Reads what is there, and begins a journal that is empty.

        Raises:
          ValueError: if the file holds something else, or another process writes to it.
        """
        with self._alone():
            self.records, self.numbers, self._whole = _parsed(
                self.path.read_bytes(), self.path, self._kind, self._names
            )
            os.ftruncate(self._handle, self._whole)
            if not self._whole:
                self._add([_header(self._kind)])

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds the records, all or none, and waits until the disk has them.

        Raises:
          OSError: if they cannot be written, for example because the disk is full; the journal is then as before.
        """
        with self._alone():
            if self._shared:
                self._drop_torn()
            self._add(records)

    def _add(self, records: Sequence[Mapping[str, Any]]) -> None:
        data = "".join(encoded(record) + "\n" for record in records).encode()
        size = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, data)
            os.fsync(self._handle)
        except BaseException:
            os.ftruncate(self._handle, size)
            raise

    def _drop_torn(self) -> None:
        """Another process of this run may have been killed since."""
        with self.path.open("rb") as file:
            file.seek(self._whole)
            data = file.read()
        self._whole += data.rfind(b"\n") + 1
        os.ftruncate(self._handle, self._whole)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Shared by processes, the file is each one's for as long as it reads or writes; else it is locked already."""
        if not self._shared:
            yield
            return
        _lock(self._handle, self.path, PATIENCE)
        try:
            yield
        finally:
            _unlock(self._handle)


@contextmanager
def opened(
    path: str | os.PathLike[str], kind: str, names: Collection[str] = (), *, shared: bool = False
) -> Iterator[Journal]:
    """The journal of this kind at `path`, made if it is not there, for this process alone.

    Every record in it must have these names; a line that cannot be read is set aside, with a `DamagedLineWarning`.
    `shared`: for several processes that add records to it side by side.

    Raises:
      ValueError: if the file holds something else, or another process writes to it.
      OSError: if it cannot be written.
    """
    where = Path(os.path.realpath(path))
    try:
        # Windows would write two bytes for the end of a line.
        handle = os.open(where, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise of_given(error, path) from None
    try:
        if not shared:
            _lock(handle, where)
        journal = Journal(handle, where, kind, names, shared)
        journal.reload()
        yield journal
    finally:
        os.close(handle)


def read(path: str | os.PathLike[str], kind: str, names: Collection[str] = ()) -> list[Record]:
    """The whole records of a journal, without changing it; it may be growing.

    A line that cannot be read is set aside, with a `DamagedLineWarning`.

    Raises:
      ValueError: if it is not a journal of this kind.
      OSError: if it cannot be read.
    """
    return _parsed(Path(path).read_bytes(), Path(path), kind, names).records


def warn_of_damage(path: Path, number: int, cause: str) -> None:
    """That a line is set aside."""
    warnings.warn(
        f"line {number} of {str(path)!r} is damaged and was set aside: {cause}; what it held will be run again, and "
        "the line may be deleted",
        DamagedLineWarning, stacklevel=2,
    )  # fmt: skip


def _header(kind: str) -> Record:
    return {"format": kind, "version": 1}


def _parsed(data: bytes, path: Path, kind: str, names: Collection[str]) -> Lines:
    lines = data.split(b"\n")
    torn = lines.pop()
    if not lines:
        if not encoded(_header(kind)).encode().startswith(torn):
            raise ValueError(f"{str(path)!r} is not a file of {kind}; it was left as it is, choose another name")
        return Lines([], [], 0)
    _check_header(lines[0], path, kind)
    found = Lines([], [], len(data) - len(torn))
    for number, line in enumerate(lines[1:], 2):
        try:
            record = _record(line)
            if missing := [name for name in names if name not in record]:
                raise ValueError(f"it has no {missing[0]!r}")
        except ValueError as error:
            warn_of_damage(path, number, str(error))
            continue
        found.records.append(record)
        found.numbers.append(number)
    return found


def _check_header(line: bytes, path: Path, kind: str) -> None:
    try:
        header = _record(line)
    except ValueError as error:
        raise ValueError(
            f"line 1 of {str(path)!r} is damaged, or this is no file of results: {error}; it was left as it is, "
            "choose another name"
        ) from None
    if header.get("format") != kind:
        raise ValueError(f"{str(path)!r} is not a file of {kind}; it was left as it is, choose another name")
    if header.get("version") != 1:
        raise ValueError(
            f"{str(path)!r} has the format {header.get('version')!r}, and this qrjax reads 1; install a later one"
        )


def _record(line: bytes) -> Record:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
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


def _lock(handle: int, path: Path, patience: float = 0) -> None:
    """For this process, until the file is closed; on the file itself, so that nothing is left beside it."""
    latest = time.monotonic() + patience
    while True:
        try:
            return _lock_now(handle)
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= latest:
                raise ValueError(
                    f"another process is writing to {str(path)!r}; wait for it, or choose another name"
                ) from None
        time.sleep(MOMENT)


def _lock_now(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # Who reads the file may not read what is locked: a byte that it hardly reaches, the last that can be.
        os.lseek(handle, FARTHEST, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, FARTHEST, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
