"""The reader of pickles: what it reads in every protocol, and what it refuses to make."""

import builtins
import collections
import os
import pickle
import pickletools
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import npy, npy_header, objects, write_members

from qrjax._datasets import _pickles
from qrjax._datasets._files import CorruptFile
from qrjax._datasets._pickles import Refused, lists
from qrjax._datasets._table import load

LISTS = [[], [0], [1, 255, 256, 65535, 65536, 2**31 - 1], [-1, 2**31, -(2**63), 2**63 - 1], list(range(2500))]
# By Python 2: strings of bytes, data types of two integers, and no memo where it was cleared.
PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R(K\x01K\x02\x85"
    b"cnumpy\ndtype\nq\x03U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]q\x04("
    b"]q\x05(K\x01M\x00\x01J\x00\x00\x01\x00e]q\x06K\x07aetb."
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_lists_of_integers_are_read_in_every_binary_protocol(protocol):
    assert lists(pickle.dumps(objects(LISTS), protocol), len(LISTS)) == LISTS


def test_lists_of_python_2_and_of_older_numpy_are_read():
    assert lists(PYTHON_2, 2) == [[1, 256, 65536], [7]]
    renamed = pickle.dumps(objects([[1, 2], [3]]), 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert lists(renamed, 2) == [[1, 2], [3]]


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1))), st.sampled_from([2, 3, 4, 5]))
def test_what_was_pickled_is_read(found, protocol):
    assert lists(pickle.dumps(objects(found), protocol), len(found)) == found


def test_lists_of_many_frames_and_shared_lists_are_read():
    shared = list(range(100))
    found = [list(range(n % 900)) for n in range(300)] + [shared, shared]
    assert lists(pickle.dumps(objects(found), 4), 302) == found


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_truncation_is_refused(protocol):
    content = pickle.dumps(objects(LISTS[:4]), protocol)
    for size in range(len(content)):
        with pytest.raises(Refused, match=r"a pickle|something other"):
            lists(content[:size], 4)


def test_bytes_after_the_end_and_other_counts_are_refused():
    content = pickle.dumps(objects(LISTS), 4)
    with pytest.raises(Refused, match="bytes after the end of the pickle"):
        lists(content + b"\0", len(LISTS))
    with pytest.raises(Refused, match="other than the array that its header announces"):
        lists(content, len(LISTS) + 1)


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(content):
    with pytest.raises(Refused, match=r"."):
        lists(content, 1)


@given(st.data())
def test_damaged_pickles_are_refused_or_lists_of_integers(data):
    content = bytearray(pickle.dumps(objects(LISTS[:4]), data.draw(st.sampled_from([2, 4]))))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = lists(bytes(content), 4)
    except Refused:
        return
    assert len(found) == 4
    assert all(type(value) is int for row in found for value in row)


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


MARKER = "made_by_a_pickle"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, (f"touch {MARKER}",)),
        (os.mkdir, (MARKER,)),
        (builtins.eval, (f"open({MARKER!r}, 'w')",)),
        (builtins.exec, (f"open({MARKER!r}, 'w')",)),
        (builtins.open, (MARKER, "w")),
        (builtins.getattr, (os, "system")),
        (builtins.bytearray, (2**40,)),
        (subprocess.check_call, (["touch", MARKER],)),
        (np.load, (MARKER, None, True)),
        (np.zeros, (2**50,)),
        (np.memmap, (MARKER, "u1", "w+", 0, 10)),
        (collections.OrderedDict, ()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("inside", [False, True])
def test_nothing_that_a_pickle_names_is_called(tmp_path, monkeypatch, protocol, function, arguments, inside):
    if function is builtins.getattr:
        arguments = (Calls(int), "system")
    monkeypatch.chdir(tmp_path)
    call = Calls(function, *arguments)
    content = pickle.dumps(objects([[1], [call]]) if inside else call, protocol)
    with pytest.raises(Refused, match=r"asks for '[\w.]+', which lists of integers do not need|opcode"):
        lists(content, 2)
    assert not list(tmp_path.iterdir())


def named(module, name, protocol=4):
    if protocol < 4:
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy.core", "multiarray._reconstruct.__globals__"),
        ("numpy", "dtype.__class__"),
        ("_codecs", "encode.__self__"),
        ("_codecs", "decode"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("posix", "system"),
        ("os", "system"),
        ("", ""),
        ("numpy.ndarray", ""),
        ("numpy.core", "multiarray._reconstruct"),
    ],
)
def test_names_beyond_the_five_are_refused_dotted_ones_too(protocol, module, name):
    with pytest.raises(Refused, match=r"asks for .*, which lists of integers do not need"):
        lists(b"\x80\x04" + named(module, name, protocol) + b".", 1)


@pytest.mark.parametrize("pair", [b"NN", b"K\x01K\x02", b"]]", b"K\x01\x8c\x01a", b"))"])
def test_names_that_are_no_strings_are_refused(pair):
    with pytest.raises(Refused, match="asks for what is no name"):
        lists(b"\x80\x04" + pair + b"\x93.", 1)


def test_long_names_are_cut_in_the_message():
    with pytest.raises(Refused, match=r"asks for 'a{98}\.x'|asks for 'a{100}'") as caught:
        lists(b"ca" + b"a" * 10**6 + b"\nx\n.", 1)
    assert len(str(caught.value)) < 200


ARRAY, NDARRAY = named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray")
DTYPE, ENCODE = named("numpy", "dtype"), named("_codecs", "encode")


@pytest.mark.parametrize(
    "call",
    [
        ARRAY + NDARRAY + b"J\xff\xff\xff\x7f\x85C\x01b\x87R",  # an array of 2**31 - 1 elements
        ARRAY + NDARRAY + b"(M\xff\xffM\xff\xffM\xff\xfftC\x01b\x87R",
        ARRAY + NDARRAY + b"K\x00\x85C\x01d\x87R",  # of another type
        ARRAY + DTYPE + b"K\x00\x85C\x01b\x87R",  # of another class
        ARRAY + ENCODE + b"K\x00\x85C\x01b\x87R",
        ARRAY + b")R",
        ARRAY + b"NR",
        ARRAY + b"]R",
        NDARRAY + b"J\xff\xff\xff\x7f\x85\x85R",  # the constructor itself
        NDARRAY + b"K\x01\x85R",
        DTYPE + b"\x8c\x02i8\x89\x88\x87R",
        DTYPE + b"\x8c\x0bV1000000000\x89\x88\x87R",
        DTYPE + b"\x8c\x02O8\x88\x88\x87R",
        DTYPE + b"](\x8c\x01a\x8c\x02O8\x86e\x85R",
        ENCODE + b"\x8c\x01b\x8c\x07unicode\x86R",
        ENCODE + b"\x8c\x02ab\x8c\x06latin1\x86R",
        ENCODE + b"\x8c\x01b\x8c\x0azlib_codec\x86R",
        b"K\x01)R",
        b"])R",
        b"N)R",
        b"\x8c\x02ab)R",
    ],
)
def test_calls_of_what_is_allowed_with_other_arguments_are_refused(call):
    with pytest.raises(Refused, match=r"calls '.*' otherwise than for an array of Python objects"):
        lists(b"\x80\x04" + call + b".", 1)


MADE = ARRAY + NDARRAY + b"K\x00\x85C\x01b\x87R"
OBJECT = DTYPE + b"\x8c\x02O8\x89\x88\x87R"


@pytest.mark.parametrize(
    "state",
    [
        b"K\x01J\xff\xff\xff\x7f\x85" + OBJECT + b"\x89]",  # more elements than there are
        b"K\x01(M\xff\xffM\xff\xfft" + OBJECT + b"\x89]",
        b"K\x02K\x00\x85" + OBJECT + b"\x89]",
        b"K\x01K\x00\x85" + OBJECT + b"\x88]",
        b"K\x01K\x00\x85" + OBJECT + b"\x89)",
        b"K\x01K\x00\x85" + DTYPE + b"\x89]",
        b"K\x01K\x00\x85" + OBJECT + b"\x89C\x08abcdefgh",
        b"K\x01K\x00\x85" + OBJECT + b"\x89]N",
        b"",
    ],
)
def test_other_states_of_an_array_are_refused(state):
    with pytest.raises(Refused, match="sets the state of something other than an object array of one dimension"):
        lists(b"\x80\x04" + MADE + b"(" + state + b"tb.", 0)


def test_the_pieces_of_these_pickles_make_an_array():
    assert lists(b"\x80\x04" + MADE + b"(K\x01K\x00\x85" + OBJECT + b"\x89]tb.", 0) == []


@pytest.mark.parametrize("target", [b"]", b")", b"N", b"K\x01", OBJECT, NDARRAY, DTYPE])
def test_states_of_anything_else_are_refused(target):
    with pytest.raises(Refused, match="sets the state of something other"):
        lists(b"\x80\x04" + target + b"}b.".replace(b"}", b"]"), 1)


def test_an_array_has_one_state():
    once = b"(K\x01K\x00\x85" + OBJECT + b"\x89]tb"
    with pytest.raises(Refused, match="sets the state of something other"):
        lists(b"\x80\x04" + MADE + once + once + b".", 0)


WANTED = {
    "PROTO", "FRAME", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "LONG1", "SHORT_BINSTRING", "SHORT_BINBYTES",
    "SHORT_BINUNICODE", "BINUNICODE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "APPEND",
    "APPENDS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "STOP", "BININT", "BININT1", "BININT2",
}  # fmt: skip


@pytest.mark.parametrize("opcode", [op for op in pickletools.opcodes if op.name not in WANTED], ids=lambda op: op.name)
def test_every_other_opcode_is_refused(opcode):
    with pytest.raises(Refused, match=r"opcode .*, which lists of integers do not need"):
        lists(b"\x80\x04]" + opcode.code.encode("latin1") + bytes(20) + b".", 1)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x80\x06.", "protocol 6"),
        (b"\x80\x02h\x05.", "recalls what it did not keep, number 5"),
        (b"\x80\x02j\xff\xff\xff\xff.", "recalls what it did not keep, number 4294967295"),
        (b"\x80\x02)K\x01a.", "appends to something other than a list"),
        (b"\x80\x02)(K\x01e.", "appends to something other than a list"),
        (b"\x80\x02e.", "takes more than it has put"),
        (b"\x80\x02K\x01\x86.", "takes more than it has put"),
        (b"\x80\x02q\x00.", "takes more than it has put"),
        (b"\x80\x02.", "takes more than it has put"),
        (b"\x80\x02K\x01.", "other than the array"),
        (b"\x80\x02\x8a\xff" + bytes(255) + b".", "integer of 255 bytes"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "ends early"),
        (b"\x80\x02cnumpy\nndarray", "ends early"),
        (b"(lp0\nI1\na.", "opcode b'l'"),
    ],
)
def test_what_no_pickler_writes_is_refused(content, match):
    with pytest.raises(Refused, match=match):
        lists(content, 1)


def array_of(items, count):
    return b"\x80\x04" + MADE + b"(K\x01J" + struct.pack("<i", count) + b"\x85" + OBJECT + b"\x89" + items + b"tb."


def test_a_place_of_the_memo_far_out_takes_no_memory():
    # The C unpickler of CPython 3.11 makes a table of all places before it (cpython issue 115952).
    assert lists(array_of(b"](]r\xff\xff\xff\xffe", 1), 1) == [[]]


def test_one_long_list_in_many_places_is_refused():
    repeated = b"](](" + b"K\x01" * 1000 + b"e\x94" + b"h\x00" * 9999 + b"e"
    with pytest.raises(Refused, match="repeats to more than its own length"):
        lists(array_of(repeated, 10_000), 10_000)


def test_a_list_that_holds_itself_is_refused():
    with pytest.raises(Refused, match="something other than a list of integers at index 0"):
        lists(array_of(b"]\x94h\x00a", 1), 1)


def test_lists_nested_deeply_are_refused():
    with pytest.raises(Refused, match="something other than a list of integers at index 0"):
        lists(array_of(b"]" * 100_000 + b"a" * 99_999, 1), 1)


def test_tuples_nested_deeply_are_refused():
    with pytest.raises(Refused, match="calls '_reconstruct' otherwise"):
        lists(ARRAY + NDARRAY + b")" + b"\x85" * 100_000 + b"C\x01b\x87R.", 1)


def test_steps_are_bounded(monkeypatch):
    monkeypatch.setattr(_pickles, "STEPS", 1000)
    with pytest.raises(Refused, match="more than 1,000 steps"):
        lists(b"\x80\x04" + b"]" * 2000 + b".", 1)
    # Integers are bounded by the length alone: 40 steps here.
    assert lists(pickle.dumps(objects([list(range(20_000))]), 4), 1) == [list(range(20_000))]


def test_the_file_of_a_malicious_pickle_is_named_and_nothing_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    content = npy_header((1,)) + pickle.dumps(Calls(os.mkdir, MARKER), 4)
    ones = npy(np.array([1]))
    write_members(tmp_path / "data" / "imdb.npz", {f"{n}.npy": ones for n in ("y_train", "x_test", "y_test")} | {
        "x_train.npy": content
    })  # fmt: skip
    with pytest.raises(
        CorruptFile, match=r"imdb\.npz': expected a pickle of 1 lists .* found .*asks for 'posix\.mkdir'"
    ):
        load("imdb", tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
