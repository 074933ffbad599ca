"""The recipe of golden.json, a record of format version 1, one of every kind of variable.

    python tests/records/golden.py > tests/records/golden.json

It was run once, by the version that introduced the format, and is not run again: later versions must read the file.
A later format gets a golden file of its own.
"""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import qrjax

KEY = jax.random.key(20250)
X = np.random.default_rng(7).standard_normal((64, 9), np.float32)


def init(key):
    """By their own initialization: plain draws of every source and layout, and what is no draw."""
    qr, keys = qrjax.he_normal_qr, jax.random.split(key, 3)
    return {
        "sobol": {
            "outputs": qr()(key, (7, 5)),
            "neurons": qr(layout="neurons")(key, (3, 3, 4, 6)),
            "points": qrjax.uniform_qr(2.0, layout="points", dim=3)(key, (6, 5)),
            "shuffled": qrjax.normal_qr(0.5, layout="shuffled", scramble=None)(key, (9, 11)),
            "linear": qrjax.truncated_normal_qr(0.5, dim=7, scramble="linear")(key, (5, 8)),
            "sequence": qrjax.lecun_uniform_qr(layout="sequence", scramble="shift")(key, (6, 7)),
        },
        "hash": {
            "normal": qrjax.normal_hash(0.3)(key, (31,)),
            "uniform": qrjax.random_uniform_hash(-0.1, 0.1)(key, (5, 3, 2)),
            "lopsided": qrjax.truncated_normal_hash(0.5, None, -1.0, 2.5)(key, (4, 9)),
            "zero_mean": qrjax.he_normal_hash(zero_mean=True)(key, (7, 5)),
            "stream": qrjax.he_normal_hash().stream("query", 2)(key, (4, 4)),
            "complex": qrjax.lecun_normal_hash()(key, (4, 3), jnp.complex64),
        },
        "stacked": jax.vmap(lambda key: qr()(key, (4, 5)))(keys),
        "reshaped": qr()(key, (12, 10)).reshape(3, 4, 2, 5),
        "converted": qr()(key, (4, 6)).astype(jnp.bfloat16),
        "bfloat16": qrjax.he_uniform_hash()(key, (4, 6), jnp.bfloat16),
        "factored": qrjax.orthogonal_qr(0.7)(key, (5, 4)),
        "constant": [jnp.full((3, 3), -0.0), jnp.full(5, 0.1), jnp.ones((), jnp.int32)],
        "few": jnp.arange(6, dtype=jnp.uint32) + np.uint32(2**31),
        "keys": keys,
        "model": jax.random.normal(key, (3, 3)),
    }


class Layer(nn.Module):
    """As the body of a scan."""

    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(9, use_bias=False)(x)), None


class Network(nn.Module):
    """Stacked weights and single ones, one of them narrow."""

    @nn.compact
    def __call__(self, x):
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x = nn.scan(Layer, length=3, **axes)(name="layers")(x, None)[0]
        x = nn.Dense(6, dtype=jnp.float32, param_dtype=jnp.bfloat16, name="narrow")(x.astype(jnp.bfloat16))
        return nn.Dense(4, name="head")(nn.LayerNorm(name="norm")(x))


def golden_init():
    """The record of `init`."""
    return qrjax.record(init, key=KEY, by="init").to_dict()


def golden_autoinit():
    """With two factors a weight, of which the second is measured, so that its last bits are the machine's."""
    return qrjax.record(Network(), X, key=KEY, source="hash", calibrate=True).to_dict()


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print(json.dumps({"init": golden_init(), "autoinit": golden_autoinit()}, indent=1))
