"""A Haiku network: the pair that `hk.transform` makes is what `qrjax.autoinit` takes; trained on digits.

    pip install 'qrjax[demo]' dm-haiku
    python examples/haiku_model.py

`hk.without_apply_rng(hk.transform(f))` is a pair of functions, init(key, x) and apply(params, x): it goes into
`autoinit`, `analyze`, `measure` and `calibrate` as it is, and what comes back is Haiku's dictionary of parameters.
Of a network with statistics, take the state that its own init makes, and hand in the pair

    params_and_state = hk.transform_with_state(f)
    state = params_and_state.init(key, x)[1]
    init = lambda key, x: params_and_state.init(key, x)[0]
    apply = lambda params, x: params_and_state.apply(params, state, None, x)[0]

The network is a stack of convolutions with ReLUs, without residuals and norms. Haiku draws weights of variance 1 / fan,
which halves the signal's power with every ReLU; with autoinit's a real batch keeps its power, as the first table shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import qrjax

WIDTH, CLASSES, BATCH, TRAINING_IMAGES = 32, 10, 64, 1347


class Data(NamedTuple):
    """Standardized images and labels, to train and to test."""

    images: jax.Array
    labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array


class Run(NamedTuple):
    """One start and what training made of it."""

    name: str
    first: float  # loss before training; the logarithm of the ten classes is 2.3
    loss: float  # mean of the last tenth of the steps
    accuracy: float  # of the test images


def network(depth: int) -> hk.Transformed:
    """Images to logits."""

    def forward(x: jax.Array) -> jax.Array:
        for _ in range(depth - 1):
            x = jax.nn.relu(hk.Conv2D(WIDTH, 3)(x))
        return hk.Linear(CLASSES)(hk.Flatten()(x))

    return hk.without_apply_rng(hk.transform(forward))


def digits() -> Data:
    """Scikit-learn's handwritten digits, 1347 to train and 450 to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order].reshape(-1, 8, 8, 1), labels[order].astype(np.int32)
    known = images[:TRAINING_IMAGES]
    images = ((images - known.mean()) / known.std()).astype(np.float32)
    halves = (slice(TRAINING_IMAGES), slice(TRAINING_IMAGES, None))
    return Data(*(jnp.asarray(array[half]) for half in halves for array in (images, labels)))


def trained(net: hk.Transformed, name: str, params: Any, data: Data, steps: int, rate: float) -> Run:
    """Adam on minibatches, the same for every start."""
    optimizer = optax.adam(rate)

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        logits = net.apply(params, data.images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.labels[chosen]).mean()

    @jax.jit
    def step(params: Any, state: Any, chosen: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, chosen)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, order, losses = optimizer.init(params), np.random.default_rng(1), []
    for _ in range(steps):
        params, state, value = step(params, state, order.choice(len(data.labels), BATCH, replace=False))
        losses.append(float(value))
    logits = jax.jit(net.apply)(params, data.test_images)
    accuracy = float((logits.argmax(-1) == data.test_labels).mean())
    return Run(name, losses[0], float(np.mean(losses[-max(1, steps // 10) :])), accuracy)


def show(before: qrjax.Report, after: qrjax.Report, runs: Sequence[Run]) -> None:
    """What a batch measures behind each weight with either start, and the trainings."""
    console = Console()
    rows = Table("weight", "fan", "gain", "E(output²)", "Haiku's", title="Behind each weight, on a batch")
    for row, own in zip(after.weights, before.weights, strict=True):
        moments = (f"{one.measured_second_moment:.2g}" for one in (row, own))
        rows.add_row(row.weight, f"{row.fan:.0f}", f"{row.gain:.4f}", *moments)
    console.print(rows)
    table = Table("initialization", "first loss", "final loss", "accuracy, %", title="Digits; chance is 10 %")
    for run in runs:
        table.add_row(run.name, f"{run.first:.2f}", f"{run.loss:.3f}", f"{100 * run.accuracy:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """Initializes the network in two ways, measures both, trains both."""
    parser = argparse.ArgumentParser(description="A Haiku network with Haiku's own weights and with qrjax's.")
    parser.add_argument("--depth", type=int, default=28, help="layers (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=150, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-4, help="Adam's (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    data, net = digits(), network(options.depth)
    batch = data.images[:BATCH]
    starts = {
        "Haiku default": net.init(jax.random.key(options.seed), batch),
        "qrjax.autoinit": qrjax.autoinit(net, batch, seed=options.seed),
    }
    reports = [qrjax.measure(net, params, batch) for params in starts.values()]
    runs = [trained(net, name, params, data, options.steps, options.rate) for name, params in starts.items()]
    show(*reports, runs)
    return runs


if __name__ == "__main__":
    main()
