"""The learning rate tuned on a narrow network and used for a wide one, with multipliers and without.

    python examples/tune_small_train_large.py

It needs the extra `demo` (`pip install 'qrjax[demo]'`) and a minute or two. Perceptrons of three widths are trained
on digits at several rates. With Flax's weights and one rate for all, the best rate falls as the width grows, and
that of the narrow network ruins the wide one; with `qrjax.learning_rates` behind Adam it stays within a factor of two,
and what is found at the least width holds at the largest. The picture shows both.

`qrjax.coordinate_check` tells from a few steps of training whether a model's rates will transfer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import qrjax

CLASSES, BATCH = 10, 64
# The second moment that logits come to: where classes are told apart, a root mean square of several.
LOGITS = 16.0
# log2 of the rates that are tried: with multipliers a rate is the relative change of an output in one step.
GRIDS = {"one rate": range(-11, -3), "multipliers": range(-4, 3)}


class Network(nn.Module):
    """Three dense layers."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pixels to logits."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(CLASSES)(x)


class Tuned(NamedTuple):
    """What rates came to at one width."""

    way: str
    width: int
    losses: np.ndarray  # (seeds, rates), after training

    @property
    def best(self) -> int:
        """log2 of the best rate."""
        return GRIDS[self.way][int(self.losses.mean(0).argmin())]

    def loss(self, rate: int) -> float:
        """The mean over the seeds at a rate."""
        return float(self.losses.mean(0)[GRIDS[self.way].index(rate)])


def digits() -> tuple[jax.Array, jax.Array]:
    """Scikit-learn's handwritten digits in a fixed order, standardized, and what they show."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (images - images.mean()) / images.std()
    return jnp.asarray(images[order].astype(np.float32)), jnp.asarray(labels[order].astype(np.int32))


def start(way: str, network: Network, x: jax.Array, seed: Any) -> tuple[Any, Any]:
    """Parameters, and the steps that a rate is multiplied with."""
    if way == "one rate":
        return network.init(jax.random.key(seed), x)["params"], optax.scale_by_adam()
    rates = qrjax.learning_rates(network, x, outputs=LOGITS)
    scaled = optax.chain(optax.scale_by_adam(), qrjax.scale_by_width(rates))
    return qrjax.autoinit(network, x, seed=seed)["params"], scaled


def tuned(way: str, width: int, data: tuple[jax.Array, jax.Array], steps: int, seeds: int) -> Tuned:
    """The training loss at each rate of each seed; seeds are trained side by side."""
    network, (images, labels) = Network(width), data

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        logits = network.apply({"params": params}, images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]).mean()

    def trained(rate: jax.Array, seed: jax.Array) -> jax.Array:
        params, optimizer = start(way, network, images[:BATCH], seed)

        def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
            params, state = carry
            chosen = jax.random.randint(jax.random.fold_in(jax.random.key(seed), number), (BATCH,), 0, len(labels))
            updates, state = optimizer.update(jax.grad(loss)(params, chosen), state)
            return (jax.tree.map(lambda p, u: p - rate * u, params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
        return loss(params, jnp.arange(512))

    each = jax.jit(jax.vmap(trained, (None, 0)))
    losses = [each(jnp.float32(2.0**rate), jnp.arange(seeds)) for rate in GRIDS[way]]
    return Tuned(way, width, np.stack(losses, -1))


def show(found: Sequence[Tuned], widths: Sequence[int]) -> None:
    """For each way the best rates, and the widest network's loss at its own and at that of the narrowest."""
    table = Table("rates", *(f"at {width}" for width in widths), "loss", "at the first's", title="Best rates by width")
    for way in GRIDS:
        own = [one for one in found if one.way == way]
        losses = (f"{own[-1].loss(one.best):.3f}" for one in (own[-1], own[0]))
        table.add_row(way, *(f"2^{one.best}" for one in own), *losses)
    Console().print(table)


def picture(found: Sequence[Tuned], path: str) -> None:
    """The losses over the rate, a panel for each way."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(GRIDS), figsize=(9, 4), layout="constrained", sharey=True)
    for axes, (way, grid) in zip(panels, GRIDS.items(), strict=True):
        curves = {f"width {one.width}": one.losses for one in found if one.way == way}
        qrjax.plot.losses(
            curves, x=list(grid), xlabel="log2 of the rate", ylabel="training loss", yscale="log", ax=axes
        )
        axes.set_title({"one rate": "Flax's weights, one rate", "multipliers": "autoinit, a multiplier a weight"}[way])
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> list[Tuned]:
    """Tunes all widths in both ways."""
    parser = argparse.ArgumentParser(description="A rate tuned on a narrow network, used for a wide one.")
    parser.add_argument("--widths", type=int, nargs="+", default=(32, 128, 512), help="(default: 32 128 512)")
    parser.add_argument("--steps", type=int, default=60, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="networks (default: %(default)s)")
    parser.add_argument("--output", default="tune_small_train_large.png", help="the picture (default: %(default)s)")
    options = parser.parse_args(arguments)
    data, widths = digits(), sorted(options.widths)
    found = [tuned(way, width, data, options.steps, options.seeds) for way in GRIDS for width in widths]
    show(found, widths)
    picture(found, options.output)
    return found


if __name__ == "__main__":
    main()
