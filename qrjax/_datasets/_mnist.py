"""MNIST: 28 x 28 images of handwritten digits in four IDX files (LeCun, Cortes, Burges)."""

from __future__ import annotations

import gzip
import math

import numpy as np

from qrjax._datasets._dataset import Array, Checksums, Dataset, Options
from qrjax._datasets._files import GZIP_ERRORS, File, folder_of, located
from qrjax._datasets._pixels import standardized
from qrjax._datasets._publication import Publication

CLASSES = 10
GZIP_MAGIC = b"\x1f\x8b"
PUBLICATION = Publication(
    "MNIST",
    "yann.lecun.com/exdb/mnist (LeCun, Cortes and Burges) and its mirrors",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)


def load(options: Options) -> Dataset:
    """The published split in the published order.

    Raises:
      OSError: if a file is missing.
      CorruptFile: if one is damaged or does not fit the others.
    """
    folder = folder_of(options, "mnist", PUBLICATION)
    files = [
        (located(folder, names(part, "images"), PUBLICATION), located(folder, names(part, "labels"), PUBLICATION))
        for part in ("train", "t10k")
    ]
    (train, train_labels), (test, test_labels) = (
        _examples(images, labels, options.checksums) for images, labels in files
    )
    if train.shape[1:] != test.shape[1:]:
        raise files[1][0].corrupt(f"images of the training images' shape {train.shape[1:3]}", f"{test.shape[1:3]}")
    kept = slice(options.limit)
    inputs = standardized(train[kept], test[kept])
    return Dataset("mnist", "images", inputs[0], train_labels[kept], inputs[1], test_labels[kept], CLASSES, None)


def names(part: str, kind: str) -> tuple[str, ...]:
    """What a file may be called, as it is published first; some unpackers write a dot before idx."""
    ending = {"images": "idx3-ubyte", "labels": "idx1-ubyte"}[kind]
    return tuple(f"{part}-{kind}{mark}{ending}{suffix}" for mark in "-." for suffix in (".gz", ""))


def _examples(images: File, labels: File, checksums: Checksums) -> tuple[Array, Array]:
    """Uint8 (n, height, width, 1) and int32 (n,)."""
    pixels, digits = _elements(images, 3, checksums), _elements(labels, 1, checksums)
    if len(pixels) != len(digits):
        raise labels.corrupt(f"as many labels as {images.path.name} has images, {len(pixels)}", f"{len(digits)}")
    if not pixels.size:
        raise images.corrupt("one image or more", f"an array of the shape {pixels.shape}")
    wrong = np.flatnonzero(digits >= CLASSES)
    if wrong.size:
        raise labels.corrupt("labels from 0 to 9", f"{digits[wrong[0]]} at index {wrong[0]}")
    return pixels[..., None], digits.astype(np.int32)


def _elements(file: File, rank: int, checksums: Checksums) -> Array:
    """What an IDX file holds: 00 00 08 for bytes, how many dimensions, their sizes as big-endian words, the bytes."""
    content = file.content(checksums)
    if file.path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except GZIP_ERRORS as error:
            raise file.corrupt("a gzip file (without .gz in its name if it is unpacked)", str(error)) from error
    magic, start = bytes((0, 0, 8, rank)), 4 + 4 * rank
    if content[:4] != magic or len(content) < start:
        hint = ", which is gzip's: give the file's name .gz" if content[:2] == GZIP_MAGIC else ""
        expected = f"IDX's header of bytes in {rank} dimensions, {magic.hex(' ')} and {rank} sizes"
        raise file.corrupt(expected, f"{content[:4].hex(' ') or 'nothing'}{hint}")
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist())
    if len(content) - start != math.prod(shape):
        expected = f"{math.prod(shape):,} bytes of elements of the shape {shape}"
        raise file.corrupt(expected, f"{len(content) - start:,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
