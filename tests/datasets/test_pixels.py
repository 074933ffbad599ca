"""Standardized bytes: equal bits whatever the order."""

import numpy as np
import pytest

from qrjax._datasets._pixels import standardized


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_rounded_once_from_double_precision(channels):
    train = np.random.default_rng(0).integers(0, 256, (30, 9, 8, channels), dtype=np.uint8)
    found, test = standardized(train, train[:2])
    for channel in range(channels):
        own = [int(level) for level in train[..., channel].ravel()]
        mean = sum(own) / len(own)
        stddev = (sum((level - mean) ** 2 for level in own) / len(own)) ** 0.5
        expected = ((train[..., channel] - mean) / stddev).astype(np.float32)
        np.testing.assert_array_max_ulp(found[..., channel], expected, 1)
    np.testing.assert_array_equal(test, found[:2])


def test_the_order_of_images_changes_no_bit():
    train = np.random.default_rng(1).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    whole, _ = standardized(train, train)
    np.testing.assert_array_equal(standardized(train[::-1], train)[0], whole[::-1])


def test_mean_is_zero_and_deviation_one():
    train = np.random.default_rng(2).integers(3, 90, (100, 8, 8, 3), dtype=np.uint8)
    found, _ = standardized(train, train[:1])
    # Means of 6400 float32 of rounding 2**-24 of at most 2: far below 1e-6.
    np.testing.assert_allclose(found.mean((0, 1, 2), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((0, 1, 2), dtype=np.float64), 1, atol=1e-6)
