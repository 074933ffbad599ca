"""CIFAR-10: 32 x 32 color images in six files of records, the "binary version" (Krizhevsky 2009)."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from qrjax._datasets._dataset import Array, Checksums, Dataset, Options
from qrjax._datasets._files import GZIP_ERRORS, File, folder_of, missing
from qrjax._datasets._pixels import standardized
from qrjax._datasets._publication import Publication

CLASSES = 10
# A label, and the red, green and blue planes of 32 rows of 32 pixels.
RECORD = 1 + 3 * 32 * 32
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SUBFOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
PUBLICATION = Publication(
    "CIFAR-10's binary version",
    "www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, University of Toronto)",
    "https://www.cs.toronto.edu/~kriz/",
    {ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"},
)


def load(options: Options) -> Dataset:
    """The published split in the published order, channels last.

    Raises:
      OSError: if a file is missing.
      CorruptFile: if one is damaged or does not fit the others.
    """
    folder = folder_of(options, "cifar10", PUBLICATION)
    archived = (folder / ARCHIVE).is_file()
    contents = (_archived if archived else _unpacked)(folder, options.checksums)
    size = len(contents[TRAIN[0]][0])
    parts = {name: _records(name, *found, size) for name, found in contents.items()}
    train, test = np.concatenate([parts[name] for name in TRAIN])[: options.limit], parts[TEST][: options.limit]
    inputs = standardized(_images(train), _images(test))
    labels = [part[:, 0].astype(np.int32) for part in (train, test)]
    return Dataset("cifar10", "images", inputs[0], labels[0], inputs[1], labels[1], CLASSES, None)


def _unpacked(folder: Path, checksums: Checksums) -> dict[str, tuple[bytes, File]]:
    """Each batch's bytes, of the first folder that has any of them."""
    for place in (folder, folder / SUBFOLDER):
        absent = [name for name in (*TRAIN, TEST) if not (place / name).is_file()]
        if not absent:
            files = [File(place / name, PUBLICATION) for name in (*TRAIN, TEST)]
            return {file.path.name: (file.content(checksums), file) for file in files}
        if len(absent) < len(TRAIN) + 1:
            raise missing(place, ", ".join(absent), PUBLICATION)
    names = f"{ARCHIVE} (or {', '.join((*TRAIN, TEST))}, in it or in {SUBFOLDER})"
    raise missing(folder, names, PUBLICATION)


def _archived(folder: Path, checksums: Checksums) -> dict[str, tuple[bytes, File]]:
    """The same from the archive: nothing is unpacked onto the disk."""
    file = File(folder / ARCHIVE, PUBLICATION)
    found = {}
    try:
        content = gzip.decompress(file.content(checksums))
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                opened = archive.extractfile(member) if member.isreg() else None
                if opened is not None:
                    found[PurePosixPath(member.name).name] = (opened.read(), file)
    except (*GZIP_ERRORS, tarfile.TarError) as error:
        raise file.corrupt("a tar archive packed with gzip", f"{error}") from error
    absent = [name for name in (*TRAIN, TEST) if name not in found]
    if absent:
        raise file.corrupt("all six batches", f"none of the name {', '.join(absent)}")
    return {name: found[name] for name in (*TRAIN, TEST)}


def _records(name: str, content: bytes, file: File, size: int) -> Array:
    if not content or len(content) % RECORD:
        raise file.corrupt(f"whole records of {RECORD} bytes in {name}", f"{len(content):,} bytes")
    # A file cut between two records shows here only.
    if len(content) != size:
        raise file.corrupt(f"{size:,} bytes in {name}, as in the others", f"{len(content):,} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if wrong.size:
        raise file.corrupt(f"labels from 0 to 9 in {name}", f"{records[wrong[0], 0]} in record {wrong[0]}")
    return records


def _images(records: Array) -> Array:
    """Uint8 (n, 32, 32, 3), a view."""
    return np.moveaxis(records[:, 1:].reshape(-1, 3, 32, 32), 1, -1)
