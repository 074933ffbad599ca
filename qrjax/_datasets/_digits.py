"""Scikit-learn's handwritten digits: 1797 images of 8 x 8 (UCI, Optical Recognition of Handwritten Digits)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qrjax._datasets._dataset import Dataset, Options
from qrjax._datasets._files import check_no_files

TEST_SHARE = 0.25
SPLIT_SEED = 0
CLASSES = 10


def load(options: Options) -> Dataset:
    """The digits in a fixed stratified split, standardized by the mean and deviation of the training pixels.

    Raises:
      ValueError: if files are asked for.
      ImportError: if scikit-learn is not installed.
    """
    check_no_files("digits", "which come with scikit-learn", options)
    load_digits, train_test_split = _sklearn()
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images.reshape(-1, 8, 8, 1), labels, test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED
    )
    kept = slice(options.limit)
    train, test = train[kept], test[kept]
    mean, stddev = train.mean(), train.std()
    return Dataset(
        "digits", "images",
        ((train - mean) / stddev).astype(np.float32), train_labels[kept].astype(np.int32),
        ((test - mean) / stddev).astype(np.float32), test_labels[kept].astype(np.int32),
        CLASSES, None,
    )  # fmt: skip


def _sklearn() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise ImportError("digits need scikit-learn, which is not installed: pip install 'qrjax[demo]'") from error
    return load_digits, train_test_split
