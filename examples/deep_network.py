"""Deep networks without normalization or residuals, four activations, four initializations.

    python examples/deep_network.py
    python examples/deep_network.py --activation tanh gelu --depth 100 --seeds 5

It needs the extra `demo` (`pip install 'qrjax[demo]'`), and a minute or so of two CPU cores. It prints what the report
says of `target="stable"`, trains each network on handwritten digits for the same steps at the same rate, and draws the
predicted signal, the predicted gradient and the accuracy. One rate and few steps tell how a network starts, not how
good it becomes.

A signal of second moment 1 at every layer is not all that depth asks for. Behind tanh, gelu and swish the gradient
grows from layer to layer, and of gelu and swish so does every error of the signal; the smaller the second moment of
what they are given, the less. ReLU hands its gradient on whatever the second moment is, so that there "stable" is 1;
but its layers make all inputs alike, which no target mends. A ReLU whose corner lies at -1 sees a small signal as a
line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
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

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "shifted relu": lambda x: nn.relu(x + 1) - 1,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "swish": nn.swish,
}
SHOWN = ("relu", "shifted relu", "tanh", "gelu")
CLASSES, BATCH, TRAINING_IMAGES = 10, 64, 1347
# How often the test images are looked at.
CHECKS = 10
# Colours and lines.
LOOKS = {
    "Flax default": ("#D55E00", "--"),
    "autoinit, 1": ("#009E73", "-."),
    "autoinit, stable": ("#0072B2", "-"),
    "stable, orthogonal": ("#CC79A7", ":"),
}


class Deep(nn.Module):
    """Dense layers and nothing else."""

    activation: str
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pixels to logits."""
        for _ in range(self.depth - 1):
            x = ACTIVATIONS[self.activation](nn.Dense(self.width)(x))
        return nn.Dense(CLASSES)(x)


class Digits(NamedTuple):
    """Pixels of mean 0 and variance 1, and the digits that they show."""

    images: jax.Array
    labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array


class Run(NamedTuple):
    """One training."""

    activation: str
    name: str
    second_moment: float  # of the logits before training
    gradient: float  # its norm before training
    losses: np.ndarray
    checked: list[int]  # the steps after which the accuracy was measured
    accuracies: list[float]


def digits() -> Digits:
    """Scikit-learn's handwritten digits, 1347 to train and 450 to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)
    known = images[:TRAINING_IMAGES]
    images = ((images - known.mean()) / known.std()).astype(np.float32)
    halves = (slice(TRAINING_IMAGES), slice(TRAINING_IMAGES, None))
    return Digits(*(jnp.asarray(array[half]) for half in halves for array in (images, labels)))


def initializations(network: Deep, data: Digits, seed: int) -> dict[str, Any]:
    """Flax's default and ours, which is the whole difference between the runs."""
    x = data.images
    return {
        "Flax default": network.init(jax.random.key(seed), x[:1]),
        "autoinit, 1": qrjax.autoinit(network, x, seed=seed),
        "autoinit, stable": qrjax.autoinit(network, x, seed=seed, target="stable"),
        "stable, orthogonal": qrjax.autoinit(network, x, seed=seed, target="stable", distribution="orthogonal"),
    }


def curves(network: Deep, data: Digits) -> dict[str, qrjax.Report]:
    """What is predicted of the signal and the gradient at every layer; orthogonal weights are taken as others are."""

    def analyzed(**options: Any) -> qrjax.Report:
        return qrjax.analyze(network, data.images, gradients=True, **options)

    return {
        "Flax default": analyzed(weights="module"),
        "autoinit, 1": analyzed(),
        "autoinit, stable": analyzed(target="stable"),
    }


def trained(network: Deep, starts: Sequence[tuple[str, Any]], data: Digits, steps: int, rate: float) -> list[Run]:
    """Adam with a cosine decay from each start, on the same minibatches."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(variables: Any, chosen: jax.Array) -> jax.Array:
        logits = network.apply(variables, data.images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.labels[chosen]).mean()

    @jax.jit
    def step(variables: Any, state: Any, chosen: jax.Array) -> tuple[Any, Any, jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(variables, chosen)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(variables, updates), state, value, optax.tree.norm(gradient)

    @jax.jit
    def accuracy(variables: Any) -> jax.Array:
        return (jnp.argmax(network.apply(variables, data.test_images), -1) == data.test_labels).mean()

    def run(name: str, variables: Any) -> Run:
        moment = float(jnp.square(network.apply(variables, data.images)).mean())
        state, order = optimizer.init(variables), np.random.default_rng(1)
        losses, gradients, checked, accuracies = [], [], [], []
        for done in range(1, steps + 1):
            chosen = order.choice(len(data.labels), BATCH, replace=False)
            variables, state, value, gradient = step(variables, state, chosen)
            losses.append(float(value))
            gradients.append(float(gradient))
            if done % max(1, steps // CHECKS) == 0 or done == steps:
                checked.append(done)
                accuracies.append(float(accuracy(variables)))
        return Run(network.activation, name, moment, gradients[0], np.array(losses), checked, accuracies)

    return [run(name, variables) for name, variables in starts]


def table(runs: Sequence[Run], depth: int) -> Table:
    """What the runs came to."""
    result = Table(box=None, header_style="bold", title=f"{depth} dense layers, handwritten digits; chance is 10 %")
    for heading in ("activation", "initialization"):
        result.add_column(heading)
    for heading in ("E(logit²)", "gradient", "final loss", "accuracy, %"):
        result.add_column(heading, justify="right")
    for run in runs:
        final = run.losses[-max(1, len(run.losses) // 10) :].mean()
        start = (f"{run.second_moment:.1e}", f"{run.gradient:.1e}")
        result.add_row(run.activation, run.name, *start, f"{final:.3f}", f"{100 * run.accuracies[-1]:.1f}")
    return result


def picture(runs: Sequence[Run], reports: dict[str, dict[str, qrjax.Report]], depth: int, path: str) -> None:
    """For each activation the signal and the gradient by layer, as predicted, and the accuracy against steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 3 * len(reports), 9), dpi=150, layout="constrained")
    panels = figure.subplots(3, len(reports), sharey="row", squeeze=False)
    for (signal, gradient, accuracy), name in zip(panels.T, reports, strict=True):
        for start, report in reports[name].items():
            look = dict(zip(("color", "linestyle", "label"), (*LOOKS[start], start), strict=True))
            signal.semilogy([row.second_moment for row in report.weights], **look)
            gradient.semilogy([row.gradient_norm for row in report.weights], **look)
        for run in (run for run in runs if run.activation == name):
            color, line = LOOKS[run.name]
            accuracy.plot(run.checked, 100 * np.array(run.accuracies), color=color, linestyle=line, label=run.name)
        signal.set(title=f"{depth} layers, {name}", xlabel="layer")
        gradient.set(xlabel="layer")
        accuracy.set(ylim=(0, 100), xlabel="steps of training (minibatches of 64)")
        accuracy.axhline(100 / CLASSES, color="#555555", linestyle=":", label="chance")
    words = ("predicted second moment", "predicted gradient's norm per example", "test accuracy on digits, %")
    for axes, word in zip(panels[:, 0], words, strict=True):
        axes.set_ylabel(word)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    lines, labels = panels[2, 0].get_legend_handles_labels()
    each = dict(zip(labels, lines, strict=True))  # not once for each seed
    figure.legend(each.values(), each, loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """Trains, prints the table, saves the picture."""
    parser = argparse.ArgumentParser(description="A deep network without normalization, initialized in four ways.")
    parser.add_argument("--activation", nargs="+", choices=list(ACTIVATIONS), default=SHOWN)
    parser.add_argument("--depth", type=int, default=30, help="layers (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help="neurons of a layer (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=5e-4, help="Adam's first step size (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="how many, from 0 (default: %(default)s)")
    parser.add_argument("--output", default="deep_network.png", help="the picture (default: %(default)s)")
    options = parser.parse_args(arguments)
    data, runs, reports = digits(), [], {}
    console = Console()
    for activation in options.activation:
        network = Deep(activation, options.depth, options.width)
        reports[activation] = curves(network, data)
        for finding in reports[activation]["autoinit, stable"].findings:
            console.print(f"{activation}: {finding}", highlight=False)
        seeds = range(options.seeds)
        starts = [start for seed in seeds for start in initializations(network, data, seed).items()]
        runs += trained(network, starts, data, options.steps, options.rate)
    console.print(table(runs, options.depth))
    picture(runs, reports, options.depth, options.output)
    console.print("E(logit²) and the gradient's norm are from before training, the accuracy is of test images.")
    console.print(f"The curves are in {options.output}", highlight=False)
    return runs


if __name__ == "__main__":
    main()
