"""CIFAR-10: 32 x 32 color images in six files of records, the "binary version" (Krizhevsky 2009)."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from gzip import GzipFile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from qrjax._datasets._dataset import Array, Checksums, Dataset, Options
from qrjax._datasets._files import GZIP_ERRORS, Corrupt, File, Stream, folder_of, missing, skipped, taken
from qrjax._datasets._pixels import standardized
from qrjax._datasets._publication import Publication

CLASSES = 10
# A label, and the red, green and blue planes of 32 rows of 32 pixels.
RECORD = 1 + 3 * 32 * 32
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SUBFOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
# Of the unpacked archive, which has 185 million bytes; beyond, it is one that only wants memory.
ARCHIVE_BYTES = 2**29
PUBLICATION = Publication(
    "CIFAR-10's binary version",
    "www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, University of Toronto)",
    "https://www.cs.toronto.edu/~kriz/",
    {ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"},
)


class Batch(NamedTuple):
    name: str
    size: int
    stream: Stream
    corrupt: Corrupt


def load(options: Options) -> Dataset:
    """The published split in the published order, channels last.

    Raises:
      OSError: if a file is missing.
      CorruptFile: if one is damaged or does not fit the others.
    """
    folder = folder_of(options, "cifar10", PUBLICATION)
    if (folder / ARCHIVE).is_file():
        parts = _archived(File(folder / ARCHIVE, PUBLICATION), options)
    else:
        parts = _parts(_batches(_files(folder), options.checksums), options.limit)
    test, test_labels = _examples([parts.pop(TEST)])
    train, train_labels = _examples([parts.pop(name) for name in TRAIN])
    inputs = standardized(train, test)
    return Dataset("cifar10", "images", inputs[0], train_labels, inputs[1], test_labels, CLASSES, None)


def _files(folder: Path) -> list[File]:
    """The six files, of the first folder that has any of them."""
    for place in (folder, folder / SUBFOLDER):
        absent = [name for name in (*TRAIN, TEST) if not (place / name).is_file()]
        if not absent:
            return [File(place / name, PUBLICATION) for name in (*TRAIN, TEST)]
        if len(absent) < len(TRAIN) + 1:
            raise missing(place, ", ".join(absent), PUBLICATION)
    names = f"{ARCHIVE} (or {', '.join((*TRAIN, TEST))}, in it or in {SUBFOLDER})"
    raise missing(folder, names, PUBLICATION)


def _batches(files: Iterable[File], checksums: Checksums) -> Iterator[Batch]:
    for file in files:
        with file.opened(checksums) as stream:
            yield Batch(file.path.name, os.fstat(stream.fileno()).st_size, stream, file.corrupt)


def _archived(file: File, options: Options) -> dict[str, Array]:
    """`_parts` of the archive, read as a stream: nothing is unpacked onto the disk."""
    with file.opened(options.checksums) as stream:
        try:
            with GzipFile(fileobj=stream) as unpacked:
                bounded = _Bounded(unpacked)
                parts = _parts(_members(bounded, file.corrupt), options.limit)
                skipped(bounded, ARCHIVE_BYTES)  # gzip's own check is at its end
        except (*GZIP_ERRORS, tarfile.TarError) as error:
            raise file.corrupt("a tar archive packed with gzip", f"{error}") from error
    absent = [name for name in (*TRAIN, TEST) if name not in parts]
    if absent:
        raise file.corrupt("all six batches", f"none of the name {', '.join(absent)}")
    return parts


def _members(stream: _Bounded, corrupt: Corrupt) -> Iterator[Batch]:
    """The batches in the archive's order."""
    source: Any = stream
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            # A sparse member may claim any size.
            plain = member.isreg() and not member.issparse()
            content = archive.extractfile(member) if plain and name in (*TRAIN, TEST) else None
            if content is not None:
                yield Batch(name, member.size, content, corrupt)


class _Bounded:
    """A stream that ends in an error where it is too long."""

    def __init__(self, stream: GzipFile) -> None:
        self._stream, self._left = stream, ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise tarfile.ReadError(f"more than {ARCHIVE_BYTES:,} bytes unpacked")
        return found


def _parts(batches: Iterable[Batch], limit: int | None) -> dict[str, Array]:
    """The records of each batch that are among the first `limit`, as uint8 (n, RECORD)."""
    parts: dict[str, Array] = {}
    size = 0
    for batch in batches:
        size = size or batch.size
        if batch.name in parts:
            raise batch.corrupt(f"one {batch.name}", "two")
        if not batch.size or batch.size % RECORD:
            raise batch.corrupt(f"whole records of {RECORD} bytes in {batch.name}", f"{batch.size:,} bytes")
        # A file cut between two records shows here only.
        if batch.size != size:
            raise batch.corrupt(f"{size:,} bytes in {batch.name}, as in the others", f"{batch.size:,} bytes")
        parts[batch.name] = _records(batch, _kept(batch.name, size // RECORD, limit))
    return parts


def _kept(name: str, records: int, limit: int | None) -> int:
    """How many of a batch's records are among the first `limit`."""
    before = 0 if name == TEST else TRAIN.index(name) * records
    return records if limit is None else min(max(limit - before, 0), records)


def _records(batch: Batch, count: int) -> Array:
    content = taken(batch.stream, count * RECORD)
    if len(content) < count * RECORD:
        raise batch.corrupt(f"{count * RECORD:,} bytes in {batch.name}", f"{len(content):,}")
    records = np.frombuffer(content, np.uint8).reshape(count, RECORD)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if wrong.size:
        raise batch.corrupt(f"labels from 0 to 9 in {batch.name}", f"{records[wrong[0], 0]} in record {wrong[0]}")
    return records


def _examples(parts: list[Array]) -> tuple[Array, Array]:
    """Uint8 (n, 32, 32, 3), a view, and int32 (n,)."""
    records = np.concatenate(parts)
    return np.moveaxis(records[:, 1:].reshape(-1, 3, 32, 32), 1, -1), records[:, 0].astype(np.int32)
