"""Digests: the publishers', and one's own."""

import gzip
import hashlib

import numpy as np
import pytest
from published import cifar_records, imdb_arrays, mnist_arrays, padded, tar, write_cifar, write_mnist

from qrjax._datasets import _cifar, _imdb, _mnist
from qrjax._datasets._publication import CorruptFile
from qrjax._datasets._table import load


def cifar_archive(folder):
    (folder / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(tar(cifar_records())))


def cifar_folder(folder):
    write_cifar(folder, cifar_records())


def mnist_packed(folder):
    write_mnist(folder, mnist_arrays(), packed=True)


def mnist_unpacked(folder):
    write_mnist(folder, mnist_arrays())


def imdb(folder):
    np.savez(folder / "imdb.npz", **padded(imdb_arrays()))


WRITERS = {"cifar10": (cifar_archive, cifar_folder), "mnist": (mnist_packed, mnist_unpacked), "imdb": (imdb,)}
CASES = [pytest.param(name, write, id=write.__name__) for name, writers in WRITERS.items() for write in writers]


def digests(folder, algorithm):
    return {
        path.name: f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}" for path in folder.iterdir()
    }


@pytest.mark.parametrize(("name", "write"), CASES)
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_ones_own_digests_are_compared(tmp_path, name, write, algorithm):
    write(tmp_path)
    own = digests(tmp_path, algorithm)
    plain, checked = load(name, tmp_path), load(name, tmp_path, checksums=own | {"another file": own[min(own)]})
    for one, other in zip(plain, checked, strict=True):
        np.testing.assert_array_equal(one, other)
    upper = {file: text[: len(algorithm) + 1] + text[len(algorithm) + 1 :].upper() for file, text in own.items()}
    assert load(name, tmp_path, checksums=upper).name == name


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_file_is_compared_and_a_mismatch_names_both_digests(tmp_path, name, write):
    write(tmp_path)
    own = digests(tmp_path, "sha256")
    for file in own:
        wrong = "0" * 64
        found = own[file].removeprefix("sha256:")
        with pytest.raises(
            CorruptFile, match=rf"{file}': expected the sha256 digest {wrong}, found {found}; get the file"
        ):
            load(name, tmp_path, checksums=own | {file: f"sha256:{wrong}"})


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_file_must_have_a_digest(tmp_path, name, write):
    write(tmp_path)
    own = digests(tmp_path, "md5")
    for file in own:
        rest = {other: digest for other, digest in own.items() if other != file}
        known = min(rest) if rest else "no file"
        with pytest.raises(
            ValueError, match=rf"holds no digest of '.*{file}', only of .*{known}.*; add '{file}': 'sha256:"
        ):
            load(name, tmp_path, checksums=rest)


@pytest.mark.parametrize(
    ("name", "write", "published"),
    [
        ("cifar10", cifar_archive, "md5 digest c32a1d4ab5d03f1284b67883e8d87530"),
        ("mnist", mnist_packed, "md5 digest f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("imdb", imdb, "sha256 digest 69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"),
    ],
)
def test_published_digests_are_compared(tmp_path, name, write, published):
    write(tmp_path)
    with pytest.raises(CorruptFile, match=f"expected the {published}, found [0-9a-f]+; get the file again: "):
        load(name, tmp_path, checksums=True)


def test_published_digests_of_every_file_are_known():
    assert set(_mnist.PUBLICATION.digests) == {
        _mnist.names(part, kind)[0] for part in ("train", "t10k") for kind in ("images", "labels")
    }
    assert set(_cifar.PUBLICATION.digests) == {"cifar-10-binary.tar.gz"}
    assert set(_imdb.PUBLICATION.digests) == {"imdb.npz"}


@pytest.mark.parametrize(
    ("name", "write", "file", "known"),
    [
        ("cifar10", cifar_folder, r"data_batch_1\.bin", r"cifar-10-binary\.tar\.gz"),
        ("mnist", mnist_unpacked, "train-images-idx3-ubyte", r"train-images-idx3-ubyte\.gz, .*"),
    ],
)
def test_files_without_a_published_digest_are_an_error(tmp_path, name, write, file, known):
    write(tmp_path)
    with pytest.raises(
        ValueError, match=rf"`checksums` is True, but of '.*{file}' no digest is published, only of {known};"
    ):
        load(name, tmp_path, checksums=True)


@pytest.mark.parametrize("name", list(WRITERS))
def test_digests_are_compared_before_anything_is_parsed(tmp_path, name):
    WRITERS[name][0](tmp_path)
    file = min(tmp_path.iterdir())
    own = digests(tmp_path, "md5")
    file.write_bytes(b"damaged")
    with pytest.raises(CorruptFile, match="expected the md5 digest"):
        load(name, tmp_path, checksums=own)


@pytest.mark.parametrize(
    ("checksums", "error", "match"),
    [
        ("md5", TypeError, "`checksums` must be True, False or a mapping of file names, got 'md5' of type str"),
        (1, TypeError, "got 1 of type int"),
        (None, TypeError, "got None of type NoneType"),
        ({"a": "0" * 32}, ValueError, "`checksums` must hold 'md5:' with 32 or 'sha256:' with 64.*'a'; sha256sum"),
        ({"a": "md5:" + "0" * 31}, ValueError, "`checksums` must hold"),
        ({"a": "md5:" + "g" * 32}, ValueError, "`checksums` must hold"),
        ({"a": "sha256:" + "0" * 32}, ValueError, "`checksums` must hold"),
        ({"a": "sha1:" + "0" * 40}, ValueError, "`checksums` must hold"),
        ({"a": 3}, ValueError, "`checksums` must hold .* got 3 for 'a'"),
    ],
)
def test_other_checksums_are_refused_before_any_file_is_sought(tmp_path, checksums, error, match):
    with pytest.raises(error, match=match):
        load("mnist", tmp_path, checksums=checksums)
