"""Weights of which each neuron's sum to zero do not see their inputs' mean, but at the border of an image."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import qrjax

NEURONS = {"layout": "neurons"}


def pooled(x):
    return nn.max_pool(x, (2, 2), (2, 2))


NETWORKS = {
    "dense": ([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(64)], (64, 32)),
    "same": ([nn.Conv(32, (3, 3)), nn.relu, pooled, nn.Conv(32, (3, 3)), nn.relu, nn.Conv(32, (3, 3))], (8, 16, 16, 8)),
    "transposed": ([nn.relu, nn.ConvTranspose(32, (4, 4), (2, 2)), nn.relu, nn.Conv(32, (3, 3))], (8, 8, 8, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_have_the_target_and_are_predicted(name):
    layers, shape = NETWORKS[name]
    network, x = nn.Sequential(layers), jax.random.normal(jax.random.key(0), shape)
    report = qrjax.measure(network, qrjax.autoinit(network, x, **NEURONS), x)
    # Luck of the draw alone: one seed's second moment is known to about a tenth of an octave.
    assert np.abs(np.log2([row.measured_second_moment for row in report.weights])).max() < 0.15
    assert np.abs([row.octaves for row in report.weights]).max() < 0.15


def test_a_place_at_the_border_sees_weights_that_do_not_cancel():
    # Constant inputs: within, zero-sum weights give zero; of 8 places two see 2 of 3 taps, whose sum has the variance
    # of the third.
    network, x = nn.Conv(4000, (3,), use_bias=False), jax.ShapeDtypeStruct((1, 8, 1), np.float32)
    row = qrjax.analyze(network, x, input_mean=1.0, input_variance=0.0, **NEURONS)[0]
    assert row.fan == pytest.approx(22 / 8)
    assert row.gain**2 * 2 / 8 == pytest.approx(1.0, rel=1e-3)


def test_independent_weights_are_not_taken_to_sum_to_zero():
    network, x = nn.Sequential([nn.relu, nn.Dense(256)]), jax.random.normal(jax.random.key(0), (64, 64))
    (row,) = qrjax.measure(network, qrjax.autoinit(network, x), x).weights
    assert row.second_moment == pytest.approx(1.0, abs=0.05)
