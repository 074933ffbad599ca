"""IMDB: 50,000 film reviews, liked or not (Maas et al. 2011), as ranks of words in Keras's imdb.npz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qrjax._datasets._dataset import Array, Checksums, Dataset, Options
from qrjax._datasets._files import File, folder_of, located
from qrjax._datasets._publication import Publication

CLASSES = 2
# Keras's convention: the word of rank r, from 1 for the most frequent one, is the token r + 3; the token 3 is unused.
PADDING, START, UNKNOWN, INDEX_FROM = 0, 1, 2, 3
LARGEST_RANK = 2**31 - 1 - INDEX_FROM
# Keras's loader returns the reviews in an order drawn from this seed of NumPy's legacy generator, whose stream is
# frozen. It is ours too: the examples are Keras's, and the first of them are of both classes in any case.
ORDER_SEED = 113
PUBLICATION = Publication(
    "IMDB (Maas et al. 2011)",
    "storage.googleapis.com/tensorflow/tf-keras-datasets/imdb.npz, in the form that Keras gives it",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    {"imdb.npz": "sha256:69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"},
)


def load(options: Options) -> Dataset:
    """The published split in Keras's order, the last `length` tokens of each review, padded in front.

    Its lists are pickled, and a pickle can run any code: NumPy may unpickle the file that was published, by its
    digest, or one whose digest the caller has given. Of others it reads arrays of integers alone.

    Raises:
      OSError: if the file is missing.
      CorruptFile: if it is damaged or not to be trusted.
    """
    file = located(folder_of(options, "imdb", PUBLICATION), ["imdb.npz"], PUBLICATION)
    generator = np.random.RandomState(ORDER_SEED)
    arrays = _arrays(file, options.checksums)
    train, test = (_examples(arrays, part, generator, file, options) for part in ("train", "test"))
    return Dataset("imdb", "tokens", *train, *test, CLASSES, options.vocabulary)


def _arrays(file: File, checksums: Checksums) -> Mapping[str, Array]:
    with file.opened(checksums) as stream:
        trusted = checksums is not False or file.is_published(stream)
        try:
            with np.lib.npyio.NpzFile(stream, allow_pickle=trusted) as archive:
                return {f"{kind}_{part}": archive[f"{kind}_{part}"] for kind in "xy" for part in ("train", "test")}
        except MemoryError:
            raise
        except Exception as error:  # of NumPy, zip files, pickles, and of what these are built on
            if "allow_pickle" in str(error):
                raise file.corrupt(
                    "the published file, or arrays of integers",
                    "pickled objects, which can run any code, in a file of another digest; if you trust it, pass "
                    "checksums={'imdb.npz': 'sha256:...'} with its own",
                ) from None
            found = f"{error or type(error).__name__}"
            raise file.corrupt("an .npz file of x_train, y_train, x_test and y_test", found) from error


def _examples(
    arrays: Mapping[str, Array], part: str, generator: np.random.RandomState, file: File, options: Options
) -> tuple[Array, Array]:
    """Int32 (n, length) and int32 (n,)."""
    reviews, labels = _read(arrays, part, file)
    order = np.arange(len(reviews))
    generator.shuffle(order)
    order = order[: options.limit]
    tokens = np.full((len(order), options.length), PADDING, np.int32)
    for row, index in zip(tokens, order, strict=True):
        ranks = _ranks(reviews[index])
        if ranks.size and not 0 <= ranks.min() <= ranks.max() <= LARGEST_RANK:
            raise file.corrupt(f"ranks from 0 to {LARGEST_RANK} in x_{part}", f"others at index {index}")
        found = _tokens(ranks, options.vocabulary)[-options.length :]
        row[options.length - len(found) :] = found
    return tokens, labels[order].astype(np.int32)


def _read(arrays: Mapping[str, Array], part: str, file: File) -> tuple[Array, Array]:
    """The reviews, as lists or as rows, and their labels."""
    reviews, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if (reviews.dtype.kind, reviews.ndim) not in (("O", 1), ("i", 2), ("u", 2)):
        found = f"{reviews.dtype} of the shape {reviews.shape}"
        raise file.corrupt(f"lists of integers, or integers in two dimensions, in x_{part}", found)
    if labels.shape != reviews.shape[:1] or labels.dtype.kind not in "iu" or not len(reviews):
        found = f"{labels.dtype} of the shape {labels.shape}"
        raise file.corrupt(f"as many labels in y_{part} as reviews, {len(reviews)}, and one or more", found)
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if wrong.size:
        raise file.corrupt(f"labels 0 and 1 in y_{part}", f"{labels[wrong[0]]} at index {wrong[0]}")
    return reviews, labels


def _ranks(review: Sequence[int] | Array) -> Array:
    """The ranks of a review's words; rows of an array are of one length, the shorter ones filled up with zeros."""
    return review[review != 0] if isinstance(review, np.ndarray) else np.array(review, np.int64)


def _tokens(ranks: Array, vocabulary: int) -> Array:
    tokens = np.concatenate([[START], ranks.astype(np.int64) + INDEX_FROM])
    return np.where(tokens < vocabulary, tokens, UNKNOWN)
