"""NNX modules that hold keys (Dropout, stored Rngs), made where values are not known yet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = np.random.default_rng(0).standard_normal((8, 16), np.float32)
FAST = {"source": "hash", "distribution": "uniform"}


class Net(nnx.Module):
    """Dropout, a stored Rngs, and a state of a stream of its own."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 4, rngs=rngs)
        self.dropout, self.norm = nnx.Dropout(0.5, rngs=rngs), nnx.BatchNorm(32, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x):
        x = nnx.relu(self.norm(self.first(x)))
        return self.second(self.dropout(x) + jax.random.normal(self.rngs.noise(), x.shape))


def net(seed=0):
    return Net(nnx.Rngs(seed))


def drawn(module, **options):
    return qrjax.autoinit(module, X, **options, **FAST)


def kernel(module):
    return np.asarray(module.second.kernel[...])


@functools.cache
def plain():
    return kernel(drawn(net()))


PLACES = {
    "jax.jit": lambda: nnx.merge(nnx.graphdef(net()), jax.jit(lambda: nnx.state(drawn(net())))()),
    "nnx.jit of a module": lambda: nnx.jit(drawn)(net()),
    "nnx.jit of Rngs": lambda: nnx.jit(lambda rngs: drawn(Net(rngs)))(nnx.Rngs(0)),
    "nnx.eval_shape": lambda: net(),  # of which the walk is the same, below
}


@pytest.mark.parametrize("place", PLACES)
def test_keys_pass_through(place):
    if place == "nnx.eval_shape":
        report = qrjax.analyze(nnx.eval_shape(net), X)
        expected = qrjax.analyze(net(), X)
        assert [row.gain for row in report] == [row.gain for row in expected]
        with pytest.raises(ValueError, match="`module` holds shapes instead of arrays"):
            drawn(nnx.eval_shape(net))
        return
    found = PLACES[place]()
    np.testing.assert_array_equal(kernel(found), plain())
    assert found(X).shape == (8, 4)
    # Keys are the module's own.
    assert jax.random.key_data(found.dropout.rngs.key[...]).tolist() == key_of(net())


def key_of(module):
    return jax.random.key_data(module.dropout.rngs.key[...]).tolist()


def test_many_at_once():
    seeds = jnp.arange(3)
    many = nnx.vmap(lambda seed: drawn(net(), seed=seed), in_axes=0, out_axes=0)(seeds)
    for seed in range(3):
        np.testing.assert_array_equal(np.asarray(many.second.kernel[seed]), kernel(drawn(net(), seed=seed)))
    states = jax.vmap(lambda seed: nnx.state(drawn(net(), seed=seed)))(seeds)
    np.testing.assert_array_equal(states["second"]["kernel"][...], many.second.kernel[...])


@pytest.mark.slow
def test_many_rngs_at_once():
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs):
        return qrjax.autoinit(Net(rngs), X, rngs=rngs, **FAST)

    many = make(nnx.Rngs(0).split(3))
    assert many.second.kernel.shape == (3, 32, 4)
    assert not (many.second.kernel[0] == many.second.kernel[1]).any()


def test_they_are_measured_calibrated_and_recorded():
    module = drawn(net(), seed=1)
    calibrated = qrjax.calibrate(module, module, X)
    for row in qrjax.measure(module, calibrated, X).weights:
        assert row.measured_second_moment == pytest.approx(1.0, rel=1e-3)


def test_a_part_of_a_state_is_completed_by_the_module():
    module = nnx.Sequential(nnx.Linear(16, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    other = nnx.Sequential(nnx.Linear(16, 4, rngs=nnx.Rngs(2)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    expected = list(qrjax.measure(module, other, X))
    for part in (nnx.state(other), nnx.state(other, nnx.Param), nnx.to_pure_dict(nnx.state(other, nnx.Param))):
        assert list(qrjax.measure(module, part, X)) == expected


def test_a_record_keeps_the_modules_own_keys():
    module = drawn(net(), seed=1)
    record = qrjax.record(net(), X, seed=1, **FAST)
    np.testing.assert_array_equal(record.initial("second/kernel"), kernel(module))
    assert key_of(record.initial()) == key_of(net())
