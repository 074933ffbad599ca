"""What each layout does to a matrix and to a deep network, next to independent weights.

    python tests/bench/layouts.py [--markdown] [--seeds 40] [--short]

Effective rank: exp(H) of a matrix of uniform weights less their mean, H the entropy of its squared
singular values taken as shares; the mean over a few keys. A layout that leaves a matrix as free as
independent weights do has a ratio of 1.00 to theirs.

Correlation: the largest absolute one between two neurons (columns), and between two inputs (rows), of
a square matrix.

Luck of the draw: y = relu(... relu(x W1) ...) W20, all of width 256, W from he_normal_qr, no biases. The
figure is log(mean(y**2) / (2 mean(x**2))), over the units, for a batch of N(0, 1) inputs that is the
same for all seeds. It is 0 for independent weights in the limit of infinite width: He's scale doubles
the second moment of an input that still has its negative half, and keeps that of a rectified one.
Zero-sum weights ("neurons") lose a factor 1 - 1/pi after every ReLU; "with the gain" they have it back.
The figure is shown for the mean over the batch and for one input alone, with the mean cosine between
the outputs of two inputs: where it is near 1 the inputs share their luck, where it is not the batch
averages it.
"""

from __future__ import annotations

import argparse
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sampling import Report, environment, show

import qrjax

SHAPES = ((1024, 1024), (784, 64), (1000, 1000))
KEYS = 3  # matrices a figure of rank or correlation is the mean of
DEPTH, WIDTH, BATCH = 20, 256, 64
ZERO_SUM_GAIN = math.sqrt(1 / (1 - 1 / math.pi))
Settings = dict[str, dict[str, Any]]
Fill = Callable[[jax.Array, tuple[int, int]], jax.Array]


def members() -> dict[str, tuple[Fill, Fill]]:
    """For each row how it draws uniform weights, and how He-scaled normal ones."""
    theirs = jax.nn.initializers
    sequences: Settings = {
        f"sequence, dim {dim}": {"layout": "sequence", "dim": dim, "scramble": "owen"} for dim in (1, 2, 3)
    }
    sequences["sequence, dim by key"] = {"layout": "sequence"}
    layouts = sequences | {name: {"layout": name} for name in ("shuffled", "outputs", "neurons", "points")}
    ours = {name: (qrjax.uniform_qr(1.0, **k), qrjax.he_normal_qr(**k)) for name, k in layouts.items()}
    independent = {"jax.random (i.i.d.)": (theirs.uniform(1.0), theirs.he_normal())}
    return independent | ours | {"hash": (qrjax.uniform_hash(1.0), qrjax.he_normal_hash())}


def matrices(fill: Fill, shape: tuple[int, int]) -> list[np.ndarray]:
    return [np.asarray(fill(jax.random.key(seed), shape), np.float64) for seed in range(KEYS)]


def effective_rank(weights: np.ndarray) -> float:
    centred = weights - weights.mean()
    squares = np.maximum(np.linalg.eigvalsh(centred.T @ centred), 1e-300)  # of the singular values
    shares = squares / np.sum(squares)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def largest_correlation(weights: np.ndarray) -> float:
    """Between two columns."""
    found = np.corrcoef(weights, rowvar=False)
    return float(np.abs(np.triu(found, 1)).max())


def mean_of(statistic: Callable[[np.ndarray], float], fill: Fill, shape: tuple[int, int]) -> float:
    return float(np.mean([statistic(weights) for weights in matrices(fill, shape)]))


class Luck(NamedTuple):
    """One network's log gains, and the cosine between its outputs for two inputs."""

    batch: jax.Array
    single: jax.Array
    cosine: jax.Array


def run(fill: Fill, correction: float, inputs: jax.Array, seed: jax.Array) -> Luck:
    """A whole network with its own seed."""
    keys = jax.random.split(jax.random.key(seed), DEPTH)
    y = inputs @ fill(keys[0], (WIDTH, WIDTH))

    def layer(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        # ReLU lets a factor through, so the signal stays at 1 and its logarithm is kept: where the rank
        # collapses the signal itself would leave float32's range.
        y, log_square = carry
        square = jnp.mean(y**2)
        y = jax.nn.relu(y / jnp.sqrt(square)) @ (correction * fill(key, (WIDTH, WIDTH)))
        return (y, log_square + jnp.log(square)), None

    (y, log_square), _ = jax.lax.scan(layer, (y, jnp.zeros(())), keys[1:])
    batch = log_square + jnp.log(jnp.mean(y**2) / (2 * jnp.mean(inputs**2)))
    single = log_square + jnp.log(jnp.mean(y[0] ** 2) / (2 * jnp.mean(inputs[0] ** 2)))
    unit = y / jnp.linalg.norm(y, axis=1, keepdims=True)
    return Luck(batch, single, jnp.mean((unit @ unit.T)[jnp.triu_indices(BATCH, 1)]))


def luck(fill: Fill, seeds: int, correction: float) -> Luck:
    inputs = jax.random.normal(jax.random.key(2**31), (BATCH, WIDTH))
    return jax.jit(lambda s: jax.lax.map(functools.partial(run, fill, correction, inputs), s))(jnp.arange(seeds))


def relative(value: float, reference: float) -> str:
    return f"{value:.3g} ({value / reference:.2f})"


def matrix_figures(fill: Fill) -> list[float]:
    ranks = [mean_of(effective_rank, fill, shape) for shape in SHAPES]
    neurons = mean_of(largest_correlation, fill, SHAPES[0])
    inputs = mean_of(lambda weights: largest_correlation(weights.T), fill, SHAPES[0])
    return [*ranks, neurons, inputs]


def matrix_report(table: dict[str, tuple[Fill, Fill]]) -> Report:
    """Ranks and correlations, each with its ratio to the first row's."""
    found = {name: matrix_figures(uniform) for name, (uniform, _) in table.items()}
    reference = next(iter(found.values()))
    lines = [[name, *map(relative, values, reference)] for name, values in found.items()]
    columns = ["layout", *(f"rank, {rows} x {width}" for rows, width in SHAPES), "correlation of neurons", "of inputs"]
    return Report(f"Uniform weights, mean of {KEYS} keys: figure (ratio to i.i.d.)", columns, lines)


def luck_report(table: dict[str, tuple[Fill, Fill]], seeds: int) -> Report:
    rows = [(name, normal, 1.0) for name, (_, normal) in table.items()]
    after = 1 + [name for name, *_ in rows].index("neurons")
    rows.insert(after, ("neurons, with the gain", table["neurons"][1], ZERO_SUM_GAIN))
    lines = [[name, *luck_cells(luck(fill, seeds, correction))] for name, fill, correction in rows]
    title = f"Log output variance of {DEPTH} ReLU layers of width {WIDTH}, He scale, {seeds} seeds, batch of {BATCH}"
    return Report(title, ("layout", "mean", "sd", "one input: mean", "sd", "cosine of two inputs"), lines)


def luck_cells(found: Luck) -> list[str]:
    pairs = [(values.mean(), values.std(ddof=1)) for values in found[:2]]
    return [f"{x:{form}}" for pair in pairs for x, form in zip(pair, ("+.2f", ".2f"), strict=True)] + [
        f"{found.cosine.mean():.2f}"
    ]


def short_report(matrix: Report, lucks: Report) -> Report:
    """The ratios of the one and the luck of the other, for a reader in a hurry."""
    found = {name: cells for name, *cells in lucks.rows}
    lines = [[name, *map(ratio, cells[:4]), *found[name][:2]] for name, *cells in matrix.rows]
    title = "Ratios to independent weights, and the luck of the draw"
    return Report(title, [*matrix.columns[:5], "luck: mean", "sd"], lines)


def ratio(cell: str) -> str:
    return cell.partition("(")[2].rstrip(")")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--seeds", type=int, default=40, help="networks a layout")
    parser.add_argument("--short", action="store_true", help="one table of ratios and luck in the place of both")
    options = parser.parse_args()
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
    facts, table = environment(), members()
    reports = [matrix_report(table), luck_report(table, options.seeds)]
    show([short_report(*reports)] if options.short else reports, facts, options.markdown)


if __name__ == "__main__":
    main()
