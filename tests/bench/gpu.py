"""What qrjax does on a GPU: the committed bits, speed next to jax.random and cuRAND, whole models, autoinit, the tests.

    python tests/bench/gpu.py [--minutes 9] [--markdown] [--part digests ...] [--size 16384] [--repeats 15]
    python tests/bench/gpu.py --platform cpu --size 256 --repeats 2 --model small --tests tests/words   # tries it out

Needs a GPU and jax with its plugin, such as `pip install "jax[cuda12]"`, and what the tests need (extra test); cuRAND's
rows appear where CuPy is installed. Each table is printed when it is done, what is being compiled on standard error.
After --minutes nothing more is begun; each part may take its share of them, and what was left out for lack of time
stands at the end, after a table that says which targets are reached.

speed: size * size float32 values. Each row is compiled beforehand, takes its key at run time, and is called several
times in a row before the clock is read, so that starting a program costs next to nothing; the rows run in every round
in an order drawn anew, and times are medians over the rounds. "filling the array" is the card's own pace. cuRAND makes
its scrambled Sobol' sequence of one dimension, its default, into memory that is there already.
model: `module.init` of a decoder in bfloat16, jitted: tracing, compiling, and drawing, the median. Its 7 billion
weights are the sizes of LLaMA 7B; its layers are scanned.
unrolled: the same of a decoder of GPT-2's sizes whose layers are not, for the compiler's time.
autoinit: of that decoder: tracing and walking, compiling what draws, drawing; how many of its arrays have the bits
that a CPU gives them; and how far measured second moments are from those predicted, in octaves.
digests: every case of tests/initializers/members.py, against tests/initializers/digests.json.
tests: the default tests on the card, in processes of their own, in the time that is left; first the files of those
that failed when they ran on a card last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from gpu_clock import PARTS, Clock
from gpu_models import MODELS, WEIGHTS, Drawn, Initialized, draw_model, run_autoinit
from gpu_rows import CURAND, FILLING, OURS, RBG, THREEFRY, Row, fill_share, measure, rows
from sampling import DEFAULT, HASH, SEQUENCE, Report, Target, environment, show, target_report, version

import qrjax

sys.path.insert(0, str(Path(__file__).parents[1]))
from initializers.members import digests

COMMITTED = Path(__file__).parents[1] / "initializers" / "digests.json"
CHUNKS = 24  # of the cases of digests
FLAX = "Flax's own"
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "jax-rocm7-plugin", "cupy-cuda12x", "cupy-cuda13x")
DRAWING_SECONDS = 3.0  # of the model, at most
# What we aim for. Of the card's own pace; times as fast as threefry; of Flax's own time to compile.
FILL_SHARE, FILLERS = 0.9, (SEQUENCE, HASH)
FASTER = {"uniform": 1.5, "truncated_normal": 1.3, "normal": 1.0}
UNIFORM = ("sequence", DEFAULT, "neurons", "shuffled")
TEMPORARIES, COMPILING = 5, 0.5
ROOT = Path(__file__).parents[2]
ONCE_FAILED = (  # on 2026-11-28
    "tests/initializers/test_zero_mean.py", "tests/initializers/test_compilation.py", "tests/tracking/test_prune.py",
    "tests/tracking/test_training_loops.py", "tests/records/test_record_init.py", "tests/scale/test_gpu.py",
)  # fmt: skip


def device_of(platform: str) -> jax.Device | None:
    """The first device of a platform, "gpu" or "cpu"; None where there is none."""
    try:
        return jax.devices(platform)[0]
    except RuntimeError:  # how jax says that it knows of no such platform
        return None


def wrong_digests(device: jax.Device, every: int = 1, first: int = 0) -> dict[str, str]:
    """The cases whose bits are not the committed ones."""
    return {name: value for name, value in drawn_digests(device, every, first).items() if committed()[name] != value}


def drawn_digests(device: jax.Device, every: int = 1, first: int = 0) -> dict[str, str]:
    with jax.default_device(device):
        return digests(every, first=first)


def committed() -> dict[str, str]:
    found: dict[str, str] = json.loads(COMMITTED.read_text())
    return found


def speed_report(table: Sequence[Row], size: int) -> Report:
    by_name = {(row.source, row.law): row for row in table}
    columns = ("values", "source", "ms", "values/s", "GB/s", "x filling", "x threefry", "x rbg", "x cuRAND",
               "kernels", "temporaries")  # fmt: skip
    lines = []
    for row in table:
        others = [by_name.get(key) for key in ((FILLING, ""), *((s, row.law) for s in (THREEFRY, RBG, CURAND)))]
        ratios = [f"{other.median / row.median:.2f}" if other else "" for other in others]
        cells = (f"{1000 * row.median:.3f}", f"{size**2 / row.median:.2g}", f"{4 * size**2 / row.median / 1e9:.0f}")
        program = (str(row.kernels), f"{100 * row.temporaries:.2f} %") if row.kernels else ("", "")
        lines.append([row.law.replace("_", " "), row.source, *cells, *ratios, *program])
    return Report(f"{size} x {size} float32 values, medians of {len(table[0].seconds)} rounds", columns, lines)


def model_report(model: str, found: Sequence[Drawn], scanned: bool) -> Report:
    columns = ("weights", "parameters", "GB", "temporaries", "trace s", "compile s", "draw s", "GB/s")
    lines = [
        [
            d.source, f"{d.parameters / 1e9:.2f} G", f"{d.size / 1e9:.2f}", f"{100 * d.temporaries / d.size:.2f} %",
            f"{d.trace_seconds:.2f}", f"{d.compile_seconds:.2f}", f"{d.seconds:.3f}", f"{d.size / d.seconds / 1e9:.0f}",
        ]
        for d in found
    ]  # fmt: skip
    how = "in bfloat16, scanned" if scanned else "in float32, unrolled"
    return Report(f"{model} {how}, `jax.jit(module.init)`", columns, lines)


def autoinit_report(model: str, found: Initialized) -> Report:
    columns = ("network", "parameters", "walk s", "compile s", "draw s", "bits as on a CPU", "octaves off")
    cells = [f"{seconds:.3f}" for seconds in found[1:4]]
    equal = f"{found.equal} of {found.arrays} arrays"
    line = [model, f"{found.parameters / 1e6:.0f} M", *cells, equal, f"{found.octaves:.2f}"]
    return Report("autoinit, from tracing to weights", columns, [line])


def facts(device: jax.Device) -> dict[str, str]:
    """The card and its driver before everything else."""
    card = {"card": device.device_kind, "platform": device.client.platform_version.replace("\n", " ")}
    driver = {"driver": driver_version()} if device.platform == "gpu" else {}
    plugins = {name: version(name) for name in PLUGINS if version(name) != "not installed"}
    return card | driver | environment() | plugins


def driver_version() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return done.stdout.split("\n")[0]


def speed_targets(table: Sequence[Row]) -> list[Target]:
    by_name = {(row.source, row.law): row for row in table}
    ours = [row for row in table if row.source in OURS]
    found = [
        Target(f"uniform, {s}: pace over filling the array", fill_share(table, s), ">=", FILL_SHARE)
        for s in FILLERS if {(FILLING, ""), (s, "uniform")} <= by_name.keys()
    ]  # fmt: skip
    for row in ours:
        theirs, named = by_name.get((THREEFRY, row.law)), row.law != "uniform" or row.source in UNIFORM
        if theirs and named:
            what = f"{row.law.replace('_', ' ')}, {row.source}: pace over threefry's"
            found.append(Target(what, theirs.median / row.median, ">=", FASTER[row.law]))
    if ours:
        largest = 100 * max(row.temporaries for row in ours)
        found.append(Target("largest temporaries, of the array", largest, "<=", TEMPORARIES, "%"))
    return found


def model_targets(scanned: Sequence[Drawn], unrolled: Sequence[Drawn], automatic: Initialized | None) -> list[Target]:
    found = [
        Target(f"drawing the model, {drawn.source}", drawn.seconds, "<=", DRAWING_SECONDS, "s")
        for drawn in scanned if drawn.source != FLAX
    ]  # fmt: skip
    compiling = {drawn.source: drawn.compile_seconds for drawn in unrolled}
    theirs = compiling.pop(FLAX, None)
    if automatic:
        found.append(Target("autoinit: arrays as on a CPU", automatic.equal, ">=", automatic.arrays, ""))
        compiling["autoinit"] = automatic.compile_seconds
    what = "compiling GPT-2's sizes unrolled, {}: over Flax's own"
    return found + [Target(what.format(s), n / theirs, "<=", COMPILING) for s, n in compiling.items() if theirs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--minutes", type=float, default=9.0, help="how long to begin something new")
    parser.add_argument("--part", action="append", choices=PARTS, help="what to do; all of it by default")
    parser.add_argument("--platform", default="gpu", choices=("gpu", "cpu"), help="what it runs on")
    parser.add_argument("--size", type=int, default=16384, help="rows and columns of the array")
    parser.add_argument("--repeats", type=int, default=15, help="rounds, one run of every row each")
    parser.add_argument("--model", choices=MODELS, help="of all parts with models, instead of decoder_7b and gpt2")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="instead of all")
    options = parser.parse_args()
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
    device = device_of(options.platform)
    if device is None:
        raise SystemExit(f"gpu.py: jax {jax.__version__} finds no {options.platform} on this machine; see its --help")
    clock = Clock(60 * options.minutes)
    known = facts(device)
    for report in run(options, device, clock):
        show([report], known, options.markdown)
        sys.stdout.flush()
        known = {"seconds since the start": f"{time.monotonic() - clock.begun:.0f}"}


def run(options: argparse.Namespace, device: jax.Device, clock: Clock) -> Iterator[Report]:
    """The reports, each as soon as there is one."""
    parts, targets, large, small = options.part or PARTS, list[Target](), options.model, options.model or "gpt2"
    if "speed" in parts:
        table = rows(device, options.size, clock=clock)
        measure(table, options.repeats, clock=clock)
        if table:
            yield speed_report(table, options.size)
            targets += speed_targets(table)
    found: dict[str, list[Drawn]] = {"model": [], "unrolled": []}
    for part, name in (("model", large or "decoder_7b"), ("unrolled", small)):
        if part in parts:
            found[part] += drawn_models(part, name, device, clock)
            if found[part]:
                yield model_report(name, found[part], part == "model")
    automatic = None
    if "autoinit" in parts and clock.allows("autoinit", small):
        automatic = run_autoinit(small, device)
        yield autoinit_report(small, automatic)
    targets += model_targets(found["model"], found["unrolled"], automatic)
    if "digests" in parts:
        yield digest_report(device, clock)
    if "tests" in parts and clock.allows("tests", "pytest"):
        yield tests_report(options.tests or [*ONCE_FAILED, "tests"], clock.left)
    if targets:
        yield target_report(targets)
    if clock.left_out:
        yield Report("Left out for lack of time", ("part and what",), [[what] for what in clock.left_out])


def drawn_models(part: str, model: str, device: jax.Device, clock: Clock) -> list[Drawn]:
    return [
        draw_model(model, source, device, part == "model")
        for source in WEIGHTS if clock.allows(part, f"{model}, {source}")
    ]  # fmt: skip


def tests_report(paths: Sequence[str], seconds: float) -> Report:
    """What pytest says of each test, one by one, as there may be no time for its last words."""
    command = [sys.executable, "-m", "pytest", "-v", "-n", str(min(8, os.cpu_count() or 1)), *paths]
    # This process holds most of the card's memory already.
    settings = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    limit, ended = (seconds if math.isfinite(seconds) else None), "all of them"
    try:
        printed = subprocess.run(
            command, capture_output=True, cwd=ROOT, env=settings, timeout=limit, check=False
        ).stdout
    except subprocess.TimeoutExpired as late:
        printed, ended = late.stdout or b"", f"those that {seconds:.0f} s sufficed for"
    # A name may hold blanks; among the last words it stands once more, and why.
    said = set(re.findall(r"^\[.*\] (PASSED|FAILED|ERROR) (.*\S)", printed.decode(), re.MULTILINE))
    counts = ", ".join(f"{sum(w == word for w, _ in said)} {word.lower()}" for word in ("PASSED", "FAILED", "ERROR"))
    bad = sorted(name for word, name in said if word != "PASSED")
    return Report("The default tests", ("", "tests"), [[ended, counts], *(["not passed", name] for name in bad)])


def digest_report(device: jax.Device, clock: Clock) -> Report:
    right, drawn = committed(), dict[str, str]()
    for first in range(CHUNKS):
        if clock.allows("digests", f"part {first + 1} of {CHUNKS}"):
            drawn |= drawn_digests(device, CHUNKS, first)
    wrong = [name for name, value in drawn.items() if right[name] != value]
    lines = [["the same bits as committed", f"{len(drawn) - len(wrong)} of {len(drawn)} drawn, {len(right)} in all"]]
    return Report("Every builder, layout and dtype", ("", "cases"), lines + [["other bits", name] for name in wrong])


if __name__ == "__main__":
    main()
