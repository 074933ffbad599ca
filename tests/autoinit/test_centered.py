"""Constrained weights: each neuron stays centred and keeps its scale, whatever the optimizer does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qrjax

SHAPES = {"kernel": (24, 16), "conv": (3, 3, 4, 8), "bias": (16,), "embedding": (10, 6), "scalar": ()}
# Optax itself mixes types: Adam counts its steps in integers.
pytestmark = pytest.mark.usefixtures("promoting")
# Sums of some dozens of float32 numbers of size 1, moved and rescaled 20 times.
ROUNDING = 3e-6
OPTIMIZERS = {"sgd": lambda: optax.sgd(0.1), "momentum": lambda: optax.sgd(0.1, 0.9), "adam": lambda: optax.adam(0.05)}


@pytest.fixture
def promoting():
    with jax.numpy_dtype_promotion("standard"):
        yield


def parameters():
    generator = np.random.default_rng(0)
    params = {k: jnp.asarray(0.3 * generator.standard_normal(s) + 0.1, jnp.float32) for k, s in SHAPES.items()}
    return {"layer": params}


def loss(params):
    return sum(jnp.sum(jnp.cos(3.0 * p) + 0.1 * jnp.square(p)) for p in jax.tree.leaves(params))


def scales(w, axis=-1):
    others = tuple(a for a in range(w.ndim) if a != axis % w.ndim)
    w = np.asarray(w, np.float64)
    return w.mean(others), (w - w.mean(others, keepdims=True)).std(others)


def trained(optimizer, params, steps=20, jit=True):
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
        yield params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_neurons_stay_centred_and_keep_their_scale(name):
    before = parameters()
    optimizer = optax.chain(OPTIMIZERS[name](), qrjax.centered_unit_norm())
    count = 0
    for params in trained(optimizer, before):
        count += 1
        for kind in ("kernel", "conv"):
            mean, scale = scales(params["layer"][kind])
            np.testing.assert_allclose(mean, 0.0, atol=ROUNDING)
            np.testing.assert_allclose(scale, scales(before["layer"][kind])[1], rtol=10 * ROUNDING)
    assert count == 20
    moved = np.abs(np.asarray(params["layer"]["kernel"] - before["layer"]["kernel"])).max()
    assert moved > 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_others_move_as_without_it(name):
    constrained = list(trained(optax.chain(OPTIMIZERS[name](), qrjax.centered_unit_norm()), parameters()))[-1]
    free = list(trained(OPTIMIZERS[name](), parameters()))[-1]
    for kind in ("bias", "embedding", "scalar"):
        np.testing.assert_allclose(constrained["layer"][kind], free["layer"][kind], rtol=1e-5, atol=1e-6)
    assert not np.allclose(constrained["layer"]["kernel"], free["layer"]["kernel"], atol=1e-2)


@pytest.mark.slow
def test_jit_is_eager():
    optimizer = optax.chain(optax.sgd(0.1), qrjax.centered_unit_norm())
    (jitted,), (eager,) = (list(trained(optimizer, parameters(), 1, jit)) for jit in (True, False))
    for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_selection_and_an_axis_of_ones_own():
    before = parameters()
    constraint = qrjax.centered_unit_norm(lambda path, leaf: path == "layer/kernel" and leaf.ndim == 2, axis=0)
    params = list(trained(optax.chain(optax.sgd(0.1), constraint), before))[-1]
    mean, scale = scales(params["layer"]["kernel"], axis=0)
    np.testing.assert_allclose(mean, 0.0, atol=ROUNDING)
    np.testing.assert_allclose(scale, scales(before["layer"]["kernel"], axis=0)[1], rtol=10 * ROUNDING)
    assert np.abs(scales(params["layer"]["conv"])[0]).max() > 1e-2


def test_dead_neurons_stay_finite():
    params = {"kernel": jnp.zeros((4, 3))}
    optimizer = qrjax.centered_unit_norm()
    updates, _ = optimizer.update({"kernel": jnp.zeros((4, 3))}, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], np.zeros((4, 3), np.float32))


def test_it_needs_the_parameters():
    optimizer = qrjax.centered_unit_norm()
    params = parameters()
    with pytest.raises(ValueError, match="`params` must be given to the update of centered_unit_norm"):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.slow
def test_with_autoinit_and_a_real_loss():
    import flax.linen as nn

    network = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(1)])
    x = jax.random.normal(jax.random.key(0), (64, 16))
    y = jnp.sin(x.sum(1, keepdims=True))
    params = qrjax.autoinit(network, x, layout="neurons")["params"]
    optimizer = optax.chain(optax.adam(1e-2), qrjax.centered_unit_norm())

    def error(params):
        return jnp.mean(jnp.square(network.apply({"params": params}, x) - y))

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(error)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    first = scales(params["layers_0"]["kernel"])[1]
    for _ in range(20):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < values[0]
    mean, scale = scales(params["layers_0"]["kernel"])
    np.testing.assert_allclose(mean, 0.0, atol=ROUNDING)
    np.testing.assert_allclose(scale, first, rtol=10 * ROUNDING)
