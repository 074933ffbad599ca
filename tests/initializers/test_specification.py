"""What an initializer says of itself: the moments that the walk reads, and the JSON that a record keeps."""

import json
import math

import jax
import numpy as np
import pytest
import scipy.stats
from members import MEMBERS, named

import qrjax
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._specification import Specification
from qrjax._values._distributions import TruncatedNormal

SHAPE = (256, 512)
DRAWN = [member for member in MEMBERS if "orthogonal" not in member.stem]
BOUNDS = [(-1.0, 1.0), (-0.5, 2.0), (0.5, 1.5), (3.0, math.inf), (-math.inf, -4.0), (-math.inf, math.inf), (-6.0, 0.25)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_moments_of_a_truncated_normal_are_scipys(bounds):
    law = TruncatedNormal(*bounds)
    mean, variance = scipy.stats.truncnorm.stats(*bounds, moments="mv")
    assert law.mean == pytest.approx(mean, abs=1e-9)
    assert law.stddev == pytest.approx(math.sqrt(variance), rel=1e-6)


@pytest.mark.turns(3)
@pytest.mark.parametrize("m", **named(DRAWN, sampled=True))
def test_specified_moments_are_those_of_a_draw(m):
    assert_moments(m.initializer)


@pytest.mark.parametrize("bounds", [BOUNDS[1], *(pytest.param(b, marks=pytest.mark.slow) for b in BOUNDS[2:3])])
def test_specified_moments_of_other_bounds_are_those_of_a_draw(bounds):
    assert_moments(qrjax.truncated_normal_hash(0.3, None, *bounds))


def assert_moments(init):
    values = np.asarray(init(jax.random.key(3), SHAPE), np.float64)
    found = init.specification(SHAPE, np.dtype("float32"))
    # Five standard errors of independent values; stratified ones are closer.
    assert abs(values.mean() - found.mean) < 5 * found.stddev / math.sqrt(values.size)
    assert values.std() == pytest.approx(found.stddev, rel=5 * math.sqrt(2 / values.size))


def there_and_back(init, shape):
    there = init.specification(shape, np.dtype("float32"))
    return there, Specification.from_dict(json.loads(json.dumps(there.to_dict(), allow_nan=False)))


@pytest.mark.parametrize("m", **named(DRAWN))
def test_json_says_all_of_it(m):
    there, back = there_and_back(m.initializer, (12, 40))
    assert back == there


@pytest.mark.turns(3)
@pytest.mark.some(2)
@pytest.mark.parametrize("m", **named(DRAWN, sampled=True))
def test_json_draws_the_same_bits(m):
    init, key = m.initializer, jax.random.key(1)
    _, back = there_and_back(init, m.shape)
    again = Initializer(back.distribution, back.scaling, back.source, None, "again")
    np.testing.assert_array_equal(again(key, m.shape), init(key, m.shape))
