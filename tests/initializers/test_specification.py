"""What an initializer says of itself: the moments that the walk reads, and the JSON that a record keeps."""

import json
import math

import jax
import numpy as np
import pytest
import scipy.stats
from members import MEMBERS

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


@pytest.mark.filterwarnings("ignore:layout='sequence'")
@pytest.mark.parametrize(
    "init",
    [m.builder(*m.arguments, **m.options) for m in DRAWN]
    + [qrjax.truncated_normal_hash(0.3, lower=low, upper=high) for low, high in BOUNDS[:3]],
    ids=str,
)
def test_specified_moments_are_those_of_a_draw(init):
    values = np.asarray(init(jax.random.key(3), SHAPE), np.float64)
    found = init.specification(SHAPE, np.dtype("float32"))
    # Five standard errors of independent values; stratified ones are closer.
    assert abs(values.mean() - found.mean) < 5 * found.stddev / math.sqrt(values.size)
    assert values.std() == pytest.approx(found.stddev, rel=5 * math.sqrt(2 / values.size))


@pytest.mark.filterwarnings("ignore:layout='sequence'")
@pytest.mark.parametrize("member", DRAWN, ids=lambda m: m.name)
def test_json_draws_the_same_bits(member):
    init, key, shape = member.builder(*member.arguments, **member.options), jax.random.key(1), (12, 40)
    there = init.specification(shape, np.dtype("float32"))
    back = Specification.from_dict(json.loads(json.dumps(there.to_dict(), allow_nan=False)))
    assert back == there
    again = Initializer(back.distribution, back.scaling, back.source, None, "again")
    assert (again(key, shape) == init(key, shape)).all()
