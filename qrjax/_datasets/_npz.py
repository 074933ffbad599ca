"""Arrays of integers, and of lists of integers, from an .npz archive: a zip file of .npy files.

`numpy.load` reads the latter with `pickle` and is not used.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from qrjax._datasets import _pickles
from qrjax._datasets._dataset import Array
from qrjax._datasets._files import Corrupt, CorruptFile

# Half of the published reviews are some six million words of two or three bytes; here a word takes up to 36.
PICKLE_BYTES = 2**26
ARRAY_BYTES = 2**30
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError, OSError, ValueError,
)  # fmt: skip
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
Content = Array | list[list[int]]


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    size: int  # bytes after it


class Archive:
    """The members of an .npz file, each read when asked for."""

    def __init__(self, zipped: zipfile.ZipFile, corrupt: Corrupt) -> None:
        self._zipped, self._corrupt = zipped, corrupt

    def array(self, name: str) -> Content:
        """An array of integers of any rank, or one of one dimension of lists of integers as these lists.

        Raises:
          CorruptFile: if there is no such member, or it is anything else.
        """
        members = [info for info in self._zipped.infolist() if info.filename == f"{name}.npy"]
        if len(members) != 1:
            names = ", ".join(repr(info.filename) for info in self._zipped.infolist()[:20]) or "no member"
            raise self._corrupt(f"one member {name}.npy", names)
        member = members[0]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise self._corrupt(f"{name}.npy stored or deflated", "another compression, or encryption")
        with _reading(self._corrupt, f"{name}.npy"), self._zipped.open(member) as stream:
            header = _header(stream, member.file_size)
            if header.dtype == np.object_:
                return self._lists(name, stream, header)
            if header.dtype.kind not in "iu":
                found = f"elements of the type {header.dtype}"
                raise self._corrupt(f"integers, or lists of integers, in {name}", found)
            return self._integers(name, stream, header)

    def _lists(self, name: str, stream: IO[bytes], header: Header) -> list[list[int]]:
        if len(header.shape) != 1:
            raise self._corrupt(f"lists of integers in one dimension in {name}", f"the shape {header.shape}")
        if header.size > PICKLE_BYTES:
            raise self._corrupt(
                f"at most {PICKLE_BYTES:,} bytes in {name} (arrays of integers in two dimensions may have more)",
                f"{header.size:,}",
            )
        count = header.shape[0]
        try:
            return _pickles.lists(stream.read(), count)
        except _pickles.Refused as error:
            raise self._corrupt(f"a pickle of {count} lists of integers in {name}", str(error)) from error

    def _integers(self, name: str, stream: IO[bytes], header: Header) -> Array:
        shape, fortran_order, dtype, size = header
        expected = math.prod(shape) * dtype.itemsize
        if expected > ARRAY_BYTES:
            raise self._corrupt(f"at most {ARRAY_BYTES:,} bytes in {name}", f"the shape {shape} of {expected:,} bytes")
        if size != expected:
            raise self._corrupt(f"{expected:,} bytes of elements of the shape {shape} in {name}", f"{size:,}")
        array = np.frombuffer(stream.read(), dtype)
        return array.reshape(shape, order="F" if fortran_order else "C")


@contextmanager
def opened(stream: IO[bytes], corrupt: Corrupt) -> Iterator[Archive]:
    """The archive.

    Raises:
      CorruptFile: if it is no zip file.
    """
    with _reading(corrupt, "a zip file"):
        zipped = zipfile.ZipFile(stream)
    with zipped:
        yield Archive(zipped, corrupt)


def _header(stream: IO[bytes], size: int) -> Header:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"the version {version} of the .npy format")
    shape, fortran_order, dtype = HEADERS[version](stream)
    return Header(shape, fortran_order, dtype, size - stream.tell())


@contextmanager
def _reading(corrupt: Corrupt, expected: str) -> Iterator[None]:
    try:
        yield
    except CorruptFile:
        raise
    except UNREADABLE as error:
        raise corrupt(expected, f"{error or type(error).__name__}") from error
