"""IMDB from imdb.npz: against Keras's rules in plain Python, and every member that is not what it should be."""

import io
import struct
import zipfile

import numpy as np
import pytest
from published import imdb_arrays, npy, npy_header, objects, write_members

from qrjax._datasets import _npz
from qrjax._datasets._files import CorruptFile
from qrjax._datasets._table import load

REMEDY = (
    r"; get the file again: IMDB \(Maas et al\. 2011\) is published at storage\.googleapis\.com/tensorflow/tf-keras"
)


def write(folder, arrays, save=np.savez_compressed):
    save(folder / "imdb.npz", **arrays)


def keras(review, vocabulary, length):
    """Index 1 starts a review, words are shifted by 3, those outside the vocabulary are 2, and 0 pads in front."""
    tokens = [1] + [rank + 3 for rank in review]
    tokens = [token if token < vocabulary else 2 for token in tokens][-length:]
    return [0] * (length - len(tokens)) + tokens


def orders(train, test):
    generator = np.random.RandomState(113)
    found = []
    for count in (train, test):
        order = np.arange(count)
        generator.shuffle(order)
        found.append(order.tolist())
    return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("vocabulary", "length", "limit"), [(10000, 200, None), (40, 12, 4), (3, 1, 1), (90000, 7, 99)]
)
def test_tokens_are_those_of_kerass_rules(tmp_path, save, vocabulary, length, limit):
    arrays = imdb_arrays()
    write(tmp_path, arrays, save)
    found = load("imdb", tmp_path, vocabulary=vocabulary, length=length, limit=limit)
    assert (found.name, found.kind, found.classes, found.vocabulary) == ("imdb", "tokens", 2, vocabulary)
    train, test = orders(9, 6)
    for part, order, tokens, labels in (
        ("train", train, found.train_inputs, found.train_labels),
        ("test", test, found.test_inputs, found.test_labels),
    ):
        expected = [keras(arrays[f"x_{part}"][index], vocabulary, length) for index in order[:limit]]
        assert tokens.tolist() == expected
        assert labels.tolist() == [int(arrays[f"y_{part}"][index]) for index in order[:limit]]
        assert tokens.dtype == labels.dtype == np.int32


def test_the_order_is_the_one_that_kerass_loader_has():
    # RandomState's stream is frozen by NumPy's policy (NEP 19), so these are Keras's reviews in every version.
    train, test = orders(25000, 25000)
    assert train[:6] == TRAIN_ORDER
    assert test[:6] == TEST_ORDER


TRAIN_ORDER = [7798, 13226, 18078, 793, 17499, 23003]
TEST_ORDER = [22748, 4083, 8015, 13688, 5310, 4466]


def test_the_first_examples_are_of_both_classes_where_the_file_is_sorted(tmp_path):
    arrays = {f"x_{part}": objects([[1, 2]] * 200) for part in ("train", "test")}
    write(tmp_path, arrays | {f"y_{part}": np.repeat([1, 0], 100) for part in ("train", "test")})
    found = load("imdb", tmp_path, limit=20)
    assert set(found.train_labels) == set(found.test_labels) == {0, 1}


def test_a_short_review_keeps_its_start_and_a_long_one_its_end(tmp_path):
    part = {"x": objects([[10, 11, 12]]), "y": np.array([1])}
    write(tmp_path, {f"{name}_{split}": part[name] for name in part for split in ("train", "test")})
    assert load("imdb", tmp_path, length=6).train_inputs.tolist() == [[0, 0, 1, 13, 14, 15]]
    assert load("imdb", tmp_path, length=4).train_inputs.tolist() == [[1, 13, 14, 15]]
    assert load("imdb", tmp_path, length=2).train_inputs.tolist() == [[14, 15]]
    assert load("imdb", tmp_path, length=4, vocabulary=14).train_inputs.tolist() == [[1, 13, 2, 2]]


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<u2", "u1"])
@pytest.mark.parametrize("fortran", [False, True])
def test_rows_of_an_array_filled_up_with_zeros_are_the_same_reviews(tmp_path, dtype, fortran):
    arrays = imdb_arrays()
    arrays["x_train"][0] = [255, 1]
    arrays["x_test"][0] = [255, 1]
    (tmp_path / "lists").mkdir()
    write(tmp_path / "lists", arrays)
    for part in ("train", "test"):
        longest = max(map(len, arrays[f"x_{part}"]))
        rows = [review + [0] * (longest - len(review)) for review in arrays[f"x_{part}"]]
        arrays[f"x_{part}"] = np.array(rows, dtype, order="F" if fortran else "C")
        arrays[f"y_{part}"] = arrays[f"y_{part}"].astype(np.uint8)
    write(tmp_path, arrays)
    for one, other in zip(load("imdb", tmp_path), load("imdb", tmp_path / "lists"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_file_is_named_with_where_it_is_published(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("imdb", tmp_path)
    assert str(caught.value) == (
        f"missing in the folder {str(tmp_path)!r}: imdb.npz; IMDB (Maas et al. 2011) is published at "
        "storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz, in the form that Keras gives it"
    )


def changed(**members):
    return {name: members.get(name, array) for name, array in imdb_arrays().items() if members.get(name, 0) is not None}


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (changed(y_test=None), r"expected one member y_test\.npy, found 'x_train\.npy', 'y_train\.npy', 'x_test\.npy'"),
        (changed(y_train=np.zeros(8, int)), "as many labels in y_train as reviews, 9, and one or more, found .8,."),
        (changed(y_train=np.zeros((9, 1), int)), "as many labels in y_train as reviews, 9.*, found .9, 1."),
        (changed(y_train=objects([[0]] * 9)), "as many labels in y_train as reviews, 9.*, found lists"),
        (changed(y_test=np.array([0, 1, 1, 2, 0, 0])), "labels 0 and 1 in y_test, found 2 at index 3"),
        (changed(y_test=np.array([0, 1, 1, -1, 0, 0])), "labels 0 and 1 in y_test, found -1 at index 3"),
        (changed(y_test=np.zeros(6)), "integers, or lists of integers, in y_test, found elements of the type float64"),
        (changed(x_test=np.zeros((6, 3), np.float32)), "integers, or lists of integers, in x_test, found .*float32"),
        (changed(x_test=np.zeros(6, int)), r"as lists, or in two dimensions, in x_test, found the shape \(6,\)"),
        (changed(x_test=np.zeros((6, 2), object)), r"in one dimension in x_test, found the shape \(6, 2\)"),
        (changed(x_test=objects([[1]] * 5 + [[-1]])), "ranks from 0 to 2147483644 in x_test, found others at index 5"),
        (changed(x_test=objects([[1]] * 5 + [[2**31]])), "ranks from 0 to 2147483644 in x_test, found others at"),
        (changed(x_test=objects([[1]] * 5 + [[2**70]])), "found an integer of 9 bytes"),
        (changed(x_test=objects([[1]] * 5 + [[True]])), "found something other than a list of integers at index 5"),
        (changed(x_test=objects([[1]] * 5 + [[[1]]])), "found something other than a list of integers at index 5"),
        (changed(x_test=objects([[1]] * 5 + [(1,)])), "found something other than a list of integers at index 5"),
        (changed(x_test=objects([[1]] * 5 + ["a"])), "found something other than a list of integers at index 5"),
        (changed(x_test=objects([[1]] * 5 + [{}])), "opcode b'}', which lists of integers do not need"),
        (changed(x_test=objects([[1]] * 5 + [[0.5]])), "opcode b'G', which lists of integers do not need"),
        (changed(x_test=objects([[1]] * 5 + [np.arange(2)])), "found a pickle that calls 'dtype' otherwise"),
        (changed(x_test=objects([[1]] * 5 + [[np.int64(1)]])), r"asks for 'numpy\._core\.multiarray\.scalar'"),
        (changed(x_test=objects([]), y_test=np.zeros(0, int)), "as reviews, 0, and one or more"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, match):
    write(tmp_path, arrays)
    with pytest.raises(CorruptFile, match=f"imdb.npz': .*{match}.*{REMEDY}"):
        load("imdb", tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_truncation_is_an_error_that_names_the_file(tmp_path, compression):
    file = tmp_path / "imdb.npz"
    members = {f"{name}.npy": npy(array) for name, array in imdb_arrays(2, 1).items()}
    write_members(file, members, compression)
    content = file.read_bytes()
    for size in range(0, len(content), 3):
        file.write_bytes(content[:size])
        with pytest.raises(CorruptFile, match=f"imdb.npz': expected .* found .*{REMEDY}"):
            load("imdb", tmp_path)


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_noticed_or_without_effect(tmp_path, step):
    file = tmp_path / "imdb.npz"
    members = {f"{name}.npy": npy(array) for name, array in imdb_arrays(2, 1).items()}
    write_members(file, members)
    whole, content = load("imdb", tmp_path), file.read_bytes()
    refused = 0
    for place in range(0, len(content), step):
        for mask in (0x01, 0xFF):
            file.write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
            try:
                found = load("imdb", tmp_path)
            except CorruptFile:
                refused += 1
            else:  # a time stamp, or another field that nothing reads
                assert all(np.array_equal(one, other) for one, other in zip(found, whole, strict=True))
    assert refused > len(content) / step


def member(content, name="x_test"):
    return {f"{key}.npy": npy(array) for key, array in imdb_arrays().items()} | {f"{name}.npy": content}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"expected x_test\.npy, found .*"),
        (b"\x93NUMPZ\x01\x00" + bytes(100), r"expected x_test\.npy, found .*magic"),
        (b"\x93NUMPY\x07\x00" + bytes(100), r"expected x_test\.npy, found .*version"),
        (npy(np.zeros((6, 2), int))[:-1], r"96 bytes of elements of the shape \(6, 2\) in x_test, found 95"),
        (npy(np.zeros((6, 2), int)) + b"\0", r"96 bytes of elements of the shape \(6, 2\) in x_test, found 97"),
        (npy_header((2**40, 2**40), "<i8"), r"at most 1,073,741,824 bytes in x_test, found the shape"),
        (npy_header((-1,), "<i8"), r"-8 bytes of elements of the shape \(-1,\)"),
        (npy_header((-1, -1), "<i8") + bytes(8), r"expected x_test\.npy, found"),
        (npy_header((2,) * 70, "<i8"), r"at most 1,073,741,824 bytes in x_test"),
        (npy_header((1,) * 70, "<i8") + bytes(8), r"expected x_test\.npy, found"),
        (npy_header((6,)), "found a pickle that ends early"),
        (npy_header((10**12,)) + npy(objects([[1]] * 6))[128:], "announces"),
    ],
)
def test_members_that_are_no_npy_files_are_refused(tmp_path, content, match):
    write_members(tmp_path / "imdb.npz", member(content))
    with pytest.raises(CorruptFile, match=f"imdb.npz': .*{match}"):
        load("imdb", tmp_path)


def test_two_members_of_one_name_are_refused(tmp_path):
    file = tmp_path / "imdb.npz"
    write_members(file, member(npy(objects([[1]] * 6))))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x_test.npy", b"")
    with pytest.raises(CorruptFile, match=r"expected one member x_test\.npy, found .*'x_test\.npy'.*'x_test\.npy'"):
        load("imdb", tmp_path)


def test_other_compressions_and_encryption_are_refused(tmp_path):
    file = tmp_path / "imdb.npz"
    write_members(file, member(npy(objects([[1]] * 6))), zipfile.ZIP_BZIP2)
    with pytest.raises(CorruptFile, match=r"expected x_train\.npy stored or deflated, found another compression"):
        load("imdb", tmp_path)
    write_members(file, member(npy(objects([[1]] * 6))))
    content = bytearray(file.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"expected x_train\.npy stored or deflated, found .*encryption"):
        load("imdb", tmp_path)


def test_a_pickle_of_too_many_bytes_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(_npz, "PICKLE_BYTES", 2**20)
    write_members(tmp_path / "imdb.npz", member(npy_header((6,)) + bytes(2**20 + 1)))
    with pytest.raises(
        CorruptFile, match=r"at most 1,048,576 bytes in x_test \(arrays of integers in two dim.*1,048,577"
    ):
        load("imdb", tmp_path)


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    file = tmp_path / "imdb.npz"
    write_members(file, member(npy_header((6,)) + bytes(10**6)))
    content = bytearray(file.read_bytes())
    start = content.index(b"PK\x01\x02")
    while content[start + 46 : start + 56] != b"x_test.npy":
        start = content.index(b"PK\x01\x02", start + 1)
    struct.pack_into("<I", content, start + 24, 1000)
    file.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"expected (x_test\.npy|a pickle)"):
        load("imdb", tmp_path)


def test_a_file_that_is_no_zip_file_is_refused(tmp_path):
    (tmp_path / "imdb.npz").write_bytes(io.BytesIO(b"<html>not found</html>").getvalue())
    with pytest.raises(CorruptFile, match="expected a zip file, found File is not a zip file"):
        load("imdb", tmp_path)
