"""The datasets by name."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qrjax._datasets import _cifar, _digits, _imdb, _mnist, _mnist1d
from qrjax._datasets._dataset import Dataset, Loader, Options
from qrjax._datasets._files import check_checksums
from qrjax._terminal._names import choice
from qrjax._terminal._received import received

DATASETS: dict[str, Loader] = {
    "digits": _digits.load,
    "mnist1d": _mnist1d.load,
    "mnist": _mnist.load,
    "cifar10": _cifar.load,
    "imdb": _imdb.load,
}
# Padding, the start of a review, and words outside the vocabulary have tokens of their own.
LEAST_VOCABULARY = 3


def load(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    checksums: Mapping[str, str] | bool = False,
    vocabulary: int = 10000,
    length: int = 200,
    limit: int | None = None,
    download: bool = False,
) -> Dataset:
    """A dataset from local files in their published formats; nothing is downloaded unless that is asked for.

    The same files give the same arrays, in one order, everywhere. Images are standardized by the mean and the
    deviation of the training pixels that are kept, for color images in each channel. IMDB has the tokens and the
    order of Keras's loader: 0 pads, 1 starts a review, 2 is a word outside the vocabulary, and the word of rank r,
    from 1 for the most frequent one, is r + 3.

    Args:
      name: of `DATASETS`.
      folder: of the files, unpacked or as published; None for digits, which come with scikit-learn, and mnist1d,
        which the package of that name makes.
      checksums: True compares the files with the digests that their publisher gives; a mapping from every file's
        name to "md5:..." or "sha256:..." with those in it.
      vocabulary: of IMDB; tokens from this one on become the one for unknown words, 2. At least 3.
      length: of IMDB's reviews in tokens, the last ones, filled up in front with 0.
      download: whether to fetch what is not there yet, into `folder` or by default into the user's cache, with the
        publisher's digests compared; it needs pooch.
      limit: how many training and how many test examples to keep, the first ones; None for all.

    Returns:
      A `Dataset`.

    Raises:
      TypeError, ValueError: if an argument is not as above.
      OSError: if a file is missing, or cannot be fetched.
      CorruptFile: a ValueError, if a file is damaged, of another format or has another digest.
      ImportError: if a package is missing: scikit-learn, mnist1d or pooch.

    Example:
      >>> digits = load("digits", limit=100)
      >>> digits.train_inputs.shape, digits.test_labels.shape, digits.classes
      ((100, 8, 8, 1), (100,), 10)
    """
    loader = _loader(name)
    options = Options(
        None if folder is None else _path(folder),
        check_checksums(checksums),
        _whole("vocabulary", vocabulary, LEAST_VOCABULARY),
        _whole("length", length, 1),
        None if limit is None else _whole("limit", limit, 1),
        bool(download),
    )
    return loader(options)


def _loader(name: Any) -> Loader:
    if not isinstance(name, str):
        names = ", ".join(map(repr, DATASETS))
        raise TypeError(f"`dataset` must be a name, got {received(name)}; one of {names}")
    return DATASETS[choice("dataset", name, tuple(DATASETS))]


def _path(folder: Any) -> Path:
    try:
        return Path(folder)
    except TypeError:
        raise TypeError(f"`folder` must be a path, got {received(folder)}") from None


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be a whole number, got {received(value)}")
    if number < least:
        raise ValueError(f"`{name}` must be {least} or more, got {number}")
    return number
