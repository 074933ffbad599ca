"""IMDB from imdb.npz: against Keras's rules in plain Python, and every member that is not what it should be."""

import hashlib
import zipfile

import numpy as np
import pytest
from published import imdb_arrays, objects

from qrjax._datasets import _imdb
from qrjax._datasets._publication import CorruptFile
from qrjax._datasets._table import load

REMEDY = (
    r"; get the file again: IMDB \(Maas et al\. 2011\) is published at storage\.googleapis\.com/tensorflow/tf-keras"
)


def write(folder, arrays, save=np.savez_compressed):
    save(folder / "imdb.npz", **arrays)


def digest(folder):
    return f"sha256:{hashlib.sha256((folder / 'imdb.npz').read_bytes()).hexdigest()}"


def loaded(folder, **options):
    """From a file that the caller vouches for."""
    return load("imdb", folder, checksums={"imdb.npz": digest(folder)}, **options)


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
    found = loaded(tmp_path, vocabulary=vocabulary, length=length, limit=limit)
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
    found = loaded(tmp_path, limit=20)
    assert set(found.train_labels) == set(found.test_labels) == {0, 1}


def test_a_short_review_keeps_its_start_and_a_long_one_its_end(tmp_path):
    part = {"x": objects([[10, 11, 12]]), "y": np.array([1])}
    write(tmp_path, {f"{name}_{split}": part[name] for name in part for split in ("train", "test")})
    assert loaded(tmp_path, length=6).train_inputs.tolist() == [[0, 0, 1, 13, 14, 15]]
    assert loaded(tmp_path, length=4).train_inputs.tolist() == [[1, 13, 14, 15]]
    assert loaded(tmp_path, length=2).train_inputs.tolist() == [[14, 15]]
    assert loaded(tmp_path, length=4, vocabulary=14).train_inputs.tolist() == [[1, 13, 2, 2]]


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
    for one, other in zip(loaded(tmp_path), loaded(tmp_path / "lists"), strict=True):
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
        (changed(y_test=None), r"x_train, y_train, x_test and y_test, found .*y_test is not a file in the archive"),
        (changed(y_train=np.zeros(8, int)), "as many labels in y_train as reviews, 9, and one or more, found int64"),
        (changed(y_train=np.zeros((9, 1), int)), "as many labels in y_train as reviews, 9.*, found int64 .*9, 1"),
        (changed(y_train=objects([[0]] * 9)), "as many labels in y_train as reviews, 9.*, found object"),
        (changed(y_test=np.array([0, 1, 1, 2, 0, 0])), "labels 0 and 1 in y_test, found 2 at index 3"),
        (changed(y_test=np.array([0, 1, 1, -1, 0, 0])), "labels 0 and 1 in y_test, found -1 at index 3"),
        (changed(y_test=np.zeros(6)), "as many labels in y_test as reviews.* found float64"),
        (changed(x_test=np.zeros((6, 3), np.float32)), "integers in two dimensions, in x_test, found float32"),
        (changed(x_test=np.zeros(6, int)), r"integers in two dimensions, in x_test, found int64 of the shape \(6,\)"),
        (changed(x_test=np.zeros((6, 2), object)), r"in x_test, found object of the shape \(6, 2\)"),
        (changed(x_test=objects([[1]] * 5 + [[-1]])), "ranks from 0 to 2147483644 in x_test, found others at index 5"),
        (changed(x_test=objects([[1]] * 5 + [[2**31]])), "ranks from 0 to 2147483644 in x_test, found others at"),
        (changed(x_test=objects([]), y_test=np.zeros(0, int)), "as reviews, 0, and one or more"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, match):
    write(tmp_path, arrays)
    with pytest.raises(CorruptFile, match=f"imdb.npz': .*{match}.*{REMEDY}"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_zip_file_is_refused(tmp_path, content):
    (tmp_path / "imdb.npz").write_bytes(content)
    for read in (loaded, lambda folder: load("imdb", folder)):
        with pytest.raises(CorruptFile, match=f"expected an .npz file of .*, found .*zip file.*{REMEDY}"):
            read(tmp_path)


def test_every_truncation_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / "imdb.npz"
    np.savez_compressed(file, **imdb_arrays(2, 1))
    content = file.read_bytes()
    for size in range(0, len(content), 50):
        file.write_bytes(content[:size])
        with pytest.raises(CorruptFile, match=f"imdb.npz': expected .* found .*{REMEDY}"):
            loaded(tmp_path)


# -- trust -----------------------------------------------------------------------------------------------------------

RAN = []


class Malicious:
    """A pickle that calls a function when it is read."""

    def __reduce__(self):
        return RAN.append, ("run",)


def test_no_pickle_is_read_of_a_file_that_nobody_vouches_for(tmp_path):
    array = np.empty(9, object)
    array[:] = [Malicious()] * 9
    write(tmp_path, changed(x_train=array), np.savez)
    with pytest.raises(CorruptFile, match=r"pickled objects, which can run any code.*checksums=\{'imdb.npz': 'sha256:"):
        load("imdb", tmp_path)
    with pytest.raises(CorruptFile, match="expected the sha256 digest"):
        load("imdb", tmp_path, checksums=True)
    with pytest.raises(CorruptFile, match="expected the sha256 digest"):
        load("imdb", tmp_path, checksums={"imdb.npz": "sha256:" + "0" * 64})
    # Nor is a pickle without the zip file around it.
    (tmp_path / "imdb.npz").write_bytes(zipped(tmp_path / "imdb.npz"))
    with pytest.raises(CorruptFile, match="zip file"):
        load("imdb", tmp_path)
    assert not RAN


def zipped(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("x_train.npy")


def test_the_published_file_is_read_without_being_asked_to_compare(tmp_path, monkeypatch):
    write(tmp_path, imdb_arrays())
    with pytest.raises(CorruptFile, match="in a file of another digest"):
        load("imdb", tmp_path)
    published = _imdb.PUBLICATION._replace(digests={"imdb.npz": digest(tmp_path)})
    monkeypatch.setattr(_imdb, "PUBLICATION", published)
    for one, other in zip(load("imdb", tmp_path), loaded(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_of_integers_need_no_trust(tmp_path):
    rows = {name: array if name[0] == "y" else np.ones((len(array), 4), int) for name, array in imdb_arrays().items()}
    write(tmp_path, rows)
    assert load("imdb", tmp_path).train_inputs.shape == (9, 200)
