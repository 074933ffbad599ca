"""Heads of one to three units: norms and sums hold, so that one draw is what the mean over draws would be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

X = jax.random.normal(jax.random.key(0), (512, 32))


class Critic(nn.Module):
    units: int
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(256, name="hidden")(x))
        return nn.Dense(self.units, name="head", dtype=jnp.float32, param_dtype=self.dtype)(x)


@pytest.mark.few("1")
@pytest.mark.parametrize("units", [1, 2, 3])
def test_norms_and_sums_hold(units):
    for seed in range(3):
        variables, report = qrjax.autoinit(Critic(units), X, seed=seed, report=True)
        kernel = np.asarray(variables["params"]["head"]["kernel"], np.float64)
        gain, fan = report["head"].gain, len(kernel)
        np.testing.assert_allclose(np.square(kernel).sum(0), fan * gain**2, rtol=0.05, err_msg="squared norms")
        np.testing.assert_allclose(np.abs(kernel.sum(0)), np.sqrt(fan) * gain, rtol=0.1, err_msg="sums")


def test_the_mean_over_seeds_is_unchanged_and_one_draw_is_near_it():
    """Behind a ReLU the inputs have a mean: one draw of independent weights has .3 to 2."""
    outputs = []
    for seed in range(8):
        variables = qrjax.autoinit(Critic(1), X, seed=seed)
        outputs.append(float(jnp.mean(Critic(1).apply(variables, X) ** 2)))
    assert np.mean(outputs) == pytest.approx(1.0, rel=0.1)
    assert np.abs(np.array(outputs) - 1).max() < 0.25
    assert np.std(outputs) < 0.15


@pytest.mark.few("float32")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_eager_compiled_and_recorded_bits_are_one(dtype):
    network, options = Critic(3, dtype), {"seed": 5}
    eager = qrjax.autoinit(network, X, **options)["params"]["head"]["kernel"]
    jitted = jax.jit(lambda: qrjax.autoinit(network, X, **options))()["params"]["head"]["kernel"]
    record = qrjax.Record.from_json(qrjax.record(network, X, **options).to_json())
    for name, found in (("jitted", jitted), ("recorded", record.initial("head/kernel"))):
        np.testing.assert_array_equal(found, eager, err_msg=name)
    for index in ((7, 2), (slice(3, 9), ...), ([1, -1], [0, 2])):
        np.testing.assert_array_equal(record.weight("head/kernel", index), eager[index], err_msg=str(index))


@pytest.mark.slow
def test_wider_heads_and_hashes_are_independent_of_this():
    wide = qrjax.autoinit(Critic(4), X)["params"]["head"]["kernel"]
    hashed = qrjax.autoinit(Critic(1), X, source="hash")["params"]["head"]["kernel"]
    for kernel in (wide, hashed):
        sums = np.abs(np.asarray(kernel, np.float64).sum(0)) / np.linalg.norm(kernel, axis=0)
        assert np.abs(sums - 1).max() > 0.1
