"""The table of datasets: names, arguments, and scikit-learn's digits."""

import doctest
import subprocess
import sys

import numpy as np
import pytest
from published import cifar_records, imdb_arrays, mnist_arrays, padded, write_cifar, write_mnist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from qrjax._datasets import _table
from qrjax._datasets._table import DATASETS, load


@pytest.fixture
def folders(tmp_path):
    """Of every dataset."""
    made = {name: tmp_path / name for name in DATASETS if name not in ("digits", "mnist1d")}
    for folder in made.values():
        folder.mkdir()
    write_mnist(made["mnist"], mnist_arrays())
    write_cifar(made["cifar10"], cifar_records())
    np.savez(made["imdb"] / "imdb.npz", **padded(imdb_arrays()))
    return made | {"digits": None, "mnist1d": None}


# MNIST-1D is made, which takes a second.
EACH = pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "mnist1d")) for n in DATASETS])


@EACH
@pytest.mark.parametrize("limit", [None, 3])
def test_every_dataset_is_what_a_dataset_is(folders, name, limit):
    found = load(name, folders[name], vocabulary=60, length=5, limit=limit)
    assert found.name == name
    for inputs, labels in ((found.train_inputs, found.train_labels), (found.test_inputs, found.test_labels)):
        assert len(inputs) == len(labels) == (limit or len(labels))
        assert labels.dtype == np.int32
        assert 0 <= labels.min() <= labels.max() < found.classes
        if found.kind == "images":
            assert (inputs.dtype, inputs.ndim, found.vocabulary) == (np.float32, 4, None)
            assert np.isfinite(inputs).all()
        else:
            assert (found.kind, inputs.dtype, inputs.shape[1:], found.vocabulary) == ("tokens", np.int32, (5,), 60)
            assert 0 <= inputs.min() <= inputs.max() < 60
    if found.kind == "images":
        axes = (0, 1, 2) if name == "cifar10" else None
        # MNIST-1D's generator standardizes training and test examples together.
        near = {"atol": 0.2 if name == "mnist1d" and limit else 0.01 if name == "mnist1d" else 1e-6}
        np.testing.assert_allclose(found.train_inputs.mean(axes, dtype=np.float64), 0, **near)
        np.testing.assert_allclose(found.train_inputs.std(axes, dtype=np.float64), 1, **near)


@EACH
def test_loading_twice_gives_the_same_bits(folders, name):
    for one, other in zip(load(name, folders[name]), load(name, folders[name]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("limit", [None, 100, 5000])
def test_digits_are_split_and_standardized(limit):
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    train, test = train[:limit], test[:limit]
    found = load("digits", limit=limit)
    assert (found.name, found.kind, found.classes, found.vocabulary) == ("digits", "images", 10, None)
    assert found.train_inputs.shape == (len(train), 8, 8, 1)
    expected = (test - train.mean()) / train.std()
    np.testing.assert_allclose(found.test_inputs.reshape(-1, 64), expected, rtol=1e-6, atol=1e-6)
    assert found.train_labels.tolist() == train_labels[:limit].tolist()
    assert found.test_labels.tolist() == test_labels[:limit].tolist()


def test_digits_take_neither_a_folder_nor_checksums(tmp_path):
    with pytest.raises(ValueError, match="`folder` must be None for digits, which come with scikit-learn, got '"):
        load("digits", tmp_path)
    with pytest.raises(
        ValueError, match="`checksums` must be False for digits, which come with scikit-learn, got True"
    ):
        load("digits", checksums=True)


@pytest.mark.parametrize(
    ("absent", "match"),
    [("sklearn", r"^digits need scikit-learn, .*: pip install 'qrjax\[demo\]'$"), ("scipy", "^gone$")],
)
def test_digits_without_scikit_learn_say_how_to_get_it(tmp_path, monkeypatch, absent, match):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "sklearn.py").write_text(f"raise ModuleNotFoundError('gone', name={absent!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=match):
        load("digits")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("minst", "; did you mean 'mnist' or 'mnist1d'\\?"),
        ("CIFAR-10", "; did you mean 'cifar10'\\?"),
        ("Digits", "; did you mean 'digits'\\?"),
        ("imagenet", "$"),
        ("", "$"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, hint):
    names = "'digits', 'mnist1d', 'mnist', 'cifar10', 'imdb'"
    with pytest.raises(ValueError, match=f"`dataset` must be one of {names}, got {name!r}{hint}"):
        load(name)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"vocabulary": 2}, ValueError, "`vocabulary` must be 3 or more, got 2"),
        ({"vocabulary": 10.0}, TypeError, "`vocabulary` must be a whole number, got 10.0 of type float"),
        ({"length": 0}, ValueError, "`length` must be 1 or more, got 0"),
        ({"length": None}, TypeError, "`length` must be a whole number, got None"),
        ({"limit": 0}, ValueError, "`limit` must be 1 or more, got 0"),
        ({"limit": -5}, ValueError, "`limit` must be 1 or more, got -5"),
        ({"limit": True}, TypeError, "`limit` must be a whole number, got True of type bool"),
        ({"folder": 3}, TypeError, "`folder` must be a path, got 3 of type int"),
        ({"name": 3}, TypeError, "`dataset` must be a name, got 3 of type int; one of 'digits'"),
        (
            {"folder": None},
            ValueError,
            "`folder` must be the folder of MNIST's files, got None; MNIST is published at",
        ),
        ({"folder": "not there"}, FileNotFoundError, "`folder` 'not there' does not exist; MNIST is published at yann"),
        ({"folder": __file__}, NotADirectoryError, "`folder` '.*' is a file; name the folder that holds it"),
    ],
)
def test_arguments_are_refused_before_any_work(tmp_path, arguments, error, match):
    with pytest.raises(error, match=match):
        load(**{"name": "mnist", "folder": tmp_path} | arguments)


def test_numbers_of_numpy_will_do(folders):
    assert len(load("imdb", folders["imdb"], length=np.int32(4), limit=np.int64(2)).train_inputs) == 2


def test_the_example_of_the_documentation_runs():
    tests = doctest.DocTestFinder(recurse=False).find(load, globs={"load": load})
    assert [doctest.DocTestRunner().run(test).failed for test in tests if test.examples] == [0]


@pytest.mark.slow  # another process imports JAX
def test_the_table_loads_no_scikit_learn():
    code = f"import sys, {_table.__name__}; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
