"""Predicted gradients beside measured ones on the zoo: the table of the README.

    python tests/bench/gradients.py [--markdown] [--seeds 8] [names ...]

For every network, weights for several seeds, each on a batch and with a random cotangent of its own; log2 of the
measured over the predicted second moment of the derivative by every weight's output and by every weight. Its mean over
the seeds is the bias, of which the table has the median and the 90th percentile of the absolute values over rows; its
standard deviation over the seeds is "luck" (the median over rows), which no prediction can foresee. "missed" counts
rows of which only one of the two is zero; "approximate" names the primitives whose derivative was not walked.
"""

import argparse
import pathlib
import re
import sys

import jax
import numpy as np
from autoinit import DRAW, _filled, drawn, everything, gains_of, input_values, measured_rows, plans, traced, walked
from sampling import Report, environment, show, version

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from zoo import NETWORKS

from qrjax._autoinit._backward import backward_pass, with_gradients
from qrjax._autoinit._targets import Aim

# Derivatives with less than this share of the largest are zero but for rounding.
ROUNDING = 1e-10
COLUMNS = ("gradient", "weight_gradient")
APPROXIMATE = re.compile("gradient approximate behind (.*)")


def rows_of(network, seeds):
    """For each seed the rows with a weight, with predicted and measured gradients.

    A model is traced, walked and compiled once: what is predicted hangs on the scales of its weights, not on a draw.
    """
    model = traced(network)
    gains = gains_of(model, 1.0, None)
    walk, report = walked(model, input_values(model, None, None), gains, Aim(1.0, 1.0), gradients=True, sums=True)
    planned, entries = plans(model, walk, everything, DRAW), walk.ledger.entries
    _, forward = measured_rows(model, walk, report, 0, network)
    moments = forward(drawn(model, planned, jax.random.key(0)), 0, list(model.inputs))
    rows = [_filled(row, entries[row.site], moments) for row in report.weights]
    backward, found = backward_pass(model, walk.ledger, moments, None), []
    for seed in range(seeds):
        inputs = [leaf for leaf in jax.tree.leaves(network.inputs(seed)) if hasattr(leaf, "dtype")]
        flat = drawn(model, planned, jax.random.key(seed))
        gradients = backward(flat, jax.random.key(1000 + seed), inputs)
        found.append([with_gradients(row, entries[row.site], gradients, model) for row in rows])
    return found


def values(rows, column):
    """Of one column, with zeros for what is zero but for rounding."""
    found = np.array([getattr(row, column) or 0.0 for row in rows])
    return np.where(found > ROUNDING * found.max(), found, 0.0)


def compared(seeds, column):
    """log2 of measured over predicted, by seed and row, and of how many rows only one of both is zero."""
    predicted, measured = (np.array([values(rows, prefix + column) for rows in seeds]) for prefix in ("", "measured_"))
    both = ((predicted > 0) & (measured > 0)).all(0)
    neither = ((predicted == 0) & (measured == 0)).all(0)
    return np.log2(measured[:, both] / predicted[:, both]), int((~both & ~neither).sum())


def study(network, seeds):
    """By column the bias of each row, its luck and how many rows are missed; and what is approximate."""
    found = rows_of(network, seeds)
    result = {"rows": len(found[0]), "approximate": set()}
    for column in COLUMNS:
        octaves, missed = compared(found, column)
        bias = np.abs(octaves.mean(0))
        result[column] = {
            "median": float(np.median(bias)),
            "p90": float(np.quantile(bias, 0.9)),
            "luck": float(np.median(octaves.std(0))),
            "missed": missed,
        }
    for note in (note for row in found[0] for note in row.notes):
        if named := APPROXIMATE.fullmatch(note):
            result["approximate"].update(named[1].split(", "))
    return result


def line(name, seeds):
    """One network's row; its progress goes to standard error."""
    found = study(NETWORKS[name], seeds)
    figures = [f"{found[c][figure]:.2f}" for c in COLUMNS for figure in ("median", "p90", "luck")]
    missed = sum(found[column]["missed"] for column in COLUMNS)
    cells = [name, str(found["rows"]), *figures, str(missed), ", ".join(sorted(found["approximate"])) or "-"]
    print(f"| {' | '.join(cells)} |", file=sys.stderr, flush=True)
    return cells


def report(names, seeds):
    columns = [
        f"{c}: median".replace("_", " ") if f == "median" else f for c in COLUMNS for f in ("median", "90th", "luck")
    ]
    title = f"Octaves between measured and predicted gradients, {seeds} seeds"
    return Report(title, ("network", "rows", *columns, "missed", "approximate"), [line(n, seeds) for n in names])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="networks of the zoo; all by default")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--seeds", type=int, default=8, help="of weights, batches and cotangents")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NETWORKS]:
        parser.error(f"no network {unknown[0]!r} in the zoo; there are {', '.join(NETWORKS)}")
    facts = environment() | {"flax": version("flax")}
    show([report(options.names or list(NETWORKS), options.seeds)], facts, options.markdown)


if __name__ == "__main__":
    main()
