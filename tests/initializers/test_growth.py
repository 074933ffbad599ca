"""A weight of a `_hash` builder is its coordinates' hash: adding rows, columns or anything leaves the others alone."""

import jax
import numpy as np
import pytest
from members import MEMBERS, SECOND_NAMES, named

KEY = jax.random.key(29)
FIXED = ("uniform", "normal", "truncated_normal", "random_uniform", "random_normal")
BASE = (3, 4, 2, 5)
ADDED = 3
HASHED = [m for m in MEMBERS if m.source == "hash" and not m.orthogonal and m.stem not in SECOND_NAMES]
# Of a vector, a matrix, a convolution and what is neither first nor last of it; the others are slow.
FAST = ((1, 0), (2, 0), (2, 1), (4, 1), (4, 3))
GROWTHS = [
    pytest.param(rank, axis, marks=() if (rank, axis) in FAST else pytest.mark.slow)
    for rank in (1, 2, 3, 4)
    for axis in range(rank)
]


def assert_the_corner_stays(init, shape, axis):
    grown = tuple(n + ADDED * (k == axis) for k, n in enumerate(shape))
    old, new = (np.asarray(init(KEY, each)) for each in (shape, grown))  # float32
    corner = new[tuple(map(slice, shape))]
    (_, before), (_, after) = (
        init.scaling.location_and_scale(each, init.distribution, old.dtype) for each in (shape, grown)
    )
    if before == after:
        np.testing.assert_array_equal(corner, old)
    else:  # both are rounded to 24 bits, from units of at most 2**-27 of the scale
        wide = corner.astype(np.float64) / after, old.astype(np.float64) / before
        np.testing.assert_allclose(*wide, rtol=2**-23, atol=2**-26)
    return before == after


def options(m, rank):
    """A vector has no default axis of inputs."""
    return {"in_axis": ()} if rank == 1 and m.stem not in FIXED else {}


@pytest.mark.turns(5)
@pytest.mark.few(
    "1-0-normal_hash",
    "2-0-glorot_uniform_hash",
    "2-1-normal_hash",
    "4-1-glorot_uniform_hash",
    "4-3-normal_hash",
)
@pytest.mark.parametrize("m", **named([m for m in HASHED if not m.zero_mean], sampled=True))
@pytest.mark.parametrize(("rank", "axis"), GROWTHS)
def test_a_grown_tensor_has_the_old_one_as_its_corner(m, rank, axis):
    exactly = assert_the_corner_stays(m.build(**options(m, rank)), BASE[:rank], axis)
    if m.stem in FIXED:
        assert exactly
    if m.stem.startswith(("he", "lecun")):  # scaled by the number of inputs
        assert exactly == (axis == rank - 1)


@pytest.mark.turns(3)
@pytest.mark.few("3-random_uniform_hash zero_mean")
@pytest.mark.parametrize("m", **named([m for m in HASHED if m.zero_mean], sampled=True))
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_more_outputs_leave_filters_of_zero_mean_alone(m, rank):
    exactly = assert_the_corner_stays(m.initializer, BASE[:rank], rank - 1)
    assert exactly == m.stem.startswith((*FIXED, "he", "lecun"))


def test_more_batches_and_several_axes_of_outputs():
    for m in HASHED:
        if m.stem == "he_uniform":
            init = m.build(in_axis=1, out_axis=(2, 3), batch_axis=0)
            assert all(assert_the_corner_stays(init, BASE, axis) for axis in (0, 2, 3))
