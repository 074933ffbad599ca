"""AutoInit's accuracy and speed on the zoo: tables of the book.

    python tests/bench/autoinit.py [--markdown] [--seeds 8] [--only accuracy] [names ...]

Accuracy: for every network, weights for 8 seeds, each on a batch of its own; log2 of the measured over the predicted
second moment at every weight's output and every module's output; its standard deviation over the seeds ("luck", the
median over rows), which no prediction can foresee; the second moment of the network's own output, its mean over the
seeds; and after calibration the largest deviation of a weight's output, but of recurrent ones', from the target.
Beside it the same with the correlations along axes switched off, as AutoInit's authors have it.
Speed: processor seconds to trace, to walk for the first time in a process, with the laws of the initial values, and the
least of three later walks.
"""

import argparse
import functools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from sampling import Report, environment, show, version

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from zoo import HUGE, LARGE, NETWORKS

from qrjax._autoinit._analyze import gains_of, input_values, model_of, walked
from qrjax._autoinit._initialize import drawn
from qrjax._autoinit._measure import _filled, calibrated
from qrjax._autoinit._plan import Draw, plans
from qrjax._autoinit._targets import Aim
from qrjax._interpreter._products import KEEPS
from qrjax._interpreter._replay import Replay

DRAW = Draw("truncated_normal", "sobol", "outputs")


def everything(_):
    """Every weight is touched."""
    return True


def traced(network):
    return model_of(network.build(), network.inputs(0), dict(network.kwargs), rngs=network.rngs or None)


def run(model, places, flat, seed, inputs, made=None):
    key = jax.random.key(seed)
    outputs, moments = places(flat, [key] * model.keys, inputs)
    if made is not None:
        made.append([float(square) for square in outputs])
    return {place: np.asarray(m, np.float64) for place, m in moments.items()}


def squares(outputs):
    """The second moments of those that are real numbers."""
    wide = (y.astype(jnp.float32) for y in outputs if jnp.issubdtype(y.dtype, jnp.floating))
    return [jnp.mean(jnp.square(y)) for y in wide]


def measured_rows(model, walk, report, seeds, network, made=None):
    """For each seed the rows with what was measured, and a function of variables, seed and inputs that measures.

    To `made` are added, for each seed, the second moments of what the program returns.
    """
    entries = walk.ledger.entries
    replay = Replay(frozenset(site[0] for site in entries), {}, walk.ledger.masked())

    @jax.jit
    def places(flat, keys, inputs):
        outputs, moments = replay.run(model.program, [*flat, *keys, *inputs])
        return squares(outputs), moments

    result = []
    planned = plans(model, walk, everything, DRAW)
    for seed in range(seeds):
        flat = drawn(model, planned, jax.random.key(seed))
        inputs = [leaf for leaf in jax.tree.leaves(network.inputs(seed)) if hasattr(leaf, "dtype")]
        moments = run(model, places, flat, seed, inputs, made)
        result.append([_filled(row, entries[row.site], moments) for row in report])
    return result, functools.partial(run, model, places)


def study(network, seeds, correlated):
    model = traced(network)
    walk, report = walked(
        model, input_values(model, None, None), gains_of(model, 1.0, None), Aim(1.0, 1.0), correlated=correlated
    )
    rows, again = measured_rows(model, walk, report, seeds, network)
    octaves = np.array([[row.octaves for row in one if row.octaves is not None] for one in rows])
    found = {
        "rows": octaves.shape[1],
        "median": float(np.median(np.abs(octaves))),
        "p90": float(np.quantile(np.abs(octaves), 0.9)),
        "luck": float(np.median(octaves.std(0))),
        "output": float(np.mean([one[-1].measured_second_moment / report[-1].second_moment for one in rows])),
        "amplifies": any("variance map" in finding for finding in report.findings),
    }
    if correlated:
        flat = drawn(model, plans(model, walk, everything, DRAW), jax.random.key(0))
        flat = calibrated(model, flat, 1.0, everything, jax.random.key(0))
        moments = again(flat, 0, list(model.inputs))
        after = [_filled(row, walk.ledger.entries[row.site], moments) for row in report.weights]
        found["calibrated"] = max(abs(row.measured_second_moment - 1) for row in after if KEEPS not in row.notes)
    return found


def accuracy_report(names, seeds):
    columns = ("network", "rows", "median", "90th", "luck", "output", "calibrated")
    title = f"Octaves between measured and predicted second moments, {seeds} seeds"
    return Report(title, (*columns, "independent: median", "90th", "output"), [accuracy(n, seeds) for n in names])


def accuracy(name, seeds):
    ours, plain = (study(NETWORKS[name], seeds, correlated) for correlated in (True, False))
    return [
        name + " (announced)" * ours["amplifies"],
        str(ours["rows"]),
        *(f"{ours[figure]:.2f}" for figure in ("median", "p90", "luck", "output")),
        f"{ours['calibrated']:.0e}",
        f"{plain['median']:.2f}",
        f"{plain['p90']:.2f}",
        f"{plain['output']:.3g}",
    ]


def timing(network):
    started = time.process_time()
    model = traced(network)
    trace = time.process_time() - started
    walks = []
    for _ in range(4):
        started = time.process_time()
        walked(model, input_values(model, None, None), gains_of(model, 1.0, None), Aim(1.0, 1.0))
        walks.append(time.process_time() - started)
    equations = sum(1 for _ in model.program.jaxpr.eqns)
    parameters = sum(int(np.prod(leaf.shape)) for leaf in model.leaves if leaf.trained)
    return parameters, equations, trace, walks[0], min(walks[1:])


def speed_report(networks):
    lines = [
        [name, f"{parameters / 1e6:,.1f} M", str(equations), f"{trace:.2f}", f"{first:.2f}", f"{walk:.2f}"]
        for name, (parameters, equations, trace, first, walk) in ((name, timing(one)) for name, one in networks.items())
    ]
    columns = ("network", "parameters", "equations at top level", "trace s", "first walk s", "walk s")
    return Report("Tracing and walking", columns, lines)


def main():
    everyone = {**NETWORKS, **LARGE, HUGE.name: HUGE}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="networks of the zoo; all by default")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--seeds", type=int, default=8, help="of weights and batches")
    parser.add_argument("--only", choices=["accuracy", "speed"], help="one of the tables")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in everyone]:
        parser.error(f"no network {unknown[0]!r} in the zoo; there are {', '.join(everyone)}")
    facts, names = environment() | {"flax": version("flax")}, options.names or list(everyone)
    reports = []
    if options.only != "speed":
        reports.append(accuracy_report([name for name in names if name in NETWORKS], options.seeds))
    if options.only != "accuracy":
        reports.append(speed_report({name: everyone[name] for name in names}))
    show(reports, facts, options.markdown)


if __name__ == "__main__":
    main()
