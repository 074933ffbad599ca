"""distribution="own": what the module's own initializers draw, at the scale that the signal needs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = jax.random.normal(jax.random.key(0), (128, 64))


def sparse(key, shape, dtype=jnp.float32):
    """Every fourth weight, uniform between 0 and 2."""
    keep = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.25, shape)
    return jnp.where(keep, jax.random.uniform(key, shape, dtype, 0.0, 2.0), jnp.zeros((), dtype))


INITIALIZERS = {
    "normal": nn.initializers.normal(3.0),
    "orthogonal": nn.initializers.orthogonal(0.2),
    "sparse": sparse,
    "ours": qrjax.he_uniform_hash(),
}


class Layer(nn.Module):
    start: object

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(64, use_bias=False, kernel_init=self.start)(nn.relu(x)), None


class Network(nn.Module):
    start: object
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64, kernel_init=self.start, name="first")(x)
        options = {"variable_axes": {"params": self.axis}, "split_rngs": {"params": True}}
        return nn.scan(Layer, length=2, **options)(self.start, name="layers")(x, None)[0]


def kernels(variables):
    return {p: np.asarray(v, np.float64) for p, v in jax.tree_util.tree_leaves_with_path(variables) if v.ndim > 1}


@pytest.mark.few("sparse")
@pytest.mark.parametrize("name", INITIALIZERS)
def test_weights_are_the_modules_own_times_one_number_a_layer(name):
    network, key = Network(INITIALIZERS[name]), jax.random.key(5)
    variables, report = qrjax.autoinit(network, X, key=key, distribution="own", report=True)
    found, own = kernels(variables), kernels(network.init(key, X))
    assert found.keys() == own.keys()
    for path, kernel in found.items():
        for layer, before in zip(np.atleast_3d(kernel.T).T, np.atleast_3d(own[path].T).T, strict=True):
            factor = np.sqrt(np.square(layer).sum() / np.square(before).sum())
            np.testing.assert_allclose(layer, factor * before, rtol=1e-5, err_msg=str(path))
    # relu's inputs are not centred, nor are sparse weights: one draw of three layers.
    assert float(jnp.mean(network.apply(variables, X) ** 2)) == pytest.approx(report[-1].second_moment, rel=0.35)
    assert report[-1].second_moment == pytest.approx(1.0)


@pytest.mark.few("orthogonal-1")
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["ours", "orthogonal"])
def test_a_record_gives_them_back(name, axis):
    network, options = Network(INITIALIZERS[name], axis), {"seed": 3, "distribution": "own"}
    variables = qrjax.autoinit(network, X, **options)
    record = qrjax.record(network, X, **options)
    loaded = qrjax.Record.from_json(record.to_json())
    if name != "ours" or axis:  # the transposition of a stack is not read off a program
        with pytest.raises(LookupError, match="with_model"):
            loaded.initial("layers/Dense_0/kernel")
        loaded = loaded.with_model(network, X)
    kernel = variables["params"]["layers"]["Dense_0"]["kernel"]
    for source in (record, loaded):
        np.testing.assert_array_equal(source.initial("layers/Dense_0/kernel"), kernel)
        for index in ((1, 1, 3), (slice(0, 1), ..., slice(None, None, -2)), ([0, 1], [1, 1], 5)):
            np.testing.assert_array_equal(source.weight("layers/Dense_0/kernel", index), kernel[index])


def test_an_nnx_module_keeps_its_weights_directions():
    module = nnx.Linear(64, 64, kernel_init=sparse, rngs=nnx.Rngs(0))
    made = qrjax.autoinit(module, X, distribution="own")
    ratio = np.asarray(made.kernel[...]) / np.where(module.kernel[...] == 0, np.nan, module.kernel[...])
    assert np.nanmax(ratio) == pytest.approx(np.nanmin(ratio), rel=1e-5)
    assert np.mean(np.square(made(X))) == pytest.approx(1.0, rel=0.15)


def test_values_that_are_not_known_yet_cannot_be_rescaled():
    @jax.jit
    def make(x):
        return nnx.state(qrjax.autoinit(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), x, distribution="own"))

    with pytest.raises(ValueError, match="`distribution` 'own' rescales what the module draws, and of 'kernel' only"):
        make(X)
