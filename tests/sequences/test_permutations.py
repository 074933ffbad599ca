"""Keyed permutations: bijective for every length, random access, and how close to uniform."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from wrongs import wrong

from qrjax._sequences._permutations import permute

KEYS = np.random.default_rng(0).integers(0, 2**32, 3, np.uint32)  # a round each
SIZE = 5000  # one shape for all small n, so that nothing is compiled anew
LENGTHS = [1009, 50257, 65536, 65537, 2**20]
LARGE = [2**31 - 1, 2**31, 2**31 + 1, 2**31 + 11, 2**32 - 1, 2**32]
SMALLEST_P = 1e-6  # of about 50 chi-squares


def images(index, n, keys=KEYS):
    return np.asarray(permute(jnp.asarray(index, jnp.uint32), n, tuple(map(jnp.uint32, keys))))


def hashed(x, key):
    x = (x ^ key) * 0x9E3779B1 % 2**32
    return (x ^ x >> 16) * 0x85EBCA6B % 2**32


def in_python(x, n, keys, inverse=False):
    """The permutation, or its inverse, in Python integers: columns turn, then rows, then columns again."""
    width = math.isqrt(n) | 1
    height, sign = -(-n // width), -1 if inverse else 1
    last = n - (height - 1) * width
    for turn in range(len(keys))[::sign]:
        row, column = divmod(x, width)
        if turn % 2:
            length = width if row < height - 1 else last
            column = (column + sign * (hashed(row, keys[turn]) * length >> 32)) % length
        else:
            length = height if column < last else height - 1
            row = (row + sign * (hashed(column, keys[turn]) * length >> 32)) % length
        x = row * width + column
    return x


@given(n=st.integers(1, SIZE), keys=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=3))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_bijective_for_small_lengths(n, keys):
    found = images(np.arange(SIZE) % n, n, keys)[:n]
    np.testing.assert_array_equal(np.sort(found), np.arange(n))


@pytest.mark.some(3)
@pytest.mark.parametrize("n", range(1, 41))
def test_bijective_for_the_smallest_lengths(n):
    # Every raster of a few cells: no row, one row, one column, a last row of one cell.
    keys = np.random.default_rng(n).integers(0, 2**32, (3, 100, 1), np.uint32)
    found = images(np.arange(40)[None] % n, n, keys)[:, :n]
    ordered = np.sort(found, axis=1)
    assert not wrong(ordered == np.arange(n), image=ordered, wanted=np.arange(n))


@pytest.mark.few("1009")
@pytest.mark.parametrize("n", [1009, 65537, *(pytest.param(n, marks=pytest.mark.slow) for n in (50257, 65536, 2**20))])
def test_bijective_for_large_lengths(n):
    np.testing.assert_array_equal(np.sort(images(np.arange(n), n)), np.arange(n))


@pytest.mark.some(3)
@pytest.mark.parametrize("rounds", [2, 3])
@pytest.mark.parametrize("n", [*LENGTHS, *LARGE])
def test_second_implementation_and_inverse(n, rounds):
    index = [0, 1, n // 2, n - 2, n - 1, *np.random.default_rng(1).integers(0, n, 200).tolist()]
    keys = KEYS[:rounds].tolist()
    found = images(np.array(index), n, keys).tolist()
    assert found == [in_python(i, n, keys) for i in index], f"images among {n}, against plain Python's, of {index}"
    # A left inverse of a map from range(n) into itself is a proof that it is a bijection.
    back = [in_python(i, n, keys, inverse=True) for i in found]
    assert back == index, f"the inverse's images of {found}, among {n}, against where they came from"


@pytest.mark.few("200000-4294967296")
@pytest.mark.parametrize("n", [2**31 + 11, 2**32])
@pytest.mark.parametrize("count", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_no_repeats_among_many_images(n, count):
    # A run at the start, one at the ragged end, and a stride across.
    run, stride = np.arange(count // 4), np.arange(count // 2) * (n // (count // 2))
    index = np.unique(np.concatenate([run, n - 1 - run, stride]))
    found = images(index, n)
    assert len(index) > 0.999 * count
    repeated = len(index) - len(np.unique(found))
    assert not repeated, f"{repeated} of {len(index)} different indices have another one's image among {n}"
    assert found.max() < n, f"an image that is none of {n}"


@pytest.mark.parametrize("n", [1, 2, 27, 4999])
def test_random_access(n):
    # An image does not depend on which others are asked for, nor on how they are arranged.
    index = np.random.default_rng(2).integers(0, n, (2, 5))
    np.testing.assert_array_equal(images(index, n), images(np.arange(SIZE) % n, n)[index])


def over_keys(n, count):
    keys = np.random.default_rng(3).integers(0, 2**32, (3, count, 1), np.uint32)
    return np.asarray(jax.jit(permute, static_argnums=1)(np.arange(n, dtype=np.uint32)[None], n, tuple(keys))).T


@pytest.mark.parametrize("n", [2, 3])
def test_every_image_is_equally_likely_in_one_column(n):
    for image in over_keys(n, 2**15).astype(int):
        assert stats.chisquare(np.bincount(image, minlength=n)).pvalue > SMALLEST_P


@pytest.mark.parametrize("n", [5, 7, 27])
def test_no_image_is_twice_as_likely_as_another_should_be(n):
    """Small ragged rasters prefer some images; the scramble of each group makes up for it in the values."""
    for image in over_keys(n, 2**15).astype(int):
        share = np.bincount(image, minlength=n) * n / 2**15
        assert share.min() > 0.4
        assert share.max() < 2


def test_pairs_of_images_of_five():
    """No two places of five have a pair of images that is three times as likely as 1 in 20.

    Uniform it is not, nor is every pair possible: three rounds on a raster of 3 x 2 cells make some pairs
    2.5 times as likely, and others never occur. A scramble of each group evens this out to correlations
    within 0.05 of equal. The estimates' standard deviation is sqrt(20 / 2**16) = 1.7 % of 1/20.
    """
    found = over_keys(5, 2**16).astype(int)
    for i in range(5):
        for j in range(i):
            assert np.bincount(found[i] * 5 + found[j]).max() < 3 * 2**16 / 20


def test_three_have_rotations_only():
    """One column, so that all rounds rotate it: 3 of the 6 orders. The scramble behind adds the others."""
    orders = {tuple(order) for order in over_keys(3, 2**10).T.tolist()}
    assert orders == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}


def test_keys_broadcast():
    # Each group of a layout has keys of its own, whichever axis the groups lie along.
    keys, index = np.random.default_rng(4).integers(0, 2**32, (3, 3, 1), np.uint32), np.arange(27)[None]
    expected = [images(index[0], 27, keys[:, group, 0]) for group in range(3)]
    np.testing.assert_array_equal(images(index, 27, keys), expected)
    np.testing.assert_array_equal(images(index.T, 27, keys.transpose(0, 2, 1)).T, expected)


def test_same_bits_in_every_mode():
    index = jnp.arange(1009, dtype=jnp.uint32)
    keys = tuple(map(jnp.uint32, KEYS))
    expected = images(index, 1009)
    np.testing.assert_array_equal(jax.jit(permute, static_argnums=1)(index, 1009, keys), expected)
    np.testing.assert_array_equal(jax.vmap(lambda i: permute(i, 1009, keys))(index), expected)
    with jax.enable_x64(True):
        wide = permute(index, 1009, keys)
    assert wide.dtype == jnp.uint32
    np.testing.assert_array_equal(wide, expected)
