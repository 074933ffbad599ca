"""MNIST from its four files: against plain arithmetic on the arrays that were written."""

import gzip

import numpy as np
import pytest
from published import idx, mnist_arrays, write_mnist

from qrjax._datasets._publication import CorruptFile
from qrjax._datasets._table import load

ARRAYS = mnist_arrays()
IMAGES = "train-images-idx3-ubyte"


def replaced(part, images=None, labels=None):
    own = ARRAYS[part]
    return ARRAYS | {part: (own[0] if images is None else images, own[1] if labels is None else labels)}


def expected(arrays, limit=None):
    (train, train_labels), (test, test_labels) = (
        (images[:limit].astype(np.float64), labels[:limit]) for images, labels in (arrays["train"], arrays["t10k"])
    )
    mean = train.sum() / train.size
    stddev = np.sqrt(((train - mean) ** 2).sum() / train.size)
    return [(train - mean) / stddev, train_labels, (test - mean) / stddev, test_labels]


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 5, 100])
def test_arrays_are_those_written_standardized(tmp_path, dot, packed, limit):
    write_mnist(tmp_path, ARRAYS, dot, packed)
    found = load("mnist", tmp_path, limit=limit)
    train, train_labels, test, test_labels = expected(ARRAYS, limit)
    assert (found.name, found.kind, found.classes, found.vocabulary) == ("mnist", "images", 10, None)
    for inputs, wanted in ((found.train_inputs, train), (found.test_inputs, test)):
        assert (inputs.dtype, inputs.shape) == (np.float32, (*wanted.shape, 1))
        np.testing.assert_allclose(inputs[..., 0], wanted, rtol=3e-7, atol=3e-7)
    for labels, wanted in ((found.train_labels, train_labels), (found.test_labels, test_labels)):
        assert labels.dtype == np.int32
        assert labels.tolist() == wanted.tolist()


def test_names_mix_and_published_ones_come_first(tmp_path):
    write_mnist(tmp_path, ARRAYS, ".")
    (tmp_path / "t10k-labels.idx1-ubyte").rename(tmp_path / "t10k-labels-idx1-ubyte")
    other = mnist_arrays(seed=1)["train"][0]
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(idx(other)))
    found = load("mnist", str(tmp_path))
    np.testing.assert_array_equal(found.train_inputs > 0, (other > other.mean())[..., None])


def test_a_folder_of_a_files_name_is_passed_over(tmp_path):
    write_mnist(tmp_path, ARRAYS, ".")
    (tmp_path / IMAGES).mkdir()
    assert len(load("mnist", tmp_path).train_labels) == 7


@pytest.mark.parametrize(
    "name", [IMAGES, "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
)
def test_a_missing_file_is_named_with_all_its_names_and_where_it_is_published(tmp_path, name):
    write_mnist(tmp_path, ARRAYS)
    (tmp_path / name).unlink()
    dotted = name.replace("-idx", ".idx")
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist", tmp_path)
    message = str(caught.value)
    assert message == (
        f"missing in the folder {str(tmp_path)!r}: {name}.gz (or {name}, {dotted}.gz, {dotted}); MNIST is published "
        "at yann.lecun.com/exdb/mnist (LeCun, Cortes and Burges) and its mirrors"
    )


def test_a_missing_file_is_found_before_any_is_read(tmp_path):
    write_mnist(tmp_path, ARRAYS)
    (tmp_path / IMAGES).write_bytes(b"damaged")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (replaced("train", labels=ARRAYS["train"][1][:-1]), "train-labels.*as many labels as train.*, 7, found 6"),
        (replaced("t10k", labels=np.uint8([1, 2, 10, 3])), "t10k-labels.*labels from 0 to 9, found 10 at index 2"),
        (replaced("t10k", images=np.zeros((4, 6, 5), np.uint8)), r"t10k-images.*shape \(5, 6\), found \(6, 5\)"),
        (replaced("train", images=np.zeros((7, 5, 6), np.int16)), "00 00 08 03 and 3 sizes, found 00 00 0b 03"),
        (replaced("train", np.zeros((0, 5, 6), np.uint8), np.zeros(0, np.uint8)), "expected one image or more"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(tmp_path, arrays, match):
    write_mnist(tmp_path, arrays)
    with pytest.raises(CorruptFile, match=f"{match}.*; get the file again: MNIST is published at yann"):
        load("mnist", tmp_path)


def test_images_in_the_place_of_labels_are_refused(tmp_path):
    write_mnist(tmp_path, ARRAYS)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes((tmp_path / IMAGES).read_bytes())
    with pytest.raises(CorruptFile, match="bytes in 1 dimensions, 00 00 08 01 and 1 sizes, found 00 00 08 03"):
        load("mnist", tmp_path)


def test_counts_are_compared_beyond_the_limit(tmp_path):
    write_mnist(tmp_path, replaced("train", labels=ARRAYS["train"][1][:-1]))
    with pytest.raises(CorruptFile, match="as many labels"):
        load("mnist", tmp_path, limit=2)


@pytest.mark.parametrize("limit", [None, 2])
def test_every_truncation_of_a_gzip_file_is_an_error_that_names_it(tmp_path, limit):
    write_mnist(tmp_path, ARRAYS, packed=True)
    file = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = file.read_bytes()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        with pytest.raises(CorruptFile, match=r"t10k-labels-idx1-ubyte\.gz': expected .* found .*; get the file again"):
            load("mnist", tmp_path, limit=limit)


@pytest.mark.parametrize("place", [0, 12, -6, -1])
def test_a_damaged_gzip_file_is_an_error_that_names_it(tmp_path, place):
    write_mnist(tmp_path, ARRAYS, packed=True)
    file = tmp_path / f"{IMAGES}.gz"
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"train-images-idx3-ubyte\.gz': expected (a gzip file|IDX's|one image)"):
        load("mnist", tmp_path, limit=1)


def test_files_whose_names_lost_or_kept_a_gz_are_explained(tmp_path):
    write_mnist(tmp_path, ARRAYS, packed=True)
    packed = tmp_path / f"{IMAGES}.gz"
    content = packed.read_bytes()
    packed.write_bytes(gzip.decompress(content))
    with pytest.raises(CorruptFile, match=r"without \.gz in its name if it is unpacked"):
        load("mnist", tmp_path)
    packed.unlink()
    (tmp_path / IMAGES).write_bytes(content)
    with pytest.raises(CorruptFile, match=r"1f 8b 08 .*, which is gzip's: give the file's name \.gz"):
        load("mnist", tmp_path)


def test_blank_images_are_refused(tmp_path):
    write_mnist(tmp_path, replaced("train", images=np.full((7, 5, 6), 3, np.uint8)))
    with pytest.raises(ValueError, match="training pixels of a channel are all 3; keep more images"):
        load("mnist", tmp_path)
