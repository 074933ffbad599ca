"""IDX: arrays as MNIST's files hold them.

Two zero bytes, a byte for the type, a byte for the number of dimensions, the sizes as big-endian 32-bit integers,
and the elements, big-endian, the last dimension fastest.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np

from qrjax._datasets._dataset import Array
from qrjax._datasets._files import Corrupt, Stream, skipped, taken

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# NumPy's limit.
DIMENSIONS = 64
# Of the elements; what a header claims beyond is damage.
BYTES = 2**31
GZIP_MAGIC = b"\x1f\x8b"


class Header(NamedTuple):
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read(stream: Stream, corrupt: Corrupt, limit: int | None = None) -> tuple[Array, int]:
    """The first `limit` items along the first axis, and how many there are.

    All of the stream is read, but no more is kept than asked for.

    Raises:
      CorruptFile: from `corrupt`, if the stream is anything but one whole array.
    """
    header = _header(stream, corrupt)
    count = header.shape[0]
    kept = count if limit is None else min(limit, count)
    wanted = header._replace(shape=(kept, *header.shape[1:]))
    elements = taken(stream, wanted.size)
    size = len(elements) + skipped(stream, header.size - len(elements))
    if size < header.size:
        raise corrupt(f"{header.size:,} bytes of elements of the shape {header.shape}", f"{size:,}")
    if stream.read(1):
        raise corrupt(f"the end after {header.size:,} bytes of elements of the shape {header.shape}", "further bytes")
    array = np.frombuffer(elements, header.dtype).reshape(wanted.shape)
    return array.astype(header.dtype.newbyteorder("="), copy=False), count


def _header(stream: Stream, corrupt: Corrupt) -> Header:
    magic = taken(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= DIMENSIONS:
        kinds = ", ".join(f"{code:02x}" for code in TYPES)
        hint = ", which is gzip's: give the file's name .gz" if magic[:2] == GZIP_MAGIC else ""
        raise corrupt(
            f"IDX's magic number: 00 00, one of {kinds}, and the number of dimensions from 1 to {DIMENSIONS}",
            f"{magic.hex(' ') or 'nothing'}{hint}",
        )
    sizes = taken(stream, 4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise corrupt(f"{magic[3]} sizes of 4 bytes", f"the end after {len(sizes)} bytes of them")
    header = Header(np.dtype(TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes))
    if header.size > BYTES:
        raise corrupt(f"at most {BYTES:,} bytes of elements", f"the shape {header.shape} of {header.size:,} bytes")
    return header
