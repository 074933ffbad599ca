"""AutoInit on public models that nobody here wrote: the figures of `tests/wild`.

    pip install -e '.[test,wild]'
    python tests/bench/wild_models.py [--markdown] [--seeds 3] [names ...]

Octaves are log2 of the measured over the predicted second moment at every weight's output, for several seeds of
weights and of inputs; "output" is the same ratio, not its logarithm, for what the model returns, its mean over the
seeds; "calibrated" is the largest deviation of a weight's output from the target after `qrjax.calibrate`. Seconds are
of the processor: to trace the model, and to walk it, the lesser of two.
"""

import argparse
import functools
import math
import os
import pathlib
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras reads it when it is loaded

import jax
import jax.extend
import numpy as np
from autoinit import DRAW, _filled, drawn, everything, gains_of, input_values, measured_rows, plans, traced, walked
from sampling import Report, environment, show, version

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from wild import MODELS

import qrjax
from qrjax._adapters._variables import values_of
from qrjax._autoinit._targets import Aim
from qrjax._interpreter._products import KEEPS
from qrjax._rules._operands import described

PACKAGES = ("flax", "transformers", "equinox", "dm-haiku", "keras", "jraph", "flowjax", "diffrax")


def study(network, seeds=3, walks=2):
    """The figures of one model, and what a test compares; of so many walks the quickest is timed."""
    model, trace = clocked(lambda: traced(network))
    values, kept, made = input_values(model, None, None), Remembering(model), []
    gains = functools.partial(gains_of, model, 1.0, None)
    (walk, report), walking = clocked(lambda: walked(kept, values, gains(), Aim(1.0, 1.0)), times=walks)
    rows, again = measured_rows(model, walk, report, seeds, network, made)
    weights = [[row for row in one if row.gain is not None] for one in rows]
    octaves = np.abs([[row.octaves for row in one if row.octaves is not None] for one in weights])
    planned = plans(model, walk, everything, DRAW)
    module = network.build()
    variables, after = tuned(module, network, walk, again, report)
    return {
        "weights": len(planned),
        "median": float(np.median(octaves)) if octaves.size else math.nan,
        "p90": float(np.quantile(octaves, 0.9)) if octaves.size else math.nan,
        "output": float(np.mean([squares[0] for squares in made])) / kept.predicted,
        "calibrated": max((deviation(u) for path, u in by_weight(after).items() if path[0] in planned), default=0),
        "trace": trace,
        "walk": walking,
        "unmeasured": [row.path for row in weights[0] if row.octaves is None],
        "untouched": untouched(model, planned),
        "report": report,
        "module": module,
        "variables": variables,
    }


class Remembering:
    """A model that remembers what its last walk says of its first output of real numbers."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def walked(self, *args):
        walk, outputs = self.model.walked(*args)
        real = (x for x in map(described, outputs) if jax.numpy.issubdtype(getattr(x, "dtype", np.int32), np.floating))
        self.predicted = next(real).second_moment
        return walk, outputs


def clocked(function, times=1):
    """What a function returns, and its processor seconds, the least of several."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        result = function()
        seconds.append(time.process_time() - started)
    return result, min(seconds)


def tuned(module, network, walk, again, report):
    """Autoinit's variables, and the rows of weights as they measure after `qrjax.calibrate`."""
    inputs, options = network.inputs(0), {"rngs": network.rngs or None, **network.kwargs}
    variables = qrjax.autoinit(module, *inputs, **options)
    calibrated = qrjax.calibrate(module, variables, *inputs, **options)
    arrays = [leaf for leaf in jax.tree.leaves(inputs) if hasattr(leaf, "dtype")]
    moments = again(values_of(calibrated), 0, arrays)
    rows = [row for row in report.weights if KEEPS not in row.notes]  # recurrent weights have no target
    return variables, [_filled(row, walk.ledger.entries[row.site], moments) for row in rows]


def by_weight(rows):
    """The second moments of each weight's uses, as a table and as a matrix; where layers are stacked of each layer."""
    found = {}
    for row in rows:
        if any(note.startswith("added to look-ups of a table that makes logits") for note in row.notes):
            continue  # as large beside these as their authors made them
        uses = found.setdefault((row.weight, row.site[1]), {})
        uses.setdefault(row.op == "gather", []).append(row.measured_second_moment or math.nan)
    return found


def deviation(uses):
    """How far a weight is from the target 1: on the mean over its uses, those as a table or those as a matrix."""
    return min(abs(float(np.mean(moments)) - 1) for moments in uses.values())


def untouched(model, planned):
    """Parameters of two axes or more that are drawn at random and that the walk gave no gain."""
    left = [leaf for leaf in model.leaves if leaf.trained and len(leaf.shape) > 1 and leaf.path not in planned]
    first, second = (
        dict(zip(model.leaves, drawn(model, planned, jax.random.key(seed)), strict=True)) for seed in range(2)
    )
    return [leaf.path for leaf in left if not np.array_equal(first[leaf], second[leaf])]


def attempted(name, seeds):
    """The figures, or the name of the error that a model ended in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return study(MODELS[name], seeds)
        except Exception as error:
            return type(error).__name__


def line(name, seeds):
    """A row of the table; of a model that fails, the error."""
    found = attempted(name, seeds)
    if isinstance(found, str):
        return [name, found, *[""] * 6]
    return [
        name,
        str(found["weights"]),
        *(f"{found[figure]:.2f}" for figure in ("median", "p90", "output")),
        f"{found['calibrated']:.0e}",
        *(f"{found[figure]:.2f}" for figure in ("trace", "walk")),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="models of tests/wild; all by default")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--seeds", type=int, default=3, help="of weights and batches")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MODELS]:
        parser.error(f"no model {unknown[0]!r} in tests/wild; there are {', '.join(MODELS)}")
    columns = ("model", "weights", "median", "90th", "output", "calibrated", "trace s", "walk s")
    title = f"Octaves between measured and predicted second moments, {options.seeds} seeds"
    lines = [line(name, options.seeds) for name in options.names or MODELS]
    facts = environment() | {name: version(name) for name in PACKAGES}
    show([Report(title, columns, lines)], facts, options.markdown)


if __name__ == "__main__":
    main()
