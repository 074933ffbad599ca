"""Which weights did training move, and which can go? Five criteria on handwritten digits, five seeds.

    python examples/which_weights_learned.py

It needs the extra `demo` (`pip install 'qrjax[demo]'`), and about two minutes on two CPU cores. A network starts from
`qrjax.autoinit` and is trained; only a record of its start is kept, a few kilobytes of JSON. The first table and the
picture compare the trained weights with their beginnings, the second prunes them by each criterion.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
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

CLASSES, BATCH, TRAINING_IMAGES = 10, 64, 1347
CRITERIA = ("change", "relative_change", "movement", "magnitude", "random")
WAYS = ("zero", "initial", "zero, retrained")


class Network(nn.Module):
    """Two hidden layers."""

    width: int = 256

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pixels to logits."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(CLASSES)(x)


class Digits(NamedTuple):
    """Pixels of mean 0 and variance 1, and the digits that they show."""

    images: jax.Array
    labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array


def digits() -> Digits:
    """Scikit-learn's handwritten digits, 1347 to train and 450 to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)
    known = images[:TRAINING_IMAGES]
    images = ((images - known.mean()) / known.std()).astype(np.float32)
    halves = (slice(TRAINING_IMAGES), slice(TRAINING_IMAGES, None))
    return Digits(*(jnp.asarray(array[half]) for half in halves for array in (images, labels)))


def loss(variables: Any, network: Network, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(network.apply(variables, images), labels).mean()


def trained(network: Network, variables: Any, data: Digits, optimizer: Any, steps: int, seed: int) -> Any:
    """Variables after some minibatches."""

    @jax.jit
    def run(variables: Any, state: Any, order: jax.Array) -> Any:
        def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
            variables, state = carry
            gradient = jax.grad(loss)(variables, network, data.images[chosen], data.labels[chosen])
            updates, state = optimizer.update(gradient, state, variables)
            return (optax.apply_updates(variables, updates), state), None

        return jax.lax.scan(step, (variables, state), order)[0][0]

    order = np.random.default_rng(seed).integers(0, len(data.labels), (steps, BATCH))
    return run(variables, optimizer.init(variables), jnp.asarray(order))


def accuracy(network: Network, variables: Any, data: Digits) -> float:
    """On the test images, in percent."""
    return 100 * float((jnp.argmax(network.apply(variables, data.test_images), -1) == data.test_labels).mean())


class Outcome(NamedTuple):
    """One seed."""

    record: qrjax.Record
    variables: Any
    accuracy: float
    pruned: dict[tuple[str, float, str], float]  # (criterion, sparsity, way) -> accuracy


def outcome(network: Network, data: Digits, sparsities: Sequence[float], steps: int, seed: int) -> Outcome:
    """Trains from one seed, and prunes by every criterion."""
    optimizer = optax.adam(1e-3)
    start = qrjax.autoinit(network, data.images, seed=seed)
    variables = trained(network, start, data, optimizer, steps, seed)
    del start  # all that is kept of it is the record
    record = kept(qrjax.record(network, data.images, seed=seed))
    found = {}
    for criterion in CRITERIA:
        for sparsity in sparsities:
            key = jax.random.key(seed)
            mask = qrjax.mask(record, variables, criterion=criterion, sparsity=sparsity, key=key)
            zeroed = qrjax.prune(variables, mask)
            again = trained(network, zeroed, data, qrjax.keep_pruned(optimizer, mask), steps // 4, seed + 1)
            ways = (zeroed, qrjax.prune(variables, mask, "initial", record), again)
            for way, pruned in zip(WAYS, ways, strict=True):
                found[criterion, sparsity, way] = accuracy(network, pruned, data)
    return Outcome(record, variables, accuracy(network, variables, data), found)


def kept(record: qrjax.Record) -> qrjax.Record:
    """The record as it comes back from a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        record.save(file)
        return qrjax.Record.load(file)


def table(outcomes: Sequence[Outcome], sparsities: Sequence[float], way: str) -> Table:
    """Mean and standard deviation over the seeds."""
    result = Table(box=None, header_style="bold")
    result.add_column("criterion")
    for sparsity in sparsities:
        result.add_column(f"{100 * sparsity:g} % gone", justify="right")
    for criterion in CRITERIA:
        cells = [[o.pruned[criterion, sparsity, way] for o in outcomes] for sparsity in sparsities]
        result.add_row(criterion, *(f"{np.mean(c):.1f} ± {np.std(c, ddof=1):.1f}" for c in cells))
    return result


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """Trains, prunes, prints the tables, saves the picture."""
    parser = argparse.ArgumentParser(description="Which weights did training move, and which can go?")
    parser.add_argument("--seeds", type=int, default=5, help="networks (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--width", type=int, default=256, help="neurons of a layer (default: %(default)s)")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.8, 0.9, 0.95])
    parser.add_argument("--output", default="which_weights_learned.png", help="the picture (default: %(default)s)")
    options = parser.parse_args(arguments)
    network, data, console = Network(options.width), digits(), Console()
    outcomes = [outcome(network, data, options.sparsity, options.steps, seed) for seed in range(options.seeds)]
    first = outcomes[0]
    found = qrjax.changes(first.record, first.variables, threshold=0.01)
    print(f"Seed 0, from a record of {len(first.record.to_json()) / 1024:.1f} KiB:\n\n{found}\n")
    full = [o.accuracy for o in outcomes]
    print(f"Test accuracy, %: {np.mean(full):.1f} ± {np.std(full, ddof=1):.1f} before pruning, and after")
    for way in WAYS:
        console.print(f"\npruned weights to {way}:", highlight=False)
        console.print(table(outcomes, options.sparsity, way))

    def batch_loss(variables: Any) -> jax.Array:
        return loss(variables, network, data.images, data.labels)

    most = qrjax.max_sparsity(jax.jit(batch_loss), first.record, first.variables, 0.01, criterion="magnitude")
    percent = accuracy(network, most.params, data)
    console.print(
        f"Magnitude may take {100 * most.sparsity:.1f} % before the training loss rises by 0.01 "
        f"(from {most.baseline:.4f} to {most.loss:.4f}); test accuracy {percent:.1f} %.", highlight=False,
    )  # fmt: skip

    import matplotlib

    matplotlib.use("agg")
    qrjax.plot.changes(found, kernel="Dense_0/kernel").figure.savefig(options.output, dpi=150)
    console.print(f"The picture is in {options.output}", highlight=False)
    return outcomes


if __name__ == "__main__":
    main()
