"""Scikit-learn's handwritten digits: 1797 images of 8 x 8 (UCI, Optical Recognition of Handwritten Digits)."""

from __future__ import annotations

import numpy as np

from qrjax._datasets._dataset import Dataset, Options
from qrjax._datasets._files import check_no_files
from qrjax._terminal._packages import package

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
    datasets = package("sklearn.datasets", "digits need scikit-learn", "demo")
    split = package("sklearn.model_selection", "digits need scikit-learn", "demo").train_test_split
    images, labels = datasets.load_digits(return_X_y=True)
    train, test, train_labels, test_labels = split(
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
