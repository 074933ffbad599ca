"""IMDB: 50,000 film reviews, liked or not (Maas et al. 2011), as ranks of words in Keras's imdb.npz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrjax._datasets import _npz
from qrjax._datasets._dataset import Array, Dataset, Options
from qrjax._datasets._files import File, Publication, folder_of, located

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
    {"imdb.npz": "sha256:69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"},
)


def load(options: Options) -> Dataset:
    """The published split in Keras's order, the last `length` tokens of each review, padded in front.

    Raises:
      OSError: if the file is missing.
      CorruptFile: if it is damaged or asks for more than lists of integers.
    """
    file = located(folder_of(options.folder, PUBLICATION), ["imdb.npz"], PUBLICATION)
    generator = np.random.RandomState(ORDER_SEED)
    with file.opened(options.checksums) as stream, _npz.opened(stream, file.corrupt) as archive:
        train, test = (_examples(archive, part, generator, file, options) for part in ("train", "test"))
    return Dataset("imdb", "tokens", *train, *test, CLASSES, options.vocabulary)


def _examples(
    archive: _npz.Archive, part: str, generator: np.random.RandomState, file: File, options: Options
) -> tuple[Array, Array]:
    """Int32 (n, length) and int32 (n,)."""
    reviews, labels = _read(archive, part, file)
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


def _read(archive: _npz.Archive, part: str, file: File) -> tuple[_npz.Content, Array]:
    """The reviews, as lists or as rows, and their labels."""
    reviews, labels = archive.array(f"x_{part}"), archive.array(f"y_{part}")
    if isinstance(reviews, np.ndarray) and reviews.ndim != 2:
        raise file.corrupt(f"reviews as lists, or in two dimensions, in x_{part}", f"the shape {reviews.shape}")
    if not isinstance(labels, np.ndarray) or labels.shape != (len(reviews),) or not len(reviews):
        shape = labels.shape if isinstance(labels, np.ndarray) else "lists"
        raise file.corrupt(f"as many labels in y_{part} as reviews, {len(reviews)}, and one or more", f"{shape}")
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
