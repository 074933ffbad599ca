"""How long `qrjax.changes` takes, next to the same sums over two stored arrays; and its memory.

    python tests/bench/tracking.py [--markdown] [--size 8192] [--rounds 7] [--cpu-time]

One leaf of size * size float32 weights, all of them moved a little. Three ways to the same figures, one
after the other in every round of one process, in an order drawn anew, so that all share what else the
machine does; ratios are medians over the rounds of the ratios within one:

changes: qrjax.changes(init_fn, params), initial weights computed in the reduction; with all that a call
costs, such as tracing init_fn.
same: qrjax.changes(initial, params), the same reduction, box by box, over the initial weights as an array.
plain: one jitted function of two arrays that takes the same eight sums and the maximum, as one would write
it in jax.numpy.

Memory: the peak of the resident set during one call in a fresh process, less what was resident before.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling import Report, environment, show

import qrjax

BUILDERS = ("uniform_hash", "he_normal_hash", "normal_hash", "he_normal_qr")
WAYS = ("changes", "same", "plain")
KEY = jax.random.key(0)
STEP = np.float32(2.0**-10)


def initial(builder: str, size: int) -> dict[str, jax.Array]:
    return {"w": getattr(qrjax, builder)()(KEY, (size, size))}


@jax.jit
def plain(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    distance = jnp.abs(b - a)
    terms = [jnp.isfinite(b), a != b, a * b < 0, distance, distance**2, a * b, a**2, b**2]
    return [*(jnp.sum(term.astype(jnp.float32)) for term in terms), jnp.max(distance)]


def ways(builder: str, size: int) -> dict[str, Callable[[], Any]]:
    init_fn = functools.partial(initial, builder, size)
    begin = init_fn()
    params = jax.block_until_ready({"w": begin["w"] + STEP})
    return {
        "changes": lambda: qrjax.changes(init_fn, params),
        "same": lambda: qrjax.changes(begin, params),
        "plain": lambda: jax.block_until_ready(plain(begin["w"], params["w"])),
    }


def seconds(builder: str, size: int, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Of every way in every round; the first, which compiles, does not count."""
    calls, order = ways(builder, size), np.random.default_rng(0)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(-1, rounds):
        for way in order.permutation(WAYS):
            start = clock()
            calls[way]()
            if turn >= 0:
                found[way].append(clock() - start)
    return found


def ratio(found: dict[str, list[float]], other: str) -> float:
    return statistics.median(a / b for a, b in zip(found["changes"], found[other], strict=True))


def peak(builder: str, size: int) -> float | None:
    """Percent of the leaf, from a process of its own; None where the system does not say."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--size", str(size), "--peak", builder]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(builder: str, size: int) -> None:
    # Another leaf is first, so that libraries are not counted.
    qrjax.changes(functools.partial(initial, builder, 512), {"w": jnp.zeros((512, 512))})
    params = {"w": jax.block_until_ready(jnp.full((size, size), STEP))}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmHWM")
    qrjax.changes(functools.partial(initial, builder, size), params)
    print(100 * (resident("VmHWM") - before) / params["w"].nbytes)


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def cells(builder: str, found: dict[str, list[float]], percent: float | None) -> list[str]:
    times = [f"{1000 * statistics.median(found[way]):.0f}" for way in WAYS]
    memory = "unknown" if percent is None else f"{percent:.1f} %"
    return [f"`{builder}`", *times, f"{ratio(found, 'same'):.2f}", f"{ratio(found, 'plain'):.2f}", memory]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the leaf")
    parser.add_argument("--rounds", type=int, default=7, help="how often each way is timed")
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds of all threads, not wall clock")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--peak", metavar="BUILDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.size)
        return
    clock, timer = (time.process_time, "processor") if options.cpu_time else (time.perf_counter, "wall-clock")
    facts, lines = environment(), []
    for builder in BUILDERS:
        found = seconds(builder, options.size, options.rounds, clock)
        lines.append(cells(builder, found, peak(builder, options.size)))
    columns = ("builder", "`changes`, ms", "stored, same code, ms", "stored, jax.numpy, ms", "ratio to same")
    title = f"`changes` of {options.size} x {options.size} float32 weights, {timer} time, {options.rounds} rounds"
    show([Report(title, (*columns, "ratio to jax.numpy", "peak extra memory"), lines)], facts, options.markdown)


if __name__ == "__main__":
    main()
