"""Predicted gradients where many elements get the same derivative, beside those of real draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from pairs import pair

import qrjax
from qrjax._adjoint._contractions import summing
from qrjax._signals._signal import Signal

X = jax.random.normal(jax.random.key(0), (512, 32))
STEPS = jax.random.normal(jax.random.key(1), (64, 24, 64))
SIGNS = jnp.sign(jax.random.normal(jax.random.key(2), (1, 128)))


def rows(module, x, draw=None, **options):
    """By weight, of one draw."""
    variables = (draw or (lambda: module[0](jax.random.key(3))))()
    return {row.weight: row for row in qrjax.measure(module, variables, x, **options).weights}


@pytest.mark.parametrize("stratified", [True, False])
def test_weights_that_sum_to_nothing_over_their_outputs(stratified):
    module = pair(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], a=(32, 128), b=(128, 64))
    draw = (lambda: qrjax.autoinit(module, X)) if stratified else None
    found = rows(module, X, draw, loss=jnp.sum)["a"]
    # The sum of 64 weights: that of independent ones has a second moment of 64 / 128.
    independent = 0.5 * float(
        jnp.mean(1 - jnp.tanh(X @ (jax.random.normal(jax.random.key(5), (32, 128)) / 32**0.5)) ** 2)
    )
    assert (found.measured_gradient < 0.2 * independent) == stratified
    assert abs(found.gradient_octaves) < (1.0 if stratified else 0.4)


def test_channels_by_themselves_do_not_sum_over_outputs():
    def apply(p, x):
        return lax.conv_general_dilated(
            x @ p["a"], p["b"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=64
        )

    module, images = pair(apply, a=(32, 64), b=(3, 3, 1, 64)), X.reshape(8, 8, 8, 32)
    found = rows(module, images, lambda: qrjax.autoinit(module, images), loss=jnp.sum)["a"]
    assert abs(found.gradient_octaves) < 0.5


def test_the_share_that_is_left_of_a_sum():
    draws = np.random.default_rng(0).normal(size=(4000, 3, 8))
    draws -= 0.8 * draws.mean(2, keepdims=True)
    sums = (draws.sum(2) ** 2).mean() / 8
    share = sums / (draws**2).mean()
    rho = summing(Signal.normal((3, 8)), [1], share).rho
    by_pairs = (draws[..., 0] * draws[..., 5]).mean() / (draws**2).mean()
    assert rho[0, 1] == pytest.approx(by_pairs, abs=0.02)
    assert rho[1, 0] == rho[1, 1] == 0


def test_a_mask_and_its_input_are_not_independent():
    module = pair(lambda p, x: jnp.maximum(x @ p["w"], 0.0), w=(32, 128))
    found = rows(module, X, loss=lambda y: (SIGNS * y).sum())["w"]
    # Independent ones would add up as 512 examples do; to these comes the square of the mean of x times its own mask,
    # 512 w / sqrt(2 pi): five times as much with 32 inputs.
    alone = 512 / 2 * float(jnp.mean(X**2))
    assert found.measured_weight_gradient > 2 * alone
    assert abs(found.weight_gradient_octaves) < 0.3


def normalized(x, axis=0):
    centred = x - x.mean(axis, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(axis, keepdims=True) + 1e-6)


def test_parts_of_a_concatenation_behind_a_norm_of_each_channel():
    def apply(p, x):
        small, large = 0.1 * (x @ p["a"]), 3.0 * (x @ p["b"])
        return jnp.maximum(normalized(jnp.concatenate([small, large], 1)), 0.0) @ p["c"]

    found = rows(pair(apply, a=(32, 64), b=(32, 64), c=(128, 64)), X, gradients=True)
    assert found["a"].measured_gradient == pytest.approx(found["b"].measured_gradient, rel=0.2)
    for name in "ab":
        assert abs(found[name].gradient_octaves) < 0.3
        assert abs(found[name].weight_gradient_octaves) < 0.5


def test_a_norm_of_all_channels_knows_no_parts():
    def apply(p, x):
        parts = jnp.concatenate([0.1 * (x @ p["a"]), 3.0 * (x @ p["b"])], 1)
        return normalized(parts, 1) @ p["c"]

    found = rows(pair(apply, a=(32, 64), b=(32, 64), c=(128, 64)), X, gradients=True)
    for name in "ab":
        assert abs(found[name].gradient_octaves) < 0.5


def test_a_matrix_of_all_steps_keeps_what_they_have_in_common():
    def apply(p, x):
        def step(carry, x):
            first, second = carry
            second = 0.8 * second + first @ p["u"]
            first = 0.8 * first + x @ p["w"]
            return (first, second), second

        zeros = jnp.zeros(x[:, 0].shape)
        return lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))[1].mean(0)

    found = rows(pair(apply, u=(64, 64), w=(64, 64)), STEPS, gradients=True)
    for name in "uw":
        assert abs(found[name].gradient_octaves) < 0.5, name
