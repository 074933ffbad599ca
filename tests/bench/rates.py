"""Rates over width: what a step changes, and whether the best rate of a narrow network is that of a wide one.

    python tests/bench/rates.py coordinates [--markdown] [--journal FILE] [names ...]
    python tests/bench/rates.py transfer [--markdown] [--journal FILE] [--only FILTER ...]

coordinates: the steepest row of `qrjax.coordinate_check` on networks of ours and of others, with multipliers and with
one rate. transfer: networks trained at rates on a grid of factors of two, from weights and with rates in several ways:
Flax's own weights and one rate; those of `qrjax.autoinit` and one rate; and these with the multipliers of
`qrjax.learning_rates`, for a head of zeros or of 1, and for outputs of a second moment of 1 or 16. Of each width the
best rate is the one with the least mean loss over the seeds, and the loss is that of 512 training examples after the
last step; "!" marks a rate at an end of the grid. Data: digits as they are and with each pixel centred, MNIST-1D, and a
regression of ten standardized targets, a random network's, on inputs whose mean has half of their second moment.
`--journal` keeps what was trained, one line for each network, width and way, so that a run goes on where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rate_training import OTHERWISE, PLAIN, WAYS, Cell, trained
from sampling import Report, environment, show, version

import qrjax
from qrjax._files._journal import opened

# -- what a step changes -----------------------------------------------------------------------------------------------

WIDTHS = (64, 2048)
# One more where a layer is one matrix.
PERCEPTRONS = ("mlp", "nnx_mlp", "equinox")
# What grows is the number of blocks.
DEEPER = ("residual", "residual_free", "deep_transformer", "deep_gpt2")
DEPTHS = (2, 16)
# The rows that are to be stable over depth.
ENDS = {"norm": ("norm", "transformer/ln_f"), "head": ("head", "lm_head")}


# Checks that show what one rate does, too.
COMPARED = ("mlp", "transformer")
PLAIN_RATE, SCALED, BRANCHED = "one rate", "multipliers", "multipliers, branches 1"


def coordinates(names: Sequence[str], journal: str, seeds: int) -> list[Report]:
    """A row for each network in the journal, to which those of the names that it lacks are added."""
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests), str(tests / "coordinates")]
    from networks import NETWORKS

    with opened(journal, "coordinate checks") as kept:
        done = {(record["network"], record["rates"]) for record in kept.records}
        for name in names:
            for rates in ways_of(name):
                if (name, rates) not in done:
                    kept.append([_checked(name, NETWORKS[name], rates, seeds)])
        kept.reload()
        records = kept.records
    wide = [
        [*_begins(r), f"{r['stable']} of {r['rows']}", f"{r['slope']:+.2f}", r["path"] or "(whole)"]
        for r in records
        if r["network"] not in DEEPER
    ]
    deep = [
        [*_begins(r), *(f"{r[part]:+.2f}" if part in r else "" for part in ENDS)]
        for r in records
        if r["network"] in DEEPER
    ]
    columns = ("network", "rates", "sizes", "seeds")
    title = "Slopes of log2 change against log2 {}, 4 steps of Adam"
    return [
        Report(title.format("width"), (*columns, "stable outputs", "steepest slope", "of"), wide),
        Report(title.format("depth"), (*columns, "last norm", "head"), deep),
    ]


def ways_of(name: str) -> tuple[str, ...]:
    if name in DEEPER:
        return (PLAIN_RATE, SCALED, BRANCHED)
    return (SCALED, PLAIN_RATE) if name in COMPARED else (SCALED,)


def _begins(record: dict[str, Any]) -> list[str]:
    return [f"`{record['network']}`", record["rates"], ", ".join(map(str, record["widths"])), str(record["seeds"])]


def _checked(name: str, network: Any, rates: str, seeds: int) -> dict[str, Any]:
    widths = DEPTHS if name in DEEPER else (64, 256, 2048) if name in PERCEPTRONS else WIDTHS
    settings = {"outputs": 16.0} if name in DEEPER and rates != PLAIN_RATE else {}
    found = qrjax.coordinate_check(
        network.make, widths, network.sample, network.loss, seeds=seeds, multipliers=rates != PLAIN_RATE,
        branches=1.0 if rates == BRANCHED else None, **settings,
    )  # fmt: skip
    print(found, file=sys.stderr, flush=True)
    stable, steepest = sum(row.verdict in ("stable", "unmoved") for row in found), found.steepest
    record = {"network": name, "rates": rates, "widths": list(widths), "seeds": seeds, "stable": stable}
    ends = {part: row.slope for part, paths in ENDS.items() for row in found if name in DEEPER and row.path in paths}
    return record | {"rows": len(found), "slope": steepest.slope, "path": steepest.path} | ends


# -- transfer ----------------------------------------------------------------------------------------------------------


# log2 of the rates without multipliers and with them.
GRIDS = {
    ("adam", False): range(-11, -4), ("adam", True): range(-5, 2),
    ("sgd", False): range(-8, -1), ("sgd", True): range(-4, 3),
    ("muon", False): range(-8, -3), ("muon", True): range(-8, -3),
}  # fmt: skip
SMALL, ALL, TWO = (64, 256), (64, 256, 1024), ("default", "head outputs")
# By how much rates are larger with multipliers, about: a decay that is divided by it takes the same share of a weight.
LARGER = 32
# Network, data, optimizer, ways, widths, steps, decay with one rate, schedule.
PLANS: list[tuple[str, str, str, Sequence[str], Sequence[int], int, float, str]] = [
    ("mlp", "digits", "adam", ("default", "autoinit", "head outputs"), ALL, 60, 0.0, "constant"),
    ("mlp", "mnist1d", "adam", ("default", "autoinit", "head outputs"), ALL, 60, 0.0, "constant"),
    ("mlp", "digits", "sgd", TWO, ALL, 60, 0.0, "constant"),
    ("cnn", "digits", "adam", TWO, (16, 64), 60, 0.0, "constant"),
    ("mlp", "mnist1d", "adam", TWO, SMALL, 400, 0.0, "constant"),
    ("mlp", "mnist1d", "adam", TWO, SMALL, 400, 1.0, "constant"),
    ("mlp", "mnist1d", "adam", ("head outputs",), SMALL, 400, 0.5, "constant"),
    ("transformer", "digits", "adam", ("default", "outputs", "head outputs"), (16, 64, 256), 60, 0.0, "constant"),
    ("transformer", "digits", "adam", list(OTHERWISE), (64,), 60, 0.0, "constant"),
    ("residual", "digits", "adam", ("default", "head outputs", "branches"), (2, 8, 32), 60, 0.0, "constant"),
    ("mlp", "digits", "muon", TWO, (64, 256, 512), 60, 0.0, "constant"),
    ("mlp", "digits", "adam", TWO, ALL, 60, 0.1, "constant"),
    ("mlp", "mnist1d", "adam", TWO, SMALL, 2000, 0.0, "constant"),
    ("mlp", "mnist1d", "adam", TWO, SMALL, 2000, 1.0, "constant"),
    ("mlp", "digits", "adam", ("multipliers", "outputs"), ALL, 60, 0.0, "constant"),
    ("mlp", "digits", "adam", ("default", "outputs", "head outputs"), SMALL, 60, 0.0, "cosine"),
    ("mlp", "centred digits", "adam", TWO, SMALL, 60, 0.0, "constant"),
    ("mlp", "regression", "adam", ("default", "multipliers", "outputs", "first"), SMALL, 60, 0.0, "constant"),
]


def cells(plan: tuple[str, str, str, Sequence[str], Sequence[int], int, float, str]) -> list[Cell]:
    """What is trained for one line of the plans, the narrow networks first."""
    network, data, optimizer, ways, widths, steps, decay, schedule = plan
    return [
        Cell(network, data, optimizer, way, width, steps, decay / (1 if way in PLAIN else LARGER), schedule)
        for width in widths
        for way in ways
    ]


CELLS = [cell for plan in PLANS for cell in cells(plan)]


def run(cells: Sequence[Cell], journal: str, seeds: int, rates: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Trains what the journal lacks; what it then holds."""
    with opened(journal, "transfer of rates") as kept:
        done = [{name: record[name] for name in cells[0].key()} for record in kept.records] if cells else []
        for cell in cells:
            if cell.key() in done:
                continue
            began, grid = time.monotonic(), list(rates or GRIDS[cell.optimizer, cell.arm not in PLAIN])
            losses = trained(cell, [2.0**rate for rate in grid], seeds)
            record = cell.key() | {"rates": grid, "losses": losses.tolist(), "seconds": time.monotonic() - began}
            kept.append([record])
            print(_line(record), file=sys.stderr, flush=True)
        kept.reload()
        return kept.records


def _line(record: dict[str, Any]) -> list[Any]:
    means = _losses(record).mean(1)
    best = int(means.argmin())
    cell = [record[field.name] for field in dataclasses.fields(Cell)]
    return [*cell, record["rates"][best], f"{record['seconds']:.0f} s", *means.round(3)]


def _losses(record: dict[str, Any]) -> Any:
    """(rates, seeds); what diverged is infinite."""
    found = np.array(record["losses"])
    return np.where(np.isfinite(found), found, np.inf)


def transfer(records: Sequence[dict[str, Any]]) -> Report:
    """A row for each network and way, its widths side by side."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        key = tuple(record[f.name] for f in dataclasses.fields(Cell) if f.name != "width")
        groups.setdefault((*key, len(record["losses"][0])), []).append(record)
    lines = [_way(key, sorted(group, key=lambda record: record["width"])) for key, group in groups.items()]
    columns = (
        "network", "optimizer", "steps", "weights and rates", "seeds", "widths", "best log2 rate", "it moves by",
        "loss there", "of the widest", "at the narrowest's rate",
    )  # fmt: skip
    return Report("Best rates over width, of residual networks over depth", columns, lines)


def _way(key: tuple[Any, ...], group: Sequence[dict[str, Any]]) -> list[str]:
    network, data, optimizer, arm, steps, decay, schedule, seeds = key
    best = [record["rates"][int(_losses(record).mean(1).argmin())] for record in group]
    edge = ["!" * (rate in (record["rates"][0], record["rates"][-1])) for rate, record in zip(best, group, strict=True)]
    losses = [_losses(record)[record["rates"].index(rate)] for rate, record in zip(best, group, strict=True)]
    widest = group[-1]
    moved = _spread(_losses(widest)[widest["rates"].index(best[0])]) if best[0] in widest["rates"] else "not tried"
    shown = ", ".join(f"{rate}{mark}" for rate, mark in zip(best, edge, strict=True))
    widths = ", ".join(str(record["width"]) for record in group)
    single = len(group) == 1
    moves = "" if single else str(max(best) - min(best))
    cells = [", ".join(f"{one.mean():.3f}" for one in losses), _spread(losses[-1]), "" if single else moved]
    plan = f"{steps}" + f", decay {decay:g}" * bool(decay) + f", {schedule}" * (schedule != "constant")
    return [f"{network}, {data}", optimizer, plan, WAYS[arm], str(seeds), widths, shown, moves, *cells]


def _spread(losses: Any) -> str:
    return f"{losses.mean():.3f} ± {losses.std(ddof=1):.3f}" if np.isfinite(losses).all() else "diverges"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("coordinates", "transfer"))
    parser.add_argument("names", nargs="*", help="of coordinates: networks to add")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--journal", default="rates.jsonl", help="what was trained, to go on with")
    parser.add_argument("--only", nargs="*", default=None, help="of transfer: cells with these words; none trains none")
    parser.add_argument("--rates", type=int, nargs="*", default=(), help="of transfer: log2 of these alone")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_intermixed_args()  # names behind options, too
    if options.part == "coordinates":
        reports = [report for report in coordinates(options.names, options.journal, options.seeds) if report.rows]
    else:
        words = set(options.only or ())
        chosen = [c for c in CELLS if options.only is None or (words and words <= {*map(str, c.key().values())})]
        reports = [transfer(run(chosen, options.journal, options.seeds, options.rates))]
    facts = environment() | {name: version(name) for name in ("flax", "optax")}
    show(reports, facts, options.markdown)


if __name__ == "__main__":
    main()
