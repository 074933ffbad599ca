"""How fast qrjax fills a tensor, next to jax.random, SciPy, Torch and NumPy; and which speed targets hold.

    python tests/bench/sampling.py [--json PATH] [--markdown] [--size 4096] [--repeats 15] [--cpu-time]

Every row makes size * size values, float32 but for SciPy, whose points are float64. The rows run in one
process, once a round, in an order drawn anew for each round, so that no row is always behind the same
neighbour and all share what else the machine does; the times are medians over the rounds. JAX's rows
are compiled beforehand and take the key as a run-time argument. Each result is freshly allocated, as
in use, so page faults are part of every row; "writing the array" is what they cost alone. Torch's row
appears where Torch is installed.

On a machine with other work to do, --cpu-time counts processor seconds of all threads instead of the
wall clock's: the ratios then depend less on how many cores happened to be free.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import qmc

import qrjax

Shape = tuple[int, int]
LAWS = ("uniform", "normal", "truncated_normal")
WRITING, THEIRS, DEFAULT, HASH = "writing the array", "jax.random", "default (outputs)", "hash"
SEQUENCE = "sequence, plain"  # the paper's order: one dimension, no scramble
SOURCES: dict[str, dict[str, Any]] = {
    SEQUENCE: {"layout": "sequence", "dim": 3, "scramble": None},
    "sequence": {"layout": "sequence"},
    DEFAULT: {},
    "neurons": {"layout": "neurons"},
    "shuffled": {"layout": "shuffled"},
    "points": {"layout": "points"},
}
# Powers of two, a small odd factor, and neither: XLA gets different programs for them.
FRESH_SHAPES: tuple[Shape, ...] = ((640, 640), (384, 512), (300, 700))
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "torch", "qrjax")
IMPORT_RUNS = 7
IMPORT = "import time, jax; start = time.perf_counter(); import qrjax; print(time.perf_counter() - start)"


@dataclasses.dataclass
class Row:
    """One way to make an array, and what was measured of it."""

    source: str
    law: str
    draw: Callable[[jax.Array, Shape], Any]
    compiles: bool = True  # by JAX; else `draw` runs as it is, and has a state of its own instead of the key
    seconds: list[float] = dataclasses.field(default_factory=list)
    compile_seconds: list[float] = dataclasses.field(default_factory=list)
    temporaries: float = 0.0  # as a share of the output

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def compile_median(self) -> float:
        return statistics.median(self.compile_seconds)


class Target(NamedTuple):
    """A quantity that should be at least (or at most) `wanted`."""

    what: str
    measured: float
    relation: str
    wanted: float
    unit: str = "x"

    @property
    def reached(self) -> bool:
        return self.measured >= self.wanted if self.relation == ">=" else self.measured <= self.wanted


class Report(NamedTuple):
    """A table of strings, its first column left-justified."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def rows() -> list[Row]:
    ours = [ours_row(source, law) for law in LAWS for source in (*SOURCES, HASH)]
    return [Row(WRITING, "", write), *map(theirs_row, LAWS), *ours, *host_rows()]


def write(key: jax.Array, shape: Shape) -> jax.Array:
    """A value that depends on the argument, or XLA would make the array when it compiles."""
    return jnp.full(shape, jax.random.key_data(key)[-1].astype(jnp.float32))


def theirs_row(law: str) -> Row:
    def draw(key: jax.Array, shape: Shape) -> jax.Array:
        if law == "truncated_normal":
            return jax.random.truncated_normal(key, -2.0, 2.0, shape)
        return jax.random.uniform(key, shape) if law == "uniform" else jax.random.normal(key, shape)

    return Row(THEIRS, law, draw)


def ours_row(source: str, law: str) -> Row:
    builder = getattr(qrjax, f"{law}_{'hash' if source == HASH else 'qr'}")
    return Row(source, law, builder(1.0, **SOURCES.get(source, {})))


def host_rows() -> list[Row]:
    generator = np.random.Generator(np.random.PCG64(0))
    calls: list[tuple[str, str, Callable[[int], Any]]] = [
        ("scipy qmc.Sobol", "uniform", lambda n: qmc.Sobol(1, scramble=False, bits=32).random(n)),
        ("numpy PCG64", "uniform", lambda n: generator.random(n, dtype=np.float32)),
        ("numpy PCG64", "normal", lambda n: generator.standard_normal(n, dtype=np.float32)),
    ]
    if importlib.util.find_spec("torch"):
        calls.insert(1, ("torch SobolEngine", "uniform", torch_points))
    return [Row(source, law, lambda _, shape, f=f: f(math.prod(shape)), compiles=False) for source, law, f in calls]


def torch_points(n: int) -> Any:
    import torch

    return torch.quasirandom.SobolEngine(1).draw(n)


def compiled(row: Row, shape: Shape) -> jax.stages.Compiled:
    return jax.jit(lambda key: row.draw(key, shape)).lower(jax.random.key(0)).compile()


def runner(row: Row, size: int) -> Callable[[jax.Array], Any]:
    """What a row does with a key; notes the temporaries of a compiled one."""
    shape = (size, size)
    if not row.compiles:
        return lambda key: row.draw(key, shape)
    run = compiled(row, shape)
    row.temporaries = run.memory_analysis().temp_size_in_bytes / (4 * math.prod(shape))
    return run


def measure_speed(table: Sequence[Row], size: int, repeats: int, clock: Callable[[], float]) -> None:
    """Interleaved runs; the first round, which loads libraries and tables, does not count."""
    calls, order = [runner(row, size) for row in table], np.random.default_rng(0)
    for turn in range(-1, repeats):
        key = jax.block_until_ready(jax.random.key(turn + 1))
        for k in order.permutation(len(table)):
            start = clock()
            result = jax.block_until_ready(calls[k](key))
            elapsed = clock() - start
            del result  # freed before the next row starts, and off the clock
            if turn >= 0:
                table[k].seconds.append(elapsed)


def measure_compilation(table: Sequence[Row], clock: Callable[[], float]) -> None:
    """Lowering and compiling, after `measure_speed` has traced each row once: only the shapes are new."""
    order = np.random.default_rng(1)
    for shape in FRESH_SHAPES:
        for k in order.permutation(len(table)):
            if table[k].compiles:
                start = clock()
                compiled(table[k], shape)
                table[k].compile_seconds.append(clock() - start)


def import_seconds() -> float:
    """Of `import qrjax` after `import jax`, in fresh processes: the median."""
    command = [sys.executable, "-c", IMPORT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(IMPORT_RUNS)]
    return statistics.median(float(run.stdout) for run in runs)


def targets(table: Sequence[Row], importing: float) -> list[Target]:
    by_name = {(row.source, row.law): row for row in table}
    writing = by_name[WRITING, ""].median

    def speed(source: str, law: str, wanted: float) -> Target:
        ratio = by_name[THEIRS, law].median / by_name[source, law].median
        return Target(f"{law.replace('_', ' ')}, {source}: speed over jax.random's", ratio, ">=", wanted)

    sequence = by_name[SEQUENCE, "uniform"].median
    ours = [row for row in table if row.compiles and row.source not in (WRITING, THEIRS)]
    memory = 100 * max(row.temporaries for row in ours)
    slowest = max(ours, key=lambda row: compile_ratio(row, by_name))
    return [
        speed(SEQUENCE, "uniform", 10),
        Target(f"uniform, {SEQUENCE}: speed over writing the array", writing / sequence, ">=", 0.7),
        speed(SEQUENCE, "truncated_normal", 4),
        speed(SEQUENCE, "normal", 2.5),
        speed(DEFAULT, "uniform", 5),
        speed(DEFAULT, "truncated_normal", 3),
        speed(HASH, "uniform", 4),
        speed(HASH, "truncated_normal", 2.5),
        Target("largest temporaries, in shares of the output", memory, "<=", 5, "%"),
        Target(
            f"longest compilation over jax.random's ({slowest.law.replace('_', ' ')}, {slowest.source})",
            compile_ratio(slowest, by_name), "<=", 1,
        ),
        Target("import qrjax after import jax", 1000 * importing, "<=", 60, "ms"),
    ]  # fmt: skip


def compile_ratio(row: Row, by_name: dict[tuple[str, str], Row]) -> float:
    return row.compile_median / by_name[THEIRS, row.law].compile_median


def speed_report(table: Sequence[Row], size: int, timer: str) -> Report:
    by_name = {(row.source, row.law): row for row in table}
    columns = ("values", "source", "ms", "values/s", "x jax.random", "x writing", "temporaries", "compile s", "x jax's")
    lines = [line(row, by_name, size * size) for row in table]
    return Report(f"{size} x {size} values, {timer}, medians of {len(table[0].seconds)} runs", columns, lines)


def line(row: Row, by_name: dict[tuple[str, str], Row], count: int) -> list[str]:
    writing, theirs = by_name[WRITING, ""], by_name.get((THEIRS, row.law))
    return [
        row.law.replace("_", " "),
        row.source,
        f"{1000 * row.median:.1f}",
        f"{count / row.median:.2g}",
        f"{theirs.median / row.median:.2f}" if theirs else "",
        f"{writing.median / row.median:.2f}",
        f"{100 * row.temporaries:.2f} %" if row.compiles else "",
        f"{row.compile_median:.3f}" if row.compiles else "",
        f"{row.compile_median / theirs.compile_median:.2f}" if row.compiles and theirs else "",
    ]


def target_report(found: Sequence[Target]) -> Report:
    lines = [
        [t.what, f"{t.measured:.2f} {t.unit}", f"{t.relation} {t.wanted:g} {t.unit}", "yes" if t.reached else "no"]
        for t in found
    ]
    return Report("Targets", ("target", "measured", "wanted", "reached"), lines)


def environment() -> dict[str, str]:
    """The machine and what else it is doing, the versions and the date: figures are worth nothing without."""
    found = {"processor": processor(), "cores": str(cores()), "system": platform.system()}
    found |= {"load average": f"{os.getloadavg()[0]:.1f}", "backend": jax.default_backend()}
    found |= {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return found | {"date": datetime.date.today().isoformat()}


def cores() -> int:
    """Those this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def version(package: str) -> str:
    if package == qrjax.__name__:  # what is imported may be newer than what is installed
        return qrjax.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def show(reports: Sequence[Report], facts: dict[str, str], markdown: bool) -> None:
    """The tables, and below them the facts, on standard output."""
    printed = [f"{name} {value}" for name, value in facts.items()]
    if markdown:
        print("\n\n".join([*map(as_markdown, reports), f"From `{command()}`: {'; '.join(printed)}."]))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    for report in reports:
        console.print(as_rich(report))
    console.print("; ".join(printed) + ".", highlight=False)


def command() -> str:
    """What was typed, for a page of the book, which includes what it printed."""
    return shlex.join(["python", f"tests/bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def as_markdown(report: Report) -> str:
    rule = ["---", *["---:"] * (len(report.columns) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (report.columns, rule, *report.rows)]
    return "\n".join([f"**{report.title}**", "", *lines])


def as_rich(report: Report) -> Table:
    table = Table(title=report.title, box=box.SIMPLE_HEAD)
    for k, column in enumerate(report.columns):
        table.add_column(column, justify="right" if k else "left")
    for cells in report.rows:
        table.add_row(*cells)
    return table


def as_json(table: Sequence[Row], found: Sequence[Target], facts: dict[str, str], timer: str) -> str:
    records = [
        {
            "law": row.law,
            "source": row.source,
            "median_seconds": row.median,
            "seconds": row.seconds,
            "temporaries_over_output": row.temporaries,
            "compile_seconds": row.compile_seconds,
        }
        for row in table
    ]
    reached = [{**target._asdict(), "reached": target.reached} for target in found]
    content = {"environment": facts, "clock": timer, "fresh_shapes": FRESH_SHAPES, "rows": records, "targets": reached}
    return json.dumps(content, indent=1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the array")
    parser.add_argument("--repeats", type=int, default=15, help="rounds, one run of every row each")
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds of all threads, not wall clock")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    timer = "processor time of all threads" if options.cpu_time else "wall-clock time"
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
    clock = time.process_time if options.cpu_time else time.perf_counter
    facts, table = environment(), rows()
    measure_speed(table, options.size, options.repeats, clock)
    measure_compilation(table, clock)
    found = targets(table, import_seconds())
    if options.json:
        options.json.write_text(as_json(table, found, facts, timer) + "\n")
    show([speed_report(table, options.size, timer), target_report(found)], facts, options.markdown)


if __name__ == "__main__":
    main()
