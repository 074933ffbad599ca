"""The IDX format: every type, every shape, and every way to be damaged."""

import io
import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from published import CODES, idx

from qrjax._datasets import _idx
from qrjax._datasets._publication import CorruptFile


def corrupt(expected, found):
    return CorruptFile(f"expected {expected}, found {found}")


def read(content, limit=None):
    return _idx.read(io.BytesIO(content), corrupt, limit)


@st.composite
def arrays(draw):
    kind = draw(st.sampled_from(sorted(CODES)))
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    size = math.prod(shape) * int(kind[1])
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), f"<{kind}").reshape(shape)


@given(arrays(), st.one_of(st.none(), st.integers(1, 7)))
@example(np.zeros((0, 3), np.uint8), None)
@example(np.zeros((3, 0), np.float64), 2)
def test_what_was_written_is_read_bit_for_bit_in_the_machines_order(array, limit):
    found, count = read(idx(array), limit)
    expected = array[:limit]
    assert (found.dtype, found.shape, count) == (expected.dtype, expected.shape, len(array))
    assert found.tobytes() == expected.tobytes()


def test_a_file_by_hand():
    content = bytes([0, 0, 0x0B, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 1, 0, 2, 0, 3, 255, 255, 128, 0, 1, 0])
    found, count = read(content)
    assert found.tolist() == [[1, 2, 3], [-1, -32768, 256]]
    assert (found.dtype, count) == (np.int16, 2)


@pytest.mark.parametrize("limit", [None, 1])
def test_every_truncation_is_an_error(limit):
    content = idx(np.arange(6, dtype=np.int16).reshape(3, 2))
    for size in range(len(content)):
        expected = "magic number" if size < 4 else "2 sizes of 4 bytes" if size < 12 else "12 bytes of elements"
        with pytest.raises(CorruptFile, match=f"expected .*{expected}"):
            read(content[:size], limit)


@pytest.mark.parametrize("limit", [None, 1])
def test_bytes_after_the_end_are_an_error(limit):
    with pytest.raises(CorruptFile, match=r"expected the end after 6 bytes .* found further bytes"):
        read(idx(np.zeros((3, 2), np.uint8)) + b"\0", limit)


@pytest.mark.parametrize(
    ("magic", "found"),
    [
        (b"\1\0\x08\1", "01 00 08 01"),
        (b"\0\1\x08\1", "00 01 08 01"),
        (b"\0\0\x0a\1", "00 00 0a 01"),
        (b"\0\0\x08\0", "00 00 08 00"),
        (b"\0\0\x08\x41", "00 00 08 41"),
        (b"\x1f\x8b\x08\0", "1f 8b 08 00, which is gzip's: give the file's name .gz"),
    ],
)
def test_another_magic_number_is_shown(magic, found):
    with pytest.raises(CorruptFile, match=f"00 00, one of 08, 09, 0b, 0c, 0d, 0e, .* found {found}$"):
        read(magic + bytes(600))


def test_an_empty_file_is_refused():
    with pytest.raises(CorruptFile, match=r"magic number.*found nothing$"):
        read(b"")


def test_types_and_dimensions_at_their_limits_are_read():
    found, _ = read(bytes([0, 0, 0x08, 64]) + struct.pack(">64I", *[1] * 64) + b"\7")
    assert found.shape == (1,) * 64
    assert found.item() == 7


def test_a_size_that_is_only_claimed_takes_no_memory():
    with pytest.raises(CorruptFile, match=r"found 3$"):
        read(bytes([0, 0, 0x08, 1]) + struct.pack(">I", 2**31) + b"abc")
    with pytest.raises(CorruptFile, match=r"at most 2,147,483,648 bytes .* shape \(4294967295, 4294967295, 3\)"):
        read(bytes([0, 0, 0x08, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 3))


def test_only_what_the_limit_asks_for_is_kept():
    stream = io.BytesIO(idx(np.zeros((40, 2**20), np.uint8)))
    tracemalloc.start()
    try:
        found, count = _idx.read(stream, corrupt, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.shape, count) == ((1, 2**20), 40)
    assert peak < 4 * 2**20
