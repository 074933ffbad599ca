"""Gradients of the user's loss: predicted from its derivative by what the model returns, beside measured ones."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qrjax
from qrjax._autoinit._cotangents import law, sums

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (64, 6, 32))
LABELS = jax.random.randint(jax.random.key(1), (64,), 0, 10)


class Network(nn.Module):
    """Two layers and a head, of the mean over all places or of each."""

    pooled: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(128)(jnp.tanh(nn.Dense(128)(x))))
        x = x.mean(1) if self.pooled else x
        return {"ids": jnp.argmax(x, -1), "logits": nn.Dense(10)(x)}


def cross_entropy(y):
    return optax.softmax_cross_entropy_with_integer_labels(y["logits"], LABELS).mean()


def of_the_last(y):
    return cross_entropy({"logits": y["logits"][:, -1]})


def measured(module, loss):
    variables = jax.jit(module.init)(jax.random.key(3), X)
    return qrjax.measure(module, variables, X, loss=loss).weights


@pytest.mark.parametrize(("pooled", "loss"), [(True, cross_entropy), (False, of_the_last)])
def test_beside_the_measured_ones(pooled, loss):
    rows = measured(Network(pooled), loss)
    assert len(rows) == 3
    for row in rows:
        assert abs(row.gradient_octaves) < 0.5, row
        assert abs(row.weight_gradient_octaves) < 1.5, row
    # By the outputs themselves it is the measured one.
    assert rows[-1].gradient == pytest.approx(rows[-1].measured_gradient, rel=1e-4)
    assert 0 < rows[-1].gradient < 1e-3


def test_it_scales_with_the_loss():
    one, ten = (measured(Network(), lambda y, n=n: n * cross_entropy(y)) for n in (1.0, 10.0))
    for small, large in zip(one, ten, strict=True):
        assert large.gradient == pytest.approx(100 * small.gradient, rel=1e-3)
        assert large.weight_gradient == pytest.approx(100 * small.weight_gradient, rel=1e-3)


def test_a_loss_that_is_a_random_cotangent_is_predicted_like_one():
    u = jax.random.normal(jax.random.key(9), (64, 10))
    module, variables = Network(), jax.jit(Network().init)(jax.random.key(3), X)
    of_loss = qrjax.measure(module, variables, X, loss=lambda y: (u * y["logits"]).sum()).weights
    random = qrjax.measure(module, variables, X, gradients=True).weights
    for one, other in zip(of_loss, random, strict=True):
        # 640 squares of normal numbers; what pairs of them have in common by chance adds as much once more.
        assert one.gradient == pytest.approx(other.gradient, rel=10 * (2 / 640) ** 0.5)


def test_what_is_no_finite_number_is_not_predicted():
    rows = measured(Network(), lambda y: jnp.log(0.0 * y["logits"]).sum())
    assert all(row.gradient is None and row.measured_gradient is not None for row in rows)


def pairs(g):
    """E[g g'] of pairs of elements that differ along some axes and along no others, one by one."""
    table, count = np.zeros((2,) * g.ndim), np.zeros((2,) * g.ndim)
    places = list(np.ndindex(g.shape))
    for one, other in itertools.product(places, places):
        differs = tuple(int(a != b) for a, b in zip(one, other, strict=True))
        table[differs] += g[one] * g[other]
        count[differs] += 1
    return table / count


def test_moments_are_those_of_all_pairs():
    g = np.random.default_rng(0).normal(size=(3, 4, 5)) + np.arange(5.0)
    found = law(g.shape, sums(jnp.asarray(g, jnp.float32)))
    assert found.table == pytest.approx(pairs(g), rel=1e-4, abs=1e-4)


def test_places_that_get_none_are_known():
    g = np.zeros((4, 6, 10), np.float32)
    g[:, -1] = np.random.default_rng(0).normal(size=(4, 10))
    profiles = law(g.shape, sums(jnp.asarray(g))).profiles
    assert profiles[1] == pytest.approx([0, 0, 0, 0, 0, 6], abs=1e-6)
    assert set(profiles) == {1}
