"""MNIST-1D: signals of 40 numbers made from ten templates (Greydanus and Kobak 2020, arXiv 2011.14439)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from qrjax._datasets._dataset import Array, Dataset, Options
from qrjax._datasets._files import check_no_files
from qrjax._terminal._packages import package

CLASSES = 10


def load(options: Options) -> Dataset:
    """The 4,000 and 1,000 examples that the package makes by default, as images of 40 rows and one column.

    Raises:
      ValueError: if files are asked for.
      ImportError: if mnist1d is not installed.
    """
    check_no_files("mnist1d", "which are made by the package mnist1d", options)
    theirs = package("mnist1d.data", "mnist1d needs its package", "bench")
    with _own_numbers():
        made = theirs.make_dataset(theirs.get_dataset_args())
    kept = slice(options.limit)
    train, test = (_images(made[name][kept]) for name in ("x", "x_test"))
    labels = (made[name][kept].astype(np.int32) for name in ("y", "y_test"))
    return Dataset("mnist1d", "images", train, next(labels), test, next(labels), CLASSES, None)


def _images(signals: Array) -> Array:
    return signals.astype(np.float32)[..., None, None]


@contextmanager
def _own_numbers() -> Iterator[None]:
    """Whatever seeds the global generators within, they go on afterwards as if nothing had been."""
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
