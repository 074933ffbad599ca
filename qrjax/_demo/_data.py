"""Scikit-learn's handwritten digits: 1797 images of 8 x 8 (UCI, Optical Recognition of Handwritten Digits)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Array = np.ndarray[Any, Any]

TEST_SHARE = 0.25
SPLIT_SEED = 0


class Digits(NamedTuple):
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load() -> Digits:
    """The digits in a fixed stratified split, standardized by the mean and deviation of the training pixels."""
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images.reshape(-1, 8, 8, 1), labels, test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED
    )
    mean, stddev = train.mean(), train.std()
    return Digits(
        ((train - mean) / stddev).astype(np.float32),
        train_labels.astype(np.int32),
        ((test - mean) / stddev).astype(np.float32),
        test_labels.astype(np.int32),
    )
