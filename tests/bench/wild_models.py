"""AutoInit on public models that nobody here wrote: the table of the README.

    pip install -e '.[test,wild]'
    python tests/bench/wild_models.py [--markdown] [--seeds 3] [names ...]

Octaves are log2 of the measured over the predicted second moment at every weight's output, for several seeds of
weights and of inputs; "output" is the same ratio, not its logarithm, for what the model returns, its mean over the
seeds; "calibrated" is the largest deviation of a weight's output from the target after `qrjax.calibrate`. Seconds are
of the processor: to trace the model, and to walk it, the lesser of two.
"""

import argparse
import math
import os
import pathlib
import sys
import time
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras reads it when it is loaded

import jax
import numpy as np
from sampling import Report, environment, show, version

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from wild import MODELS

import qrjax
from qrjax._adapters._variables import values_of
from qrjax._autoinit._analyze import input_values, model_of, walked
from qrjax._autoinit._initialize import drawn
from qrjax._autoinit._measure import _filled
from qrjax._autoinit._plan import Draw, plans
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._replay import Replay
from qrjax._rules._registry import described

DRAW = Draw("truncated_normal", "sobol", "outputs")
PACKAGES = ("flax", "transformers", "equinox", "dm-haiku", "keras", "jraph", "flowjax", "diffrax")


def everything(_):
    """Every weight is touched."""
    return True


def clocked(function, times=1):
    """What a function returns, and its processor seconds, the least of several."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        result = function()
        seconds.append(time.process_time() - started)
    return result, min(seconds)


def floats(values):
    """Those that are arrays of real numbers."""
    return [value for value in values if jax.numpy.issubdtype(getattr(value, "dtype", np.int32), np.floating)]


class Study:
    """One model, traced and walked, to be run with any variables."""

    def __init__(self, network, target=1.0):
        self.network, self.module = network, network.build()
        self.arguments = (network.inputs(0), dict(network.kwargs))
        options = {"rngs": network.rngs or None}
        self.model, self.trace = clocked(lambda: model_of(self.module, *self.arguments, **options))
        values = input_values(self.model, None, None)
        (self.walk, self.report), self.walking = clocked(
            lambda: walked(self.model, values, target, everything), times=2
        )
        _, outputs = self.model.walked(Gains(target, everything), values)
        self.predicted = floats(map(described, outputs))[0].second_moment
        entries = self.walk.ledger.entries
        replay = Replay(frozenset(site[0] for site in entries), {})
        self.run = jax.jit(lambda flat, keys, inputs: replay.run(self.model.program, [*flat, *keys, *inputs]))

    def drawn(self, seed):
        """The variables of a seed, flat."""
        return drawn(self.model, plans(self.model, self.walk, everything, DRAW), jax.random.key(seed))

    def untouched(self, variables):
        """Parameters of two axes or more that are drawn at random and that the walk gave no gain."""
        touched = plans(self.model, self.walk, everything, DRAW)
        pairs = zip(self.model.leaves, values_of(variables), strict=True)
        left = [
            (leaf.path, a) for leaf, a in pairs if leaf.trained and len(leaf.shape) > 1 and leaf.path not in touched
        ]
        return [path for path, array in left if float(np.std(np.asarray(array, np.float32))) > 0]

    def measured(self, flat, seed):
        """The rows of weights, filled by a run on a seed's batch, and the second moment of the output."""
        inputs = [leaf for leaf in jax.tree.leaves(self.network.inputs(seed)) if hasattr(leaf, "dtype")]
        outputs, moments = self.run(flat, [jax.random.key(seed)] * self.model.keys, inputs)
        moments = {place: np.asarray(m, np.float64) for place, m in moments.items()}
        rows = [_filled(row, self.walk.ledger.entries[row.site], moments) for row in self.report.weights]
        return rows, float(np.mean(np.square(np.asarray(floats(outputs)[0], np.float64))))


def study(network, seeds=3):
    """The figures of one model, and what a test compares."""
    of = Study(network)
    runs = [of.measured(of.drawn(seed), seed) for seed in range(seeds)]
    octaves = np.abs([[row.octaves for row in rows if row.octaves is not None] for rows, _ in runs])
    (inputs, kwargs), rngs = of.arguments, network.rngs or None
    variables = qrjax.autoinit(of.module, *inputs, rngs=rngs, **kwargs)
    calibrated = qrjax.calibrate(of.module, variables, *inputs, rngs=rngs, **kwargs)
    after, _ = of.measured(values_of(calibrated), 0)
    return {
        "weights": len({row.weight for row in of.report.weights}),
        "median": float(np.median(octaves)) if octaves.size else math.nan,
        "p90": float(np.quantile(octaves, 0.9)) if octaves.size else math.nan,
        "output": float(np.mean([moment for _, moment in runs])) / of.predicted,
        "calibrated": max(map(deviation, by_weight(after))),
        "trace": of.trace,
        "walk": of.walking,
        "unmeasured": [row.path for row in runs[0][0] if row.octaves is None],
        "untouched": of.untouched(variables),
        "report": of.report,
        "variables": variables,
    }


def by_weight(rows):
    """The rows of each weight, where layers are stacked of each layer's."""
    found = {}
    for row in rows:
        found.setdefault((row.weight, row.site[1]), []).append(row)
    return found.values()


def deviation(rows):
    """How far a weight is from the target 1: on the mean over its uses, a table's as a table or as a matrix."""
    kinds = {}
    for row in rows:
        kinds.setdefault(row.op == "gather", []).append(row.measured_second_moment)
    if any(moment is None for moments in kinds.values() for moment in moments):
        return math.inf
    return min(abs(np.mean(moments) - 1) for moments in kinds.values())


def failure(name, seeds):
    """The figures, or what a model ended in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return study(MODELS[name], seeds)
        except Exception as error:
            return type(error).__name__


def line(name, seeds):
    """A row of the table; of a model that fails, the error."""
    found = failure(name, seeds)
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
