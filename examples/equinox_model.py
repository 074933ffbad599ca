"""An Equinox module, initialized by `qrjax.autoinit` and trained on digits.

    pip install 'qrjax[demo]' equinox
    python examples/equinox_model.py

An Equinox module is a pytree that holds its arrays and everything else. Parted by `eqx.partition`, it is what qrjax
takes from any library: a pair of functions, init(key, x) -> arrays and apply(arrays, x) -> outputs. The arrays that
`autoinit` returns go back into a module with `eqx.combine`; training is Equinox's own from there on.

The network is 20 dense layers of width 64 with ReLUs. Equinox draws weights and biases uniformly in +-1 / sqrt(inputs),
a third of the variance that keeps a signal, so its logits hardly depend on the image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import qrjax

WIDTH, CLASSES, BATCH, TRAINING_IMAGES = 64, 10, 64, 1347


class Run(NamedTuple):
    """One start and what training made of it."""

    name: str
    spread: float  # over images: the standard deviation of a logit before training
    loss: float  # mean of the last tenth of the steps
    accuracy: float  # of the test images


def make(key: jax.Array, depth: int) -> eqx.nn.MLP:
    """The network as any Equinox program makes it."""
    return eqx.nn.MLP(64, CLASSES, WIDTH, depth - 1, activation=jax.nn.relu, key=key)


def digits() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Standardized images and labels, to train and to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int32)
    images = (images - images[:TRAINING_IMAGES].mean()) / images[:TRAINING_IMAGES].std()
    first, rest = slice(TRAINING_IMAGES), slice(TRAINING_IMAGES, None)
    return jnp.asarray(images[first]), jnp.asarray(labels[first]), jnp.asarray(images[rest]), jnp.asarray(labels[rest])


def initialized(model: eqx.nn.MLP, depth: int, x: jax.Array, seed: int) -> tuple[eqx.nn.MLP, qrjax.Report]:
    """The same module with weights that keep the signal; this function is all that qrjax needs."""
    static = eqx.partition(model, eqx.is_inexact_array)[1]

    def init(key: jax.Array, _x: jax.Array) -> Any:
        return eqx.filter(make(key, depth), eqx.is_inexact_array)

    def apply(arrays: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(arrays, static))(x)

    arrays, report = qrjax.autoinit((init, apply), x, seed=seed, report=True)
    return eqx.combine(arrays, static), report


def trained(name: str, model: eqx.nn.MLP, data: Sequence[jax.Array], steps: int, rate: float) -> Run:
    """Equinox's usual loop."""
    images, labels, test_images, test_labels = data
    optimizer = optax.adam(rate)

    @eqx.filter_jit
    def step(model: eqx.nn.MLP, state: Any, x: jax.Array, y: jax.Array) -> tuple[eqx.nn.MLP, Any, jax.Array]:
        def loss(model: eqx.nn.MLP) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

        value, gradient = eqx.filter_value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(model, updates), state, value

    spread = float(jax.vmap(model)(images).std(0).mean())
    state, order, losses = optimizer.init(eqx.filter(model, eqx.is_inexact_array)), np.random.default_rng(1), []
    for _ in range(steps):
        chosen = order.choice(len(labels), BATCH, replace=False)
        model, state, loss = step(model, state, images[chosen], labels[chosen])
        losses.append(float(loss))
    accuracy = float((jax.vmap(model)(test_images).argmax(-1) == test_labels).mean())
    return Run(name, spread, float(np.mean(losses[-max(1, steps // 10) :])), accuracy)


def show(report: qrjax.Report, runs: Sequence[Run]) -> None:
    """The rows that the walk found, and the trainings."""
    console = Console()
    rows = Table("weight", "output", "gain", "E(output²)", title="What the walk found")
    for row in report.weights:
        rows.add_row(row.weight, str(row.shape), f"{row.gain:.4f}", f"{row.second_moment:.3f}")
    console.print(rows)
    table = Table("initialization", "logit's spread", "final loss", "accuracy, %", title="Digits; chance is 10 %")
    for run in runs:
        table.add_row(run.name, f"{run.spread:.1e}", f"{run.loss:.3f}", f"{100 * run.accuracy:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """Makes the network, initializes it in two ways, trains both."""
    parser = argparse.ArgumentParser(description="An Equinox module with Equinox's own weights and with qrjax's.")
    parser.add_argument("--depth", type=int, default=20, help="layers (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-4, help="Adam's (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    data = digits()
    plain = make(jax.random.key(options.seed), options.depth)
    ours, report = initialized(plain, options.depth, data[0], options.seed)
    starts = {"Equinox default": plain, "qrjax.autoinit": ours}
    runs = [trained(name, model, data, options.steps, options.rate) for name, model in starts.items()]
    show(report, runs)
    return runs


if __name__ == "__main__":
    main()
