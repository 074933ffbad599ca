"""The walk knows what qrjax's own builders draw, without running them."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import qrjax


class Layers(nn.Module):
    start: object

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.relu(nn.Dense(256, kernel_init=self.start)(x))
        return nn.Dense(256, kernel_init=self.start)(x)


STARTS = {
    "independent": qrjax.he_normal_hash(),
    "zero mean": qrjax.he_normal_hash(zero_mean=True),
    "neurons": qrjax.he_normal_qr(layout="neurons"),
    "own bounds": qrjax.truncated_normal_hash(0.15, lower=-0.5, upper=1.0),
    "not centred": qrjax.random_uniform_qr(-0.05, 0.15),
}


FAST = ["zero mean", "neurons"]


@pytest.mark.few("neurons")
@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in STARTS])
def test_a_modules_own_weights_are_foreseen(name):
    network, x = Layers(STARTS[name]), np.random.default_rng(0).standard_normal((128, 128), np.float32)
    init = jax.jit(network.init)
    seeds = [init(jax.random.key(seed), x) for seed in range(6)]
    measured = [[row.measured_second_moment for row in qrjax.measure(network, s, x).weights] for s in seeds]
    found = qrjax.analyze(network, x, weights="module")
    ratios = np.mean(measured, axis=0) / [row.second_moment for row in found.weights]
    # Luck of 24 layers' draws, four layers deep.
    assert np.abs(np.log2(ratios)).max() < 0.2, ratios
