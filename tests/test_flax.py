"""Used as a researcher uses it: inside Linen and NNX modules, and with vmap over seeds."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import qrjax

KEY = jax.random.key(1)


class Network(nn.Module):
    kernel_init: nn.initializers.Initializer = qrjax.he_normal_qr()

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3), kernel_init=self.kernel_init)(x))
        x = nn.DenseGeneral((4, 8), axis=(-3, -2, -1), kernel_init=self.kernel_init)(x)
        x = nn.MultiHeadDotProductAttention(4, kernel_init=self.kernel_init)(x)
        return nn.Dense(10, kernel_init=qrjax.glorot_uniform_qr())(x)


def test_a_module_holding_an_initializer_equals_its_twin_and_does_not_recompile():
    module, twin = (Network(kernel_init=qrjax.lecun_normal_hash()) for _ in range(2))
    assert module == twin
    assert hash(module) == hash(twin)
    compiled = jax.jit(lambda m, key, x: m.init(key, x), static_argnums=0)
    x = jnp.ones((2, 6, 6, 3))
    compiled(module, KEY, x)
    compiled(twin, KEY, x)
    assert compiled._cache_size() == 1


def test_linen_layers_have_the_declared_variance_and_their_own_streams():
    params = jax.jit(Network().init)(KEY, jnp.ones((2, 6, 6, 3)))["params"]
    kernel = np.asarray(params["DenseGeneral_0"]["kernel"], np.float64)
    assert kernel.shape == (6, 6, 16, 4, 8)
    assert abs(kernel.var() * 6 * 6 * 16 / 2 - 1) < 0.02
    attention = params["MultiHeadDotProductAttention_0"]
    assert (attention["query"]["kernel"] != attention["key"]["kernel"]).any()


def test_nnx_layers():
    layer = nnx.Linear(64, 32, kernel_init=qrjax.he_normal_qr(), rngs=nnx.Rngs(0))
    kernel = np.asarray(layer.kernel[...], np.float64)
    assert abs(kernel.var() * 64 / 2 - 1) < 0.02


def test_vmap_over_seeds_is_a_loop_over_seeds():
    module, x = Network(), jnp.ones((1, 6, 6, 3))

    @jax.jit
    def draw(seed):
        return module.init(jax.random.key(seed), x)

    many = jax.tree.map(np.asarray, jax.vmap(draw)(jnp.arange(3)))
    for seed in range(3):
        one = draw(seed)
        jax.tree.map(lambda a, b, s=seed: np.testing.assert_array_equal(a[s], b), many, one)
