"""Small files in the formats in which the datasets are published, written without the package."""

import gzip
import io
import struct
import tarfile

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))


def idx(array):
    kind = array.dtype.str[1:]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, CODES[kind], array.ndim]) + sizes + array.astype(f">{kind}").tobytes()


def mnist_arrays(train=7, test=4, shape=(5, 6), seed=0):
    draw = np.random.default_rng(seed).integers
    images = [draw(0, 256, (n, *shape), dtype=np.uint8) for n in (train, test)]
    labels = [draw(0, 10, n, dtype=np.uint8) for n in (train, test)]
    return {"train": (images[0], labels[0]), "t10k": (images[1], labels[1])}


def write_mnist(folder, arrays, dot="-", packed=False):
    for part, (images, labels) in arrays.items():
        for kind, array in (("images", images), ("labels", labels)):
            name = f"{part}-{kind}{dot}idx{array.ndim}-ubyte"
            content = gzip.compress(idx(array)) if packed else idx(array)
            (folder / f"{name}{'.gz' if packed else ''}").write_bytes(content)


def cifar_records(records=3, seed=0):
    """Uint8 (records, 3073) of each of the six files."""
    rng = np.random.default_rng(seed)
    files = {}
    for name in (*BATCHES, "test_batch.bin"):
        files[name] = rng.integers(0, 256, (records, 3073), dtype=np.uint8)
        files[name][:, 0] %= 10
    return files


def write_cifar(folder, files):
    folder.mkdir(exist_ok=True)
    for name, records in files.items():
        (folder / name).write_bytes(records.tobytes())


def tar(files, prefix="cifar-10-batches-bin/"):
    """A tar archive in an order that is not the names', with another file in it, as the published one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, records in [("batches.meta.txt", np.zeros(61, np.uint8)), *reversed(files.items())]:
            member = tarfile.TarInfo(prefix + name)
            member.size = records.size
            archive.addfile(member, io.BytesIO(records.tobytes()))
    return out.getvalue()


def reviews(count, longest=30, words=50, seed=0):
    """Lists of ranks of one byte, of two and of four."""
    rng = np.random.default_rng(seed)
    found = [rng.integers(1, words, rng.integers(0, longest)).tolist() for _ in range(count)]
    found[0] = [1, 255, 256, 65535, 65536, 88584]
    return found


def objects(lists):
    array = np.empty(len(lists), object)
    array[:] = lists
    return array


def padded(arrays):
    """IMDB's lists as rows filled up with zeros."""
    longest = max(len(review) for name in ("x_train", "x_test") for review in arrays[name])
    rows = {name: [review + [0] * (longest - len(review)) for review in arrays[name]] for name in ("x_train", "x_test")}
    return arrays | {name: np.array(found) for name, found in rows.items()}


def imdb_arrays(train=9, test=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": objects(reviews(train, seed=seed)),
        "y_train": rng.integers(0, 2, train),
        "x_test": objects(reviews(test, seed=seed + 1)),
        "y_test": rng.integers(0, 2, test),
    }
