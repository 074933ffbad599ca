"""Tables over subsets of axes, against all pairs of elements of small arrays."""

import itertools
import math

import numpy as np
import pytest

from qrjax._signals import _profiles, _tables
from qrjax._signals._fibers import Fiber
from qrjax._signals._signal import Source

SHAPES = [(), (1,), (5,), (3, 4), (2, 1, 3), (2, 3, 4), (1, 1), (2, 2, 2, 3)]


def patterns(ndim):
    return list(itertools.product((0, 1), repeat=ndim))


def pairs(shape):
    """All pairs of positions, and along which axes they differ."""
    places = list(np.ndindex(shape))
    for a, b in itertools.product(places, repeat=2):
        yield a, b, tuple(int(i != j) for i, j in zip(a, b, strict=True))


def a_table(shape, seed=0):
    """Any numbers, with nothing to differ along axes of length 1."""
    table = np.random.default_rng(seed).normal(size=(2,) * len(shape))
    return _tables.settled(table, shape)


def averaged(shape, value):
    """The mean of value(a, b) over the pairs of each pattern; axes of length 1 have none that differ."""
    sums, counts = np.zeros((2,) * len(shape)), np.zeros((2,) * len(shape))
    for a, b, pattern in pairs(shape):
        sums[pattern] += value(a, b)
        counts[pattern] += 1
    return _tables.settled(sums / np.maximum(counts, 1), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_empirical_is_the_mean_over_all_pairs(shape):
    x = np.random.default_rng(1).normal(size=shape) + 0.5
    by_pairs = averaged(shape, lambda a, b: x[a] * x[b])
    said = "an array's table, by whether two places differ along each axis, against the mean over all pairs"
    np.testing.assert_allclose(_tables.empirical(x), by_pairs, atol=1e-12, err_msg=said)


@pytest.mark.parametrize("shape", SHAPES)
def test_pair_sums_are_sums_over_pairs(shape):
    table = a_table(shape)
    for axes in itertools.chain.from_iterable(
        itertools.combinations(range(len(shape)), k) for k in range(len(shape) + 1)
    ):
        kept = [a for a in range(len(shape)) if a not in axes]
        own = tuple(shape[a] for a in axes)
        expected, diagonal = np.zeros((2,) * len(kept)), np.zeros((2,) * len(kept))
        for pattern in patterns(len(kept)):
            full = dict(zip(kept, pattern, strict=True))
            for _, _, differ in pairs(own):
                index = tuple((full | dict(zip(axes, differ, strict=True)))[a] for a in range(len(shape)))
                expected[pattern] += table[index]
                diagonal[pattern] += table[index] * (not any(differ))
        np.testing.assert_allclose(_tables.pair_sums(table, axes, shape), expected, atol=1e-12)
        np.testing.assert_allclose(_tables.diagonal_sums(table, axes, shape), diagonal, atol=1e-12)
        n = math.prod(own)
        if n > 1:
            apart = (expected - diagonal) / (n * (n - 1))
            np.testing.assert_allclose(_tables.differing(table, axes, shape), apart, atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((3, 4), (12,)), ((2, 3, 4), (6, 4)), ((2, 3, 4), (2, 12)), ((2, 3, 4), (24,)), ((12,), (3, 4)),
        ((6, 4), (2, 3, 4)), ((2, 3, 4), (6, 2, 2)), ((3, 1, 4), (3, 4)), ((3, 4), (3, 1, 4)), ((1, 3), (3,)),
        ((), (1, 1)), ((1,), ()), ((2, 2, 3), (4, 3, 1)), ((4, 6), (2, 12)), ((4, 6), (8, 3)), ((4, 6), (2, 4, 3)),
    ],
)  # fmt: skip
def test_reshaped_regroups_all_pairs(old, new):
    """Where axes merge, split, or do both and the ends of one shape's axes divide those of the other."""
    table, places = a_table(old), list(np.ndindex(old))

    def value(a, b):
        i, j = (places[np.ravel_multi_index(place, new)] if new else places[0] for place in (a, b))
        return table[tuple(int(p != q) for p, q in zip(i, j, strict=True))]

    np.testing.assert_allclose(_tables.reshaped(table, old, new), averaged(new, value), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_reshaping_there_and_back_keeps_the_total(shape):
    # The sum over all pairs does not know the shape.
    table, n = a_table(shape), math.prod(shape)
    flat = _tables.reshaped(table, shape, (n,))
    everything = _tables.pair_sums(table, range(len(shape)), shape)
    said = f"the sum over all pairs of places of {shape}, laid out flat, against that before"
    np.testing.assert_allclose(_tables.pair_sums(flat, (0,), (n,)), everything, atol=1e-12, err_msg=said)


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_shares_are_an_inverse(shape):
    """rho[S] is the sum of the shares of the effects that vary along none of the axes in S."""
    shares = np.random.default_rng(2).random((2,) * len(shape))
    for pattern in patterns(len(shape)):
        if any(p and n == 1 for p, n in zip(pattern, shape, strict=True)):
            shares[pattern] = 0.0
    rho = np.zeros_like(shares)
    for s in patterns(len(shape)):
        rho[s] = sum(shares[u] for u in patterns(len(shape)) if not any(a and b for a, b in zip(s, u, strict=True)))
    np.testing.assert_allclose(_tables.variance_shares(rho, shape), shares, atol=1e-12)


def test_broadcast_puts_axes_in_their_places():
    table = a_table((3, 4))
    found = _tables.broadcast(table, (2, 0), 3)
    for i, j, k in patterns(3):
        assert found[i, j, k] == table[k, i]


def test_products_and_independence():
    np.testing.assert_array_equal(_tables.product([0.5, 0.2]), [[1.0, 0.2], [0.5, 0.1]])
    np.testing.assert_array_equal(_tables.independent((3, 1)), [[1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(_tables.constant(2), np.ones((2, 2)))


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (8, 1), (2, 1000, 64)])
def test_what_rows_share_is_the_mean_over_all_pairs_of_them(shape):
    """By the sums of rows at equal places; here pair by pair."""
    axes, n = list(range(len(shape) - 1)), shape[-1]
    fiber = Fiber(Source(), n, 0.3, shape, (len(shape) - 1,))
    sample = np.random.default_rng(1).normal(0.5, 1, fiber.z.shape)
    columns, sums = fiber.columns, sample.sum(1)
    same = sample @ sample.T / columns
    apart = (np.outer(sums, sums) / columns - same) / max(1, columns - 1)
    differs = [fiber.taken(np.arange(m).reshape([-1 if a == b else 1 for b in range(len(shape))]))[:, :1]
               for a, m in enumerate(shape[:-1])]  # fmt: skip
    found = fiber.pairs(sample, axes)
    for pattern in patterns(len(axes)):
        chosen = ~np.eye(len(sample), dtype=bool)
        for place, p in zip(differs, pattern, strict=True):
            chosen &= (place != place.T) == bool(p)
        key = tuple(a for a, p in zip(axes, pattern, strict=True) if p)
        assert (key in found) == chosen.any()
        if chosen.any():
            np.testing.assert_allclose(found[key], (same[chosen].mean(), apart[chosen].mean()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("places", [3, _profiles.LARGE + 1])
def test_profiles_of_axes_that_a_reshape_leaves_whole_stay(places):
    last = np.linspace(0.5, 1.5, places)
    found = _profiles.regrouped({2: last}, (4, 6, places), (24, places))
    assert list(found) == [1]
    assert found[1] is last
