"""A feature extractor whose depth varies, and a classifier whose initial weights should not.

    python examples/two_blocks.py

The network has n convolutions, and behind them a classifier: a 1 x 1 convolution, an average over all positions and
two dense layers, of the same shapes for every n. Which of the classifier's three kernels are identical bit for bit to
those with n = 1, for the same key?

* Plain Linen derives a layer's key from its name. The classifier's convolution is `Conv_n`, so it changes with n; its
  dense layers keep their names here, since the features have none, and with them their weights.
* Plain NNX counts the keys that it gave away before, so everything behind a new layer changes.
* With `qrjax.block` nothing changes: a layer's key depends on the block's name and the layer's place in it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

import qrjax

DEPTHS = (1, 2, 3, 4)
CHANNELS, HIDDEN, CLASSES = 16, 32, 10


class LinenNetwork(nn.Module):
    """Two parts in one compact method; Flax names the layers."""

    depth: int
    blocks: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images to logits."""
        with qrjax.block("features") if self.blocks else contextlib.nullcontext():
            for _ in range(self.depth):
                x = nn.relu(nn.Conv(CHANNELS, (3, 3))(x))
        with qrjax.block("classifier") if self.blocks else contextlib.nullcontext():
            x = nn.relu(nn.Conv(CHANNELS, (1, 1))(x)).mean((1, 2))
            x = nn.relu(nn.Dense(HIDDEN)(x))
            return nn.Dense(CLASSES)(x)


class NNXNetwork(nnx.Module):
    """The same two parts; the layers take their keys from `rngs` in turn."""

    def __init__(self, depth: int, blocks: bool, rngs: nnx.Rngs):
        with qrjax.block("features", rngs=rngs) if blocks else contextlib.nullcontext():
            widths = [1] + [CHANNELS] * depth
            self.features = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in itertools.pairwise(widths)])
        with qrjax.block("classifier", rngs=rngs) if blocks else contextlib.nullcontext():
            self.mix = nnx.Conv(CHANNELS, CHANNELS, (1, 1), rngs=rngs)
            self.hidden = nnx.Linear(CHANNELS, HIDDEN, rngs=rngs)
            self.logits = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images to logits."""
        for layer in self.features:
            x = nnx.relu(layer(x))
        x = nnx.relu(self.mix(x)).mean((1, 2))
        return self.logits(nnx.relu(self.hidden(x)))


def linen_classifier(depth: int, blocks: bool) -> list[np.ndarray[Any, Any]]:
    """The classifier's kernels in a Linen network with `depth` convolutions before it."""
    params = LinenNetwork(depth, blocks).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))["params"]
    return [np.asarray(params[name]["kernel"]) for name in (f"Conv_{depth}", "Dense_0", "Dense_1")]


def nnx_classifier(depth: int, blocks: bool) -> list[np.ndarray[Any, Any]]:
    """The classifier's kernels in an NNX network with `depth` convolutions before it."""
    network = NNXNetwork(depth, blocks, nnx.Rngs(0))
    return [np.asarray(layer.kernel[...]) for layer in (network.mix, network.hidden, network.logits)]


def identical(classifier: Callable[[int, bool], list[np.ndarray[Any, Any]]], blocks: bool) -> list[int]:
    """For each depth, how many of the classifier's kernels are those of the first depth, bit for bit."""
    first = classifier(DEPTHS[0], blocks)
    return [
        sum(a.tobytes() == b.tobytes() for a, b in zip(first, classifier(depth, blocks), strict=True))
        for depth in DEPTHS
    ]


def main() -> dict[str, list[int]]:
    """Prints, for each kind of network and each depth, how many of the three kernels stay."""
    found = {
        "plain Linen": identical(linen_classifier, blocks=False),
        "plain NNX": identical(nnx_classifier, blocks=False),
        "Linen with qrjax.block": identical(linen_classifier, blocks=True),
        "NNX with qrjax.block": identical(nnx_classifier, blocks=True),
    }
    table = Table(
        "network", *(f"n = {depth}" for depth in DEPTHS), title="Classifier's kernels that are those of n = 1"
    )
    for name, counts in found.items():
        table.add_row(name, *(f"{count} of 3" for count in counts))
    Console().print(table)
    return found


if __name__ == "__main__":
    main()
