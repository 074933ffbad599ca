"""Discrepancies against SciPy's, known answers, and what they say of nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

import qrjax
from qrjax._sequences import _discrepancy
from qrjax.sobol import discrepancy

SCIPYS = {"centred": "CD", "wrap-around": "WD", "mixture": "MD", "l2-star": "L2-star"}
each_kind = pytest.mark.parametrize("kind", SCIPYS)


@each_kind
@pytest.mark.parametrize(("count", "dims"), [(1, 1), (7, 1), (64, 3), (250, 8)])
def test_values_are_scipys(kind, count, dims, monkeypatch):
    points = np.random.default_rng(count).random((count, dims))
    expected = qmc.discrepancy(points, method=SCIPYS[kind])
    assert discrepancy(points, kind) == pytest.approx(expected, rel=1e-10, abs=1e-15)
    monkeypatch.setattr(_discrepancy, "CHUNK", 100)  # row by row
    assert discrepancy(points, kind) == pytest.approx(expected, rel=1e-10, abs=1e-15)


def test_of_one_point_in_the_middle():
    """By hand: 13/12 - 2 + 1, 3/2 - 4/3, and the root of 1/3 - 3/4 + 1/2."""
    middle = [[0.5]]
    assert discrepancy(middle) == pytest.approx(1 / 12)
    assert discrepancy(middle, "wrap-around") == pytest.approx(1 / 6)
    assert discrepancy(middle, "l2-star") == pytest.approx(np.sqrt(1 / 12))


@each_kind
def test_symmetries(kind):
    points = np.random.default_rng(3).random((40, 3))
    mirrored, shifted = 1 - points, np.add(points, [0.3, 0.6, 0.9]) % 1
    same = {name for name, other in (("mirror", mirrored), ("shift", shifted))
            if np.isclose(discrepancy(other, kind), discrepancy(points, kind), rtol=1e-10)}  # fmt: skip
    assert (
        same
        == {"centred": {"mirror"}, "wrap-around": {"mirror", "shift"}, "mixture": {"mirror"}, "l2-star": set()}[kind]
    )
    assert discrepancy(points[::-1, [2, 0, 1]], kind) == pytest.approx(discrepancy(points, kind))


ENDS = {"centred": (5 / 4, 13 / 12), "wrap-around": (3 / 2, 4 / 3), "mixture": (7 / 4, 19 / 12)}


@pytest.mark.parametrize(("kind", "ends"), ENDS.items(), ids=ENDS)
def test_independent_points_have_the_mean_that_the_docstring_says_and_nets_far_less(kind, ends):
    count, dims = 64, 3
    mean = (ends[0] ** dims - ends[1] ** dims) / count
    independent = [discrepancy(np.random.default_rng(i).random((count, dims)), kind) for i in range(200)]
    deviation = np.std(independent) / np.sqrt(200)
    assert np.mean(independent) == pytest.approx(mean, abs=4 * deviation)
    key = jax.random.key(0)
    net = jnp.stack([qrjax.sobol.points_range(d, 0, count, scramble="owen", key=key) for d in (1, 2, 3)], axis=1)
    assert discrepancy(net, kind) < mean / 4


def test_where_float32_would_have_no_digit_left():
    """A net of 1,024 points in two dimensions: its discrepancy is a hundred thousandth of what makes it up."""
    net = np.stack([qrjax.sobol.points_range(d, 0, 1024) for d in (1, 2)], axis=1)
    assert 0 < discrepancy(net) < 1e-5
    assert discrepancy(net) == pytest.approx(qmc.discrepancy(net.astype(float)), rel=1e-6)


@pytest.mark.parametrize(
    ("points", "kind", "error", "message"),
    [
        (
            [[0.5]],
            "star",
            ValueError,
            "`kind` must be one of 'centred', 'wrap-around', 'mixture', 'l2-star', got 'star'",
        ),
        ([0.5], "centred", ValueError, r"`points` must have the shape \(n, d\), a row for each point, got \(1,\)"),
        (np.zeros((0, 2)), "centred", ValueError, r"a row for each point, got \(0, 2\)"),
        ([[0.5, 1.5]], "centred", ValueError, r"`points` must lie in \[0, 1\], got values from 0.5 to 1.5; scale"),
        ([[np.nan]], "centred", ValueError, r"`points` must lie in \[0, 1\], got values from nan to nan"),
        ([["a"]], "centred", TypeError, "`points` must be an array of real numbers, got a list of 1 items"),
    ],
)
def test_refused(points, kind, error, message):
    with pytest.raises(error, match=message):
        discrepancy(points, kind)


def test_not_in_a_program():
    with pytest.raises(TypeError, match="`points` must not be traced: a discrepancy needs float64"):
        jax.jit(discrepancy)(jnp.ones((2, 2)) / 2)
