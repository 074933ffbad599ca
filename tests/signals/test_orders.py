"""The order of an array's values, by words that hold their own places, is the stable one."""

import numpy as np
import pytest

from qrjax._signals._quadrature import LONG, ordered

DRAWS = {
    "normal": lambda g, n: g.standard_normal(n),
    "ties": lambda g, n: np.maximum(g.standard_normal(n), 0.0),
    "zeros of both signs": lambda g, n: np.copysign(0.0, g.standard_normal(n)),
    "integers": lambda g, n: g.integers(-5, 5, n).astype(np.float64),
    "wide": lambda g, n: np.sign(g.standard_normal(n)) * 10.0 ** g.uniform(-300, 300, n),
    "infinite": lambda g, n: np.where(g.random(n) < 0.1, -np.inf, g.standard_normal(n)),
    "not numbers": lambda g, n: np.where(g.random(n) < 0.1, np.nan, g.standard_normal(n)),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [LONG - 1, LONG, 8192, 97 * 97])
def test_order_is_stable(name, n):
    values = DRAWS[name](np.random.default_rng(n), n)
    assert np.array_equal(ordered(values), np.argsort(values, kind="stable"))


def test_matrices_are_taken_row_by_row():
    values = np.random.default_rng(1).standard_normal((97, 97))
    assert np.array_equal(ordered(values), np.argsort(values, axis=None, kind="stable"))
