"""Prune at once, or in rounds with training in between? Three criteria on handwritten digits, five seeds.

    python examples/prune_in_rounds.py

It needs the extra `demo` (`pip install 'qrjax[demo]'`), and about a minute of a CPU core. Networks are trained, pruned
and trained again, all with as many steps: "one shot" takes all weights away before the first of these, "rounds" a
share before each fifth of them, by the cubic schedule of Zhu and Gupta 2017 (arXiv 1710.01878), most of them early.
Masks are made inside the compiled program, for all seeds side by side, and what is gone stays gone. On this task both
ways and all criteria are level up to 90 %; at 98 % rounds are ahead by 5 to 21 points, most for magnitude.
"""

from __future__ import annotations

import argparse
import functools
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

CLASSES, BATCH, TRAINING_IMAGES, ROUNDS = 10, 64, 1347, 5
CRITERIA = ("magnitude", "movement", "change")
WAYS = ("one shot", "rounds")


class Network(nn.Module):
    """Two hidden layers, whose initial weights need not be kept to be known."""

    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pixels to logits."""
        dense = functools.partial(nn.Dense, kernel_init=qrjax.he_normal_hash())
        for _ in range(2):
            x = nn.relu(dense(self.width)(x))
        return dense(CLASSES)(x)


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


def cubic(sparsity: float, way: str) -> np.ndarray:
    """What share is gone in each round: at once, or s (1 - (1 - k / n)^3) after k of n rounds."""
    left = 1 - np.arange(1, ROUNDS + 1) / ROUNDS
    return np.asarray(sparsity * (1 - (left**3 if way == "rounds" else 0 * left)), np.float32)


def trained(network: Network, params: Any, optimizer: Any, data: Digits, key: jax.Array, steps: int) -> Any:
    """Params after some minibatches."""

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        logits = network.apply(params, data.images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.labels[chosen]).mean()

    def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, chosen), state, params)
        return (optax.apply_updates(params, updates), state), None

    order = jax.random.randint(key, (steps, BATCH), 0, len(data.labels))
    return jax.lax.scan(step, (params, optimizer.init(params)), order)[0][0]


def accuracy(network: Network, params: Any, data: Digits) -> jax.Array:
    """On the test images, in percent."""
    return 100 * (jnp.argmax(network.apply(params, data.test_images), -1) == data.test_labels).mean()


def pruned(network: Network, data: Digits, criterion: str, steps: int, params: Any, key: jax.Array, shares: Any) -> Any:
    """Accuracy after as many rounds as there are shares, and how many weights are left; one seed, inside a program."""
    start, shuffles = key, jax.random.split(jax.random.fold_in(key, 2), len(shares))
    init = functools.partial(network.init, start, data.images[:1])  # where weights began: traced, never stored
    optimizer = optax.adam(1e-3)

    def one(carry: Any, its: Any) -> tuple[Any, None]:
        params, mask = carry
        share, shuffle = its
        mask = qrjax.mask(init, params, criterion=criterion, sparsity=share, within=mask)
        params = qrjax.prune(params, mask)
        rest = qrjax.keep_pruned(optimizer, mask)
        return (trained(network, params, rest, data, shuffle, steps // len(shares)), mask), None

    every = jax.tree.map(lambda w: jnp.ones(w.shape, bool), params)
    params = jax.lax.scan(one, (params, every), (shares, shuffles))[0][0]
    left = sum(jnp.sum(w != 0) for w in jax.tree.leaves(params) if w.ndim > 1)
    return accuracy(network, params, data), left


class Outcome(NamedTuple):
    """Test accuracies in percent, of each seed."""

    before: np.ndarray
    after: dict[tuple[str, str], np.ndarray]  # (criterion, way) -> (seeds, sparsities)
    left: dict[tuple[str, str], np.ndarray]  # how many weights of the kernels


def outcome(network: Network, data: Digits, sparsities: Sequence[float], seeds: int, steps: int) -> Outcome:
    """Trains all seeds, then prunes them by every criterion in both ways."""
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    def first(key: jax.Array) -> tuple[Any, jax.Array]:
        params = network.init(key, data.images[:1])
        params = trained(network, params, optax.adam(1e-3), data, jax.random.fold_in(key, 1), steps)
        return params, accuracy(network, params, data)

    params, before = jax.jit(jax.vmap(first))(keys)
    after, left = {}, {}
    for criterion in CRITERIA:
        run = jax.jit(jax.vmap(functools.partial(pruned, network, data, criterion, steps), (0, 0, None)))
        for way in WAYS:
            found = [run(params, keys, cubic(sparsity, way)) for sparsity in sparsities]
            after[criterion, way], left[criterion, way] = (np.stack(each, 1) for each in zip(*found, strict=True))
    return Outcome(np.asarray(before), after, left)


def table(found: Outcome, sparsities: Sequence[float]) -> Table:
    """Mean and standard deviation over the seeds."""
    result = Table(box=None, header_style="bold")
    result.add_column("criterion")
    result.add_column("way")
    for sparsity in sparsities:
        result.add_column(f"{100 * sparsity:g} % gone", justify="right")
    for (criterion, way), cells in found.after.items():
        result.add_row(criterion, way, *(f"{c.mean():.1f} ± {c.std(ddof=1):.1f}" for c in cells.T))
    return result


def draw(found: Outcome, gone: Sequence[float], path: str) -> None:
    """A panel for every criterion: accuracy against the share of weights that are gone."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(CRITERIA), figsize=(4.2 * len(CRITERIA), 4.2), sharey=True, squeeze=False)
    for ax, criterion in zip(panels[0], CRITERIA, strict=True):
        curves = {way: found.after[criterion, way] for way in WAYS}
        qrjax.plot.losses(curves, x=gone, xlabel="weights gone, %", ylabel="test accuracy, %", yscale="linear", ax=ax)
        ax.set_title(f"{criterion}: mean and range of {len(found.before)} seeds", fontsize=10)
        ax.set_xticks(gone)
        ax.label_outer()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> Outcome:
    """Trains, prunes, prints the table, saves the picture."""
    parser = argparse.ArgumentParser(description="Prune at once, or in rounds with training in between?")
    parser.add_argument("--seeds", type=int, default=5, help="networks (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="minibatches before and after (default: %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="neurons of a layer (default: %(default)s)")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--output", default="prune_in_rounds.png", help="the picture (default: %(default)s)")
    options = parser.parse_args(arguments)
    network, data, console = Network(options.width), digits(), Console()
    found = outcome(network, data, options.sparsity, options.seeds, options.steps)
    print(
        f"Test accuracy, %: {found.before.mean():.1f} ± {found.before.std(ddof=1):.1f} before pruning, and after "
        f"{options.steps} more steps, with a share of every kernel's weights gone\n"
    )
    console.print(table(found, options.sparsity))

    draw(found, [100 * sparsity for sparsity in options.sparsity], options.output)
    console.print(f"\nThe picture is in {options.output}", highlight=False)
    return found


if __name__ == "__main__":
    main()
