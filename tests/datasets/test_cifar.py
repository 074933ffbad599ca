"""CIFAR-10's binary version, in a folder and in its archive, against a reading pixel by pixel."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from published import BATCHES, cifar_records, tar, write_cifar

from qrjax._datasets._publication import CorruptFile
from qrjax._datasets._table import load

FILES = cifar_records()
TEST = "test_batch.bin"
ARCHIVE = "cifar-10-binary.tar.gz"
REMEDY = r"; get the file again: CIFAR-10's binary version is published at www\.cs\.toronto\.edu/~kriz/cifar\.html"


def in_folder(path, files):
    write_cifar(path, files)


def in_subfolder(path, files):
    write_cifar(path / "cifar-10-batches-bin", files)


def in_archive(path, files):
    (path / ARCHIVE).write_bytes(gzip.compress(tar(files)))


def in_flat_archive(path, files):
    (path / ARCHIVE).write_bytes(gzip.compress(tar(files, prefix="./")))


def pixel(records, image, row, column, channel):
    return int(records[image][1 + 1024 * channel + 32 * row + column])


@pytest.mark.parametrize("write", [in_folder, in_subfolder, in_archive, in_flat_archive])
@pytest.mark.parametrize("limit", [None, 1, 7, 1000])
def test_arrays_are_those_written_standardized(tmp_path, write, limit):
    write(tmp_path, FILES)
    found = load("cifar10", tmp_path, limit=limit)
    train = np.concatenate([FILES[name] for name in BATCHES])[:limit]
    test = FILES[TEST][:limit]
    assert (found.name, found.kind, found.classes, found.vocabulary) == ("cifar10", "images", 10, None)
    places = np.random.default_rng(0).integers(0, 32, (20, 2))
    for channel in range(3):
        plane = train[:, 1 + 1024 * channel : 1025 + 1024 * channel].astype(np.float64)
        mean, stddev = plane.mean(), plane.std()
        for inputs, records in ((found.train_inputs, train), (found.test_inputs, test)):
            assert (inputs.dtype, inputs.shape) == (np.float32, (len(records), 32, 32, 3))
            for row, column in places:
                expected = (pixel(records, len(records) - 1, row, column, channel) - mean) / stddev
                assert inputs[-1, row, column, channel] == pytest.approx(expected, rel=3e-7, abs=3e-7)
    assert found.train_labels.tolist() == train[:, 0].tolist()
    assert found.test_labels.tolist() == test[:, 0].tolist()
    assert found.train_labels.dtype == found.test_labels.dtype == np.int32


def test_the_archive_and_its_content_give_the_same_bits(tmp_path):
    in_archive(tmp_path, FILES)
    (tmp_path / "unpacked").mkdir()
    in_folder(tmp_path / "unpacked", FILES)
    for one, other in zip(load("cifar10", tmp_path), load("cifar10", tmp_path / "unpacked"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar10", tmp_path)
    assert str(caught.value) == (
        f"missing in the folder {str(tmp_path)!r}: cifar-10-binary.tar.gz (or data_batch_1.bin, data_batch_2.bin, "
        "data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, test_batch.bin, in it or in cifar-10-batches-bin); "
        "CIFAR-10's binary version is published at www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, University of "
        "Toronto)"
    )


@pytest.mark.parametrize("write", [in_folder, in_subfolder])
def test_missing_batches_are_named_with_their_folder(tmp_path, write):
    write(tmp_path, {name: FILES[name] for name in FILES if name not in (BATCHES[2], TEST)})
    where = "cifar-10-batches-bin': " if write is in_subfolder else ""
    with pytest.raises(
        FileNotFoundError, match=rf"missing in the folder .*{where}.*data_batch_3\.bin, test_batch\.bin;"
    ):
        load("cifar10", tmp_path)


def test_missing_members_of_the_archive_are_named(tmp_path):
    in_archive(tmp_path, {name: FILES[name] for name in FILES if name != BATCHES[4]})
    with pytest.raises(
        CorruptFile, match=rf"expected all six batches, found none of the name data_batch_5\.bin{REMEDY}"
    ):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("write", [in_folder, in_archive])
@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (BATCHES[1], lambda old: old.ravel()[:-1], r"whole records .* in data_batch_2\.bin, found 9,218 bytes"),
        (BATCHES[1], lambda old: old[:0], r"whole records of 3073 bytes in data_batch_2\.bin, found 0 bytes"),
        (BATCHES[1], lambda old: old[:-1], r"9,219 bytes in data_batch_\d\.bin, as in the others|6,146 bytes in"),
        (BATCHES[1], lambda old: np.repeat(old, 2, 0), "bytes in .*, as in the others"),
        (TEST, lambda old: np.where(np.arange(3073) == 0, [[1], [10], [255]], old).astype(np.uint8),
         r"labels from 0 to 9 in test_batch\.bin, found 10 in record 1"),
    ],
)  # fmt: skip
def test_damaged_batches_are_refused(tmp_path, write, name, content, match):
    write(tmp_path, FILES | {name: content(FILES[name])})
    with pytest.raises(CorruptFile, match=rf"({match}).*{REMEDY}"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("size", [1, 3072, 3073, 3074, 6146, 9218])
def test_a_truncated_test_batch_is_refused_at_every_boundary(tmp_path, size):
    in_folder(tmp_path, FILES | {TEST: FILES[TEST].ravel()[:size]})
    with pytest.raises(CorruptFile, match=r"test_batch\.bin': expected .*bytes in test_batch\.bin"):
        load("cifar10", tmp_path, limit=1)


def test_truncated_archives_are_refused(tmp_path):
    content = gzip.compress(tar(FILES), compresslevel=1)
    # gzip's header, the first tar header, the content, and every byte of gzip's trailer and before
    sizes = [0, 1, 5, 10, 11, 60, 600, len(content) // 3, len(content) // 2, *range(len(content) - 12, len(content))]
    for size in sizes:
        (tmp_path / ARCHIVE).write_bytes(content[:size])
        with pytest.raises(CorruptFile, match=rf"{ARCHIVE}': expected .* found .*{REMEDY}"):
            load("cifar10", tmp_path, limit=1)


def test_a_truncated_tar_in_a_whole_gzip_file_is_refused(tmp_path):
    content = tar(FILES)
    for size in (0, 100, 511, 512, 700, 1024 + 511, 2000, 12000):
        (tmp_path / ARCHIVE).write_bytes(gzip.compress(content[:size]))
        with pytest.raises(CorruptFile, match=f"{ARCHIVE}': expected .*{REMEDY}"):
            load("cifar10", tmp_path)


def test_a_damaged_checksum_of_gzip_is_found_with_a_limit_too(tmp_path):
    content = bytearray(gzip.compress(tar(FILES)))
    content[-5] ^= 1
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(CorruptFile, match="expected a tar archive packed with gzip, found CRC check failed"):
        load("cifar10", tmp_path, limit=1)


def members(*made):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, change in made:
            member = tarfile.TarInfo(name)
            member.size = 3 * 3073
            change(member)
            archive.addfile(member, io.BytesIO(FILES[name].tobytes()))
    return gzip.compress(out.getvalue())


def test_links_are_not_followed(tmp_path):
    def link(member):
        member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/hostname", 0

    (tmp_path / ARCHIVE).write_bytes(members((TEST, link)))
    with pytest.raises(CorruptFile, match=r"found none of the name data_batch_1\.bin, .*test_batch\.bin"):
        load("cifar10", tmp_path)
