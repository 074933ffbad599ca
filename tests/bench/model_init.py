"""What it costs to initialize whole models: Flax's own way, with qrjax's builders, and by autoinit.

    python tests/bench/model_init.py [--markdown] [--rounds 3] [--models GPT-2 ...] [--kinds qr ...] [--cpu-time]

Each figure comes from a fresh process, several for each model and kind: one jits key -> variables (trace, with
lowering; compile; the first run, which takes its memory from the system, as who initializes one model does; "weights",
the sum of these three, for which a person waits; run, the median of three more; temporaries by the compiler's account;
peak resident memory), and one calls it eagerly, as most users do. "Again" are second processes, where JAX's persistent
cache of compiled programs (jax_compilation_cache_dir) holds all that a first one has compiled: the sum once more, the
eager call, and a record's weights (qrjax.record, of what autoinit draws) from its file. Kinds take turns; ratios are
those of one round to Flax in the same round, medians over the rounds: of second processes to Flax's first one, and the
record's to Flax's "weights". So is autoinit's sum to that of module.init with the same layout.

What Python makes of the package's source is on the disk beforehand, as after an installation.

--cpu-time counts processor seconds of all threads instead of the wall clock's, for machines with other work to do.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from sampling import Report, environment, show
from whole_models import KINDS, MODELS, initialization, record

import qrjax

BASE, OURS, AUTOINIT = "Flax", "qr", "autoinit"
SECONDS = {
    "trace": "trace", "compile": "compile", "first": "first run", "weights": "weights", "run": "run", "eager": "eager",
    "weights again": "again", "eager again": "eager again", "record again": "record again",
}  # fmt: skip
FIRST_CALLS = {"weights again": "weights", "eager again": "eager", "record again": "weights"}  # Flax's, for the ratios
MEGABYTES = ("temporaries", "resident", "output")
Figures = dict[str, float]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall-clock": time.perf_counter, "processor": time.process_time}


def jitted(init: Any, clock: Clock) -> Figures:
    key = jax.random.key(0)
    times = [clock()]
    lowered = jax.jit(init).trace(key).lower()
    times.append(clock())
    compiled = lowered.compile()
    times.append(clock())
    runs = []
    for _ in range(4):
        begun = clock()
        jax.block_until_ready(compiled(key))
        runs.append(clock() - begun)
    memory = compiled.memory_analysis()
    return {
        "trace": times[1] - times[0],
        "compile": times[2] - times[1],
        "first": runs[0],
        "weights": times[2] - times[0] + runs[0],
        "run": statistics.median(runs[1:]),
        "temporaries": memory.temp_size_in_bytes / 1e6,
        "output": memory.output_size_in_bytes / 1e6,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def eager(init: Any, clock: Clock) -> Figures:
    key = jax.block_until_ready(jax.random.key(0))
    begun = clock()
    jax.block_until_ready(init(key))
    return {"eager": clock() - begun}


def recorded(file: Path, clock: Clock) -> Figures:
    begun = clock()
    jax.block_until_ready(qrjax.Record.load(file).initial())
    return {"record": clock() - begun}


def all_figures(model: str, kind: str, timer: str) -> Figures:
    ways = ["jitted", "eager"]
    found = {k: v for way in ways for k, v in in_a_fresh_process(model, kind, way, timer).items()}
    with tempfile.TemporaryDirectory() as cache:
        settings = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for way in [*ways, *["recorded"] * (kind == AUTOINIT)]:
            for _ in range(2):  # the first one fills it
                again = in_a_fresh_process(model, kind, way, timer, settings)
            found |= {f"{name} again": value for name, value in again.items() if f"{name} again" in SECONDS}
    return found


def in_a_fresh_process(
    model: str, kind: str, way: str, timer: str, settings: Mapping[str, str] | None = None
) -> Figures:
    command = [sys.executable, __file__, "--one", model, kind, way, timer]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | dict(settings or {}))
    if ran.returncode:
        raise RuntimeError(f"{model}, {kind}, {way} failed:\n{ran.stderr}")
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def measured(model: str, kinds: Sequence[str], rounds: int, timer: str) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS if kind == BASE or kind in kinds}
    for _ in range(rounds):
        for kind in found:
            found[kind].append(all_figures(model, kind, timer))
    return found


def median_of(figures: list[Figures], name: str) -> float:
    return statistics.median(f[name] for f in figures)


def ratio(figures: list[Figures], base: list[Figures], name: str) -> float:
    """To Flax; of second processes, to its first one."""
    theirs = FIRST_CALLS.get(name, name)
    return statistics.median(f[name] / b[theirs] for f, b in zip(figures, base, strict=True))


def seconds(figures: list[Figures], base: list[Figures], name: str) -> str:
    if name not in figures[0]:
        return ""
    return f"{median_of(figures, name):.2f} ({ratio(figures, base, name):.2f})"


def table(model: str, found: dict[str, list[Figures]], timer: str) -> Report:
    rows = []
    for kind, figures in found.items():
        cells = [seconds(figures, found[BASE], name) for name in SECONDS]
        temporaries = median_of(figures, "temporaries")
        cells.append(f"{temporaries:.1f} ({temporaries / median_of(found[BASE], 'temporaries'):.4f})")
        cells.append(f"{median_of(figures, 'resident'):.0f}")
        rows.append([kind, *cells])
    size = median_of(found[BASE], "output")
    title = f"{model}, {timer} time: {size:.0f} MB of variables"
    if {AUTOINIT, OURS} <= found.keys():
        title += f"; autoinit in total {ratio(found[AUTOINIT], found[OURS], 'weights'):.2f} x module.init with {OURS}"
    columns = ["", *(f"{n} s (x {BASE})" for n in SECONDS.values()), f"temporaries MB (x {BASE})", "resident MB"]
    return Report(title, columns, rows)


def one(model: str, kind: str, way: str, clock: Clock) -> Figures:
    if way != "recorded":
        return {"jitted": jitted, "eager": eager}[way](initialization(model, kind), clock)
    file = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / "record.json"
    if not file.exists():
        record(model).save(file)
    return recorded(file, clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--rounds", type=int, default=3, help="how often each model and kind is measured")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL",
        help=f"of {'; '.join(MODELS)}; all by default",
    )  # fmt: skip
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help=f"of {'; '.join(KINDS)}; all by default, and {BASE} always",
    )  # fmt: skip
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds of all threads, not wall clock")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        model, kind, way, timer = arguments.one
        print(json.dumps(one(model, kind, way, CLOCKS[timer])))
        return
    compileall.compile_dir(str(Path(qrjax.__file__).parent), quiet=1)
    timer = "processor" if arguments.cpu_time else "wall-clock"
    reports = [
        table(model, measured(model, arguments.kinds, arguments.rounds, timer), timer) for model in arguments.models
    ]
    show(reports, environment(), arguments.markdown)


if __name__ == "__main__":
    main()
