"""The recipe of golden_2.json, a record of format version 2: how layers that lie along any axis are drawn.

    python tests/records/golden_2.py > tests/records/golden_2.json

It was run once, by the version that introduced the format, and is not run again: later versions must read the file.
A later format gets a golden file of its own.
"""

import json

import flax.linen as nn
import jax
import numpy as np

import qrjax

KEY = jax.random.key(20262)
X = np.random.default_rng(8).standard_normal((16, 5), np.float32)


class Layer(nn.Module):
    """As the body of a scan."""

    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(7, use_bias=False)(x)), None


class Network(nn.Module):
    """Layers stacked along the first axis, and along the one in the middle."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(7, name="first")(x))
        for axis in (0, 1):
            options = {"variable_axes": {"params": axis}, "split_rngs": {"params": True}}
            x = nn.scan(Layer, length=3, **options)(name=f"along_{axis}")(x, None)[0]
        return x


def golden_autoinit(**options):
    """The record of `Network`."""
    return qrjax.record(Network(), X, key=KEY, **options).to_dict()


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    golden = {name: golden_autoinit(layout=name) for name in ("outputs", "neurons")}
    print(json.dumps(golden | {"orthogonal": golden_autoinit(distribution="orthogonal")}, indent=1))
