"""Equations without a rule: what is sampled stays related to what it was sampled from."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import function_agrees, normal, predicted

X = normal(256, 16, mean=0.5)


def cumsum(x):
    return jnp.cumsum(x, -1)


def shares_of_the_best(x):
    best = jax.lax.top_k(jax.nn.softmax(x), 4)[0]
    return best / best.sum(-1, keepdims=True)


FUNCTIONS = {
    "x - f(x)": (lambda x: x - cumsum(x), X),
    "x / f(x)": (lambda x: x / (3 + cumsum(jax.nn.sigmoid(x))), X),
    "f(x) - g(x)": (lambda x: cumsum(x) - cumsum(jax.nn.relu(x)), X),
    "f(x) of one place and the next": (lambda x: cumsum(x)[:, 1:] - cumsum(x)[:, :-1], X),
    "relu(x) - f(x)": (lambda x: jax.nn.relu(x) - jax.lax.cummax(x, axis=1), X),
    "f(x) f(y)": (lambda x, y: cumsum(x) * cumsum(y), normal(4096, 8), normal(4096, 8)),
    "x + y - f(x)": (lambda x, y: (x + y) - (cumsum(x) - jnp.pad(cumsum(x), ((0, 0), (1, 0)))[:, :-1]), X, X),
    "x less its median": (lambda x: x - jnp.median(x, -1, keepdims=True), X),
    "x over its last sum": (lambda x: x / jnp.sqrt(cumsum(x * x)[:, -1:]), X),
    "sorted by indices": (lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1)[:, -4:], X),
    "shares of the best": (shares_of_the_best, X),
    "x and its own order": (lambda x: x - jnp.sort(x, -1), X),
}  # fmt: skip


@pytest.mark.some(3)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_sampled_stays_related(name):
    # One draw of 256 rows, of which the rows are independent: 5 sigma of rows' means are within a tenth.
    function_agrees(*FUNCTIONS[name], draws=16, within=0.1)


def test_two_arrays_have_draws_of_their_own():
    found = predicted(lambda x, y: cumsum(x) - cumsum(y), normal(4096, 8), normal(4096, 8))
    assert found.variance == pytest.approx(2 * np.arange(1, 9).mean(), rel=0.05)


def test_sampling_is_repeatable():
    first, second = (predicted(FUNCTIONS["x - f(x)"][0], X) for _ in range(2))
    assert (first.mean, first.variance) == (second.mean, second.variance)


def test_what_is_drawn_keeps_its_dtype_through_conversions():
    """Truth values made of sampled indices, as in a mixture of experts, are added up as numbers."""

    def chosen(x):
        indices = jax.lax.top_k(nn.softmax(x), 2)[1]
        return nn.one_hot(indices, 8).sum(-2)

    found = predicted(chosen, normal(64, 8))
    assert found.mean == pytest.approx(0.25, abs=0.01)
