"""Does quasirandom or analytic initialization help this network? The paper's experiment, on MNIST-1D or your files.

    python examples/train_and_eval.py --model cnn --depth 3 --initializer he_normal --seeds 20
    python examples/train_and_eval.py --dataset mnist --folder ~/mnist --model mlp2

Trains the network from one of the ten initializers of arXiv 2408.02654, once for each source of randomness and seed
(all seeds of a source at once), compares the sources in pairs of equal seeds, and draws the paper's box plot. A fifth
of the training examples tells which rate to take and which epoch counts; the test examples are for the comparison. The
results are kept: a run that was killed goes on with what is missing when it is repeated. `qrjax train` and `qrjax
aggregate` do the same for many networks and initializers at once.

For your own network write a function (seed, data) -> {"loss": ..., "accuracy": ...} and give it to `qrjax.sweep`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import qrjax
from qrjax import experiments

SOURCES = ("random", "sobol", "sequence", "hash", "autoinit", "stable")
# Factors of four; the best on the validation examples is taken.
RATES = {"adam": (1e-3, 4e-3, 1.6e-2), "sgd": (4e-2, 1.6e-1, 6.4e-1), "momentum": (4e-3, 1.6e-2, 6.4e-2)}


def main(argv: Sequence[str] | None = None) -> list[experiments.Comparison]:
    """Runs, compares, draws; returns the comparisons."""
    options = parsed(argv)
    settings = [
        experiments.Settings(
            dataset=options.dataset, model=options.model, initializer=options.initializer, source=source,
            optimizer=options.optimizer, epochs=options.epochs, units=options.units, limit=options.limit,
            depth=options.depth, learning_rate=RATES[options.optimizer], validation=0.2, batch_size=64,
        )
        for source in SOURCES
    ]  # fmt: skip
    records = experiments.run(settings, options.seeds, options.results, folder=options.folder)
    found = experiments.compare(records)
    show(found)
    draw(records, options.picture)
    return found


def show(found: Sequence[experiments.Comparison]) -> None:
    """The table that a reviewer asks for."""
    table = Table(title=f"{found[0].seeds} pairs of seeds; baseline: {found[0].baseline}, {found[0].baseline_mean:.2%}")
    for heading in ("source", "accuracy", "difference", "95 % interval", "wins", "adjusted p", "verdict"):
        table.add_column(heading, justify="left" if heading in ("source", "verdict") else "right")
    for one in found:
        points = [f"{100 * number:+.2f}" for number in (one.difference, one.low, one.high)]
        table.add_row(
            one.source, f"{one.mean:.2%}", points[0], " to ".join(points[1:]), f"{one.wins:.0%}",
            f"{one.adjusted_p:.3f}", one.verdict,
        )  # fmt: skip
    Console().print(table)


def draw(records: Sequence[dict], path: Path) -> None:
    """The paper's box plot per epoch."""
    by_source = {
        source: 100 * np.array([r["accuracy"] for r in records if r["settings"]["source"] == source])
        for source in SOURCES
    }
    qrjax.plot.boxes(by_source).figure.savefig(path, dpi=150)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="Compare sources of randomness for one network.")
    parser.add_argument("--dataset", default="mnist1d", help="digits, mnist1d, mnist, cifar10 or imdb")
    parser.add_argument("--folder", type=Path, help="where the files of the dataset are")
    parser.add_argument("--model", default="mlp2", help="mlp1, mlp2, cnn, lstm or transformer")
    parser.add_argument("--initializer", default="glorot_uniform", help="one of the paper's ten")
    parser.add_argument("--optimizer", default="adam", help="adam, sgd or momentum")
    parser.add_argument("--depth", type=int, default=1, help="how many times each hidden layer comes in a row")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--limit", type=int, help="keep the first examples only")
    parser.add_argument("--results", type=Path, default=Path("train_and_eval.jsonl"))
    parser.add_argument("--picture", type=Path, default=Path("train_and_eval.png"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
