"""Axes that are merged and split again: what pairs within a block have in common is found again."""

import dataclasses

import numpy as np
import pytest

from qrjax._signals import _blocks, _tables
from qrjax._signals._signal import Signal


def a_signal(shape, seed=0):
    """A normal signal whose correlations are any numbers below one half."""
    table = np.random.default_rng(seed).uniform(0, 0.5, (2,) * len(shape))
    table[(0,) * len(shape)] = 1.0
    return Signal.normal(shape, rho=table)


def reshaped(x, shape):
    rho, twins = _blocks.reshaped(x, shape)
    return dataclasses.replace(x, shape=shape, rho=rho, twins=twins)


@pytest.mark.parametrize(
    ("shape", "merged"), [((2, 3, 4), (6, 4)), ((5, 2, 3), (5, 6)), ((1, 2, 3, 4), (6, 4)), ((7, 4, 3), (28, 3))]
)
def test_what_is_merged_and_split_again_is_as_before(shape, merged):
    x = a_signal(shape)
    again = reshaped(reshaped(x, merged), shape)
    np.testing.assert_allclose(again.rho, x.rho, atol=1e-12)


def test_windows_of_two_axes_find_their_pairs():
    x = a_signal((2, 3, 2, 3))
    again = reshaped(reshaped(x, (6, 6)), (2, 3, 2, 3))
    for pattern in [(0, 1, 0, 0), (0, 1, 0, 1), (1, 0, 1, 0), (1, 0, 0, 0)]:
        assert again.rho[pattern] == pytest.approx(x.rho[pattern])
    everything = [_tables.pair_sums(y.rho, range(4), y.shape) for y in (x, again)]
    assert everything[0] == pytest.approx(everything[1])


def test_blocks_may_be_cut_finer():
    x = a_signal((2, 6))
    cut = reshaped(reshaped(x, (12,)), (4, 3))
    np.testing.assert_allclose(cut.rho, _tables.reshaped(x.rho, (2, 6), (4, 3)), atol=1e-12)


def test_elements_that_are_alike_anywhere_make_no_kind():
    assert _blocks.reshaped(Signal.normal((4, 6)), (24,))[1] == {}
    alike = Signal.normal((4, 6), rho=np.array([[1.0, 0.3], [0.3, 0.3]]))
    assert _blocks.reshaped(alike, (24,))[1] == {}
