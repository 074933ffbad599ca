"""Equinox's own layers, put together as in its documentation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .model import Wild, equinox_pair, normal


def mapped(model, x):
    """A batch through a module of single examples."""
    return jax.vmap(model)(x)


def mlp():
    import equinox as eqx

    return equinox_pair(lambda key: eqx.nn.MLP(64, 64, 128, 3, key=key), mapped)


def convolutions():
    import equinox as eqx

    def make(key):
        keys = jax.random.split(key, 4)
        return eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(3, 32, kernel_size=4, key=keys[0]),
                eqx.nn.MaxPool2d(kernel_size=2, stride=2),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(32, 32, kernel_size=3, key=keys[1]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(32 * 25, 64, key=keys[2]),
                eqx.nn.Lambda(jax.nn.sigmoid),
                eqx.nn.Linear(64, 64, key=keys[3]),
            ]
        )

    return equinox_pair(make, mapped)


def recurrent(kind: str):
    """The last state of a cell that a scan runs over a sequence, and a linear layer."""
    import equinox as eqx

    def make(key):
        first, second = jax.random.split(key)
        return getattr(eqx.nn, kind)(16, 64, key=first), eqx.nn.Linear(64, 64, key=second)

    def call(model, sequences):
        cell, head = model
        zero = jnp.zeros(64)
        start = (zero, zero) if kind == "LSTMCell" else zero

        def one(sequence):
            end = jax.lax.scan(lambda carry, x: (cell(x, carry), None), start, sequence)[0]
            return head(end[0] if kind == "LSTMCell" else end)

        return jax.vmap(one)(sequences)

    return equinox_pair(make, call)


def attention():
    """A block of a vision transformer: attention and an MLP, each behind a norm, then the mean over the tokens."""
    import equinox as eqx

    class Block(eqx.Module):
        first: eqx.nn.LayerNorm
        second: eqx.nn.LayerNorm
        mix: eqx.nn.MultiheadAttention
        mlp: eqx.nn.MLP

        def __init__(self, key):
            keys = jax.random.split(key)
            self.first, self.second = eqx.nn.LayerNorm(64), eqx.nn.LayerNorm(64)
            self.mix = eqx.nn.MultiheadAttention(4, 64, use_output_bias=True, key=keys[0])
            self.mlp = eqx.nn.MLP(64, 64, 128, 1, activation=jax.nn.gelu, key=keys[1])

        def __call__(self, x):
            y = jax.vmap(self.first)(x)
            x = x + self.mix(y, y, y)
            return x + jax.vmap(self.mlp)(jax.vmap(self.second)(x))

    def make(key):
        keys = jax.random.split(key, 3)
        return Block(keys[0]), Block(keys[1]), eqx.nn.Linear(64, 64, key=keys[2])

    def call(model, x):
        def one(x):
            return model[2](jnp.mean(model[1](model[0](x)), 0))

        return jax.vmap(one)(x)

    return equinox_pair(make, call)


def weight_norm():
    """Weights whose rows have a length of their own, a parameter beside them."""
    import equinox as eqx

    def make(key):
        first, second = (eqx.nn.Linear(64, 64, key=key) for key in jax.random.split(key))
        return eqx.nn.Sequential([eqx.nn.WeightNorm(first), eqx.nn.Lambda(jax.nn.relu), eqx.nn.WeightNorm(second)])

    return equinox_pair(make, mapped)


def sequences(seed: int):
    return (np.random.default_rng(seed).standard_normal((16, 20, 16), np.float32),)


def images(seed: int):
    return (np.random.default_rng(seed).standard_normal((8, 3, 18, 18), np.float32),)


entry = functools.partial(Wild, package="equinox")
MODELS = [
    entry("equinox_mlp", mlp, normal(32, 64)),
    entry("equinox_cnn", convolutions, images),
    entry("equinox_gru", functools.partial(recurrent, "GRUCell"), sequences),
    entry("equinox_lstm", functools.partial(recurrent, "LSTMCell"), sequences),
    entry("equinox_attention", attention, normal(8, 16, 64)),
    entry("equinox_weight_norm", weight_norm, normal(32, 64)),
]
