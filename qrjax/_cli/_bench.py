"""`qrjax bench`: how fast this machine draws weights."""

from __future__ import annotations

import dataclasses
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

import qrjax
from qrjax._cli._arguments import WholeNumber, examples
from qrjax._cli._machine import machine
from qrjax._cli._screen import Screen, print_json

if TYPE_CHECKING:
    import jax

LAWS = ("uniform", "normal", "truncated_normal")
THEIRS, HASH = "jax.random", "hash"
SOBOL: dict[str, dict[str, Any]] = {
    "outputs (default)": {},
    "sequence (plain)": {"layout": "sequence", "dim": 1, "scramble": None},
}
SOURCES = (THEIRS, *SOBOL, HASH)
LEGEND = (
    "Milliseconds are medians of {repeats} rounds, each of which runs all rows in a new order; programs are compiled "
    "beforehand. sequence (plain) is the flat tensor in the order of one Sobol' dimension, fit to reproduce, not to "
    "train. The ratio is jax.random's time over the row's: above 1 is faster."
)


@dataclasses.dataclass
class Row:
    """One way to make an array, its compiled program and the seconds of its runs."""

    law: str
    source: str
    program: jax.stages.Compiled
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@click.command(
    epilog=examples(
        "qrjax bench",
        "qrjax bench --size 4096 --repeats 21",
        "qrjax bench --json > bench.json",
    )
)
@click.option(
    "--size", metavar="N", type=WholeNumber(1, 2**14, "--size 2048"), default=2048,
    help="Rows and columns of the float32 matrix.",
)  # fmt: skip
@click.option("--repeats", metavar="N", type=WholeNumber(1, 1000, "--repeats 11"), default=11, help="Rounds to time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(size: int, repeats: int, as_json: bool) -> None:
    """Measure how fast this machine draws weights.

    Draws matrices of uniform, normal and truncated normal values with jax.random, with the default layout, with the
    plain Sobol' sequence and with the hash.
    """
    output = Screen(as_json)
    facts = machine()  # before it is busy with this
    with output.progress(("compiling", "measuring"), len(LAWS) * len(SOURCES)) as advance:
        rows: list[Row] = []
        for law in LAWS:
            for source in SOURCES:
                advance("compiling", len(rows), f"{law.replace('_', ' ')}, {source}")
                rows.append(Row(law, source, _compiled(law, source, size)))
        advance("compiling", len(rows), "")
        for turn in range(-1, repeats):  # the first round, which loads what the others find loaded, does not count
            advance("measuring", (turn + 1) * len(rows) // (repeats + 1), f"round {turn + 1} of {repeats}")
            _run(rows, turn)
    results = [_result(row, rows, size) for row in rows]
    if as_json:
        print_json({"size": size, "repeats": repeats, "rows": results, "machine": facts})
    else:
        _show(results, size, repeats, facts, output)


def _compiled(law: str, source: str, size: int) -> jax.stages.Compiled:
    import jax

    def draw(key: jax.Array) -> jax.Array:
        if source == HASH:
            return getattr(qrjax, f"{law}_hash")(1.0)(key, (size, size))
        if source != THEIRS:
            return getattr(qrjax, f"{law}_qr")(1.0, **SOBOL[source])(key, (size, size))
        bounds = (-2.0, 2.0) if law == "truncated_normal" else ()
        return getattr(jax.random, law)(key, *bounds, shape=(size, size))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
        return jax.jit(draw).lower(jax.random.key(0)).compile()


def _run(rows: Sequence[Row], turn: int) -> None:
    """One run of every row, in an order of this round's own, so that no row always has the same neighbour."""
    import jax
    import numpy as np

    key = jax.block_until_ready(jax.random.key(turn + 1))
    for k in np.random.default_rng(turn + 1).permutation(len(rows)):
        start = time.perf_counter()
        weights = jax.block_until_ready(rows[k].program(key))
        elapsed = time.perf_counter() - start
        del weights  # freed before the next row starts, and off the clock
        if turn >= 0:
            rows[k].seconds.append(elapsed)


def _result(row: Row, rows: Sequence[Row], size: int) -> dict[str, Any]:
    (theirs,) = (other for other in rows if (other.law, other.source) == (row.law, THEIRS))
    return {
        "values": row.law,
        "source": row.source,
        "milliseconds": 1000 * row.median,
        "values_per_second": size * size / row.median,
        "relative_speed": theirs.median / row.median,
    }


def _show(results: Sequence[dict[str, Any]], size: int, repeats: int, facts: dict[str, str], output: Screen) -> None:
    output.line(f"{size} x {size} float32 values, {4 * size * size:,} bytes")
    rows = [
        (
            row["values"].replace("_", " "),
            row["source"],
            f"{row['milliseconds']:.2f}",
            f"{row['values_per_second']:.2g}",
            f"{row['relative_speed']:.2f}",
        )
        for row in results
    ]
    output.table(("values", "source", "ms", "values/s", f"x {THEIRS}"), rows, left={0, 1})
    output.text(LEGEND.format(repeats=repeats))
    output.gap()
    output.text("; ".join(f"{name} {value}" for name, value in facts.items()) + ".")
