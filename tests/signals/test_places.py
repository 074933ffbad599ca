"""Signals that meet again: what several of them make is computed at the same places."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter._model import laws_of
from qrjax._rules._functions import SIMPLE
from qrjax._signals import _scores
from qrjax._signals._combine import combine
from qrjax._signals._signal import Signal

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/autoinit")
from moments import function_agrees, module_agrees, normal, predicted

X = normal(64, 128)
SIGMOID, TANH = jax.nn.sigmoid, jnp.tanh


def cell(i, f, g, o, j, k):
    """Two steps of a cell whose second gates descend from the first."""
    c = SIGMOID(i) * TANH(g)
    after = SIGMOID(f + i) * c + SIGMOID(0.5 * i + j) * TANH(g + k)
    return SIGMOID(o + f) * TANH(after)


MEETINGS = {
    "(x + y) - y": (lambda x, y: (x * y + y) - y, 2),
    "g (1 - y) (1 + y)": (lambda g, y: g * (1 - TANH(y)) * (1 + TANH(y)), 2),
    "z h + (1 - z) n": (lambda z, h, n: SIGMOID(z) * TANH(h) + (1 - SIGMOID(z)) * (n + h), 3),
    "x y / (1 + x y)^2": (lambda x, y: TANH(x) * y / (1 + (TANH(x) * y) ** 2), 2),
    "x y z - x y": (lambda x, y, z: x * y * SIGMOID(z) - x * y, 3),
    "two steps of a cell": (cell, 6),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_what_meets_again_is_the_same(name):
    function, count = MEETINGS[name]
    function_agrees(function, *[X] * count, draws=16, within=0.03)


def test_what_cancels_is_a_number():
    law = predicted(lambda x, y: (x * y + 3) - x * y, X, X)
    assert law.mean == pytest.approx(3.0, abs=0.01)
    assert law.variance <= 1e-3


def test_pairs_of_elements_meet_as_elements_do():
    """x (1 + y) + z - z, where rows share x and y is of mean 0: half of the variance is common to a row."""
    x = qrjax.Signal.normal((8, 64), rho=np.array([[1.0, 1.0], [0.0, 0.0]]))
    program = jax.make_jaxpr(lambda x, y, z: (x * y + z) - z + x)(*[jax.ShapeDtypeStruct((8, 64), np.float32)] * 3)
    (law,) = laws_of(program, [x, *[qrjax.Signal.normal((8, 64)) for _ in range(2)]])
    assert law.second_moment == pytest.approx(2.0, rel=0.03)
    assert law.axis_correlation(1) == pytest.approx(0.5, abs=0.03)
    assert law.axis_correlation(0) == pytest.approx(0.0, abs=0.03)


def test_what_has_next_to_nothing_in_common_is_not_alike():
    """Of a thousand elements a hundredth, the noise of the sample, would be ten times what each is."""
    x, y = (Signal.normal((1000,), rho=np.array([1.0, 1e-4])) for _ in range(2))
    gate = x.map(lambda v: 1 / (1 + np.exp(-v)))
    product = combine(SIMPLE["mul"], [gate, y], (1000,), np.float32)
    made = combine(SIMPLE["add"], [product, x], (1000,), np.float32)
    assert made.source.formula is not None
    assert abs(made.rho[1]) < 2e-3


def test_the_noise_is_standard_and_uncorrelated():
    rows = np.concatenate([_scores.noise_rows(0), _scores.noise_rows(1)])
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(np.mean(rows**2, 1), 1, atol=1e-9)
    # Within a block exactly, between blocks within 5 sigma.
    among = rows @ rows.T / _scores.POINTS - np.eye(len(rows))
    assert np.abs(among[:32, :32]).max() < 1e-9
    assert np.abs(among).max() < 5 / np.sqrt(_scores.POINTS)
    # Normal: the fourth moment within 5 sigma, which is the root of 96.
    assert np.abs(np.mean(rows**4, 1) - 3).max() < 5 * np.sqrt(96 / _scores.POINTS)


class Beside(nn.Module):
    """A cell that has one matrix for its input and its state, which lie beside each other."""

    @nn.compact
    def __call__(self, state, x):
        c, h = state
        i, f, g, o = jnp.split(nn.Dense(256)(jnp.concatenate([x, jax.nn.relu(h)], -1)), 4, -1)
        c = SIGMOID(f) * c + SIGMOID(i) * TANH(g)
        h = SIGMOID(o) * TANH(c)
        return (c, h), h


class Scanned(nn.Module):
    """The state after many steps."""

    @nn.compact
    def __call__(self, x):
        zero = jnp.zeros((len(x), 64))
        scan = nn.scan(Beside, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        return scan()((zero, zero), x)[1]


@pytest.mark.slow
def test_a_state_beside_its_input():
    module_agrees(Scanned(), normal(4, 24, 64), within=0.1)


def test_a_recurrence_is_the_same_in_every_walk():
    cell = nn.RNN(nn.GRUCell(16))
    gains = [
        [row.gain for row in qrjax.analyze(cell, jax.ShapeDtypeStruct((2, 8, 16), np.float32)).weights]
        for _ in range(3)
    ]
    assert gains[0] == gains[1] == gains[2]
