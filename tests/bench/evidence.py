"""Where an initializer helps, trained as a reviewer asks for it: rates tuned for each, early stopping, paired seeds.

    python tests/bench/evidence.py twins|peers|branches [--results FOLDER] [--seeds 15] [--only digits/mlp2]

twins: ten initializers of `jax.nn.initializers` and, paired with each by its seeds, the same from Sobol' points in our
layout, from Sobol' points in the order of arXiv 2408.02654, and from the hash, on two data sets with three networks
each and for two optimizers: 120 comparisons a source, as many as that paper has. peers: whole ways to begin, each by
its own published definition, on five networks, each three times as deep, too, and without norms. branches: what
`autoinit(..., branches=1)` makes of the transformers among them; it shares the files of the peers.

A fifth of the training examples is for validation. Rates are factors of four apart, tried with two seeds of their own,
the same number for each way to begin; twins, which draw at one scale, share the rate of their original. The test
accuracy that counts is that of the epoch that is best on the validation examples. Differences are paired over the
seeds, with bootstrap intervals, a sign-flip test and Holm's correction over all comparisons of a part.

A network whose last loss is no number has diverged, and counts with what it had before.

Results are kept in FOLDER, a file for each place of the table, and a run that was killed goes on. `--only` takes the
places whose name begins so; `--tables` trains nothing and shows the places that are whole, as Markdown. With `pip
install 'qrjax[peers]'`. Measured on two cores beside other work: some 20 minutes of a processor's time for all twins
(12 to 330 s a place); of the peers 10 to 27 s for a place of perceptrons, 47 to 196 s for a CNN, 50 to 331 s for a
transformer of one block. Each place says on standard error what it took.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from experiments import cell, machine, rows
from sampling import Report, as_markdown, command

from qrjax import experiments
from qrjax._experiments._initializers import FAMILIES
from qrjax.experiments import Comparison, Settings

sys.path.insert(0, str(Path(__file__).parent))  # where `peer_initializers` is

DATASETS: dict[str, dict[str, Any]] = {"digits": {}, "mnist1d": {"limit": 2000}}
# Factors of four, the same for every way to begin.
RATES = {
    "adam": (2.5e-4, 1e-3, 4e-3, 1.6e-2, 6.4e-2),
    "momentum": (1e-3, 4e-3, 1.6e-2, 6.4e-2, 2.56e-1),
}
SAME: dict[str, Any] = {"epochs": 8, "batch_size": 64, "validation": 0.2, "units": 32, "filters": (4, 8)}
SMALL: dict[str, Any] = {"units": 16, "heads": 1, "blocks": 1}
NETWORKS: dict[str, dict[str, Any]] = {"mlp1": {}, "mlp2": {}, "cnn": {}, "lstm": SMALL, "transformer": SMALL}
SOURCES = ("sobol", "sequence", "hash")
# Flax's default, and what is compared with it: an initializer and its source.
BASELINE = ("lecun_normal", "random")
PEERS: dict[str, tuple[str, str]] = {
    "orthogonal": ("orthogonal", "random"),
    "LSUV": ("orthogonal", "calibrate"),
    "autoinit, 1": ("lecun_normal", "autoinit"),
    "stable": ("lecun_normal", "stable"),
    "stable, orthogonal": ("orthogonal", "stable"),
    "sinusoidal": ("peer_initializers:sinusoidal", "own"),
    "AnyInit": ("peer_initializers:AnyInit", "own"),
}
OF_BRANCHES = {"autoinit, 1": PEERS["autoinit, 1"], "branches=1": ("peer_initializers:Branches", "own")}


class Place(NamedTuple):
    """What is compared with each other: one data set, network and optimizer."""

    dataset: str
    model: str
    depth: int
    norms: bool
    optimizer: str

    @property
    def network(self) -> str:
        return f"{self.model}{f'-x{self.depth}' if self.depth > 1 else ''}{'' if self.norms else '-no-norms'}"

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.network}/{self.optimizer}"

    def settings(self, initializer: str, source: Any) -> Settings:
        options = SAME | NETWORKS[self.model] | DATASETS[self.dataset]
        return Settings(
            dataset=self.dataset, model=self.model, initializer=initializer, source=source, depth=self.depth,  # type: ignore[arg-type]
            norms=self.norms, optimizer=self.optimizer, learning_rate=RATES[self.optimizer], **options,  # type: ignore[arg-type]
        )  # fmt: skip


# The smallest first, since a run may be ended at any time.
OF_TWINS = [
    Place(dataset, model, 1, True, optimizer)
    for dataset, model in (
        ("digits", "mlp2"), ("mnist1d", "mlp2"), ("digits", "cnn"), ("mnist1d", "cnn"), ("mnist1d", "mlp1"),
        ("digits", "transformer"),
    )
    for optimizer in RATES
]  # fmt: skip
OF_PEERS = [
    Place(dataset, model, depth, norms, optimizer)
    for model, depth, norms in (
        ("mlp2", 3, True), ("cnn", 3, True), ("transformer", 3, False), ("mlp2", 1, True), ("cnn", 1, True),
        ("transformer", 1, False), ("transformer", 1, True), ("mlp1", 3, True), ("mlp1", 1, True),
        ("transformer", 3, True), ("lstm", 1, True), ("lstm", 3, True),
    )
    for dataset in DATASETS
    for optimizer in RATES
]  # fmt: skip


def twins(place: Place) -> list[Settings]:
    return [place.settings(name, source) for name in FAMILIES for source in ("random", *SOURCES)]


def peers(place: Place) -> list[Settings]:
    # AnyInit, which calls NumPy within the model, ends in a TracerArrayConversionError where the model has a scan.
    ways = [way for name, way in PEERS.items() if (name, place.model) != ("AnyInit", "lstm")]
    return [place.settings(*pair) for pair in (BASELINE, *ways)]


def branches(place: Place) -> list[Settings]:
    return [place.settings(*pair) for pair in (BASELINE, *OF_BRANCHES.values())]


class Part(NamedTuple):
    """A set of tables.

    Attributes:
      folder: of its results, beneath that of all.
      chunk: networks side by side; those of one place have one program.
      ways: what is compared with the default, by its name; none where each source is compared with its twin.
    """

    folder: str
    places: list[Place]
    settings: Callable[[Place], list[Settings]]
    chunk: int
    ways: Mapping[str, tuple[str, str]]


RESIDUAL = [place for place in OF_PEERS if place.model == "transformer"]
PARTS = {
    "twins": Part("twins", OF_TWINS, twins, 100, {}),
    "peers": Part("peers", OF_PEERS, peers, 40, PEERS),
    "branches": Part("peers", RESIDUAL, branches, 40, OF_BRANCHES),
}


def main(argv: Sequence[str] | None = None) -> list[Comparison]:
    options = parsed(argv)
    part = PARTS[options.part]
    wanted = [p for p in part.places if not options.only or any(p.name.startswith(name) for name in options.only)]
    found = {place: results(place, part, options) for place in wanted}
    records = [record for many in found.values() for record in many]
    if not records:
        raise SystemExit("no place is whole yet; run without --tables")
    ran = [place for place in wanted if found[place]]
    if part.ways:
        named = [as_peer(record, part.ways) for record in records]
        comparisons = experiments.compare(named)
        reports = peer_tables(comparisons, ran, part.ways, named)
    else:
        comparisons = experiments.compare(records)
        reports = twin_tables(comparisons, ran)
    for report in reports:
        print(as_markdown(report) + "\n")
    if missing := [place.name for place in part.places if not found.get(place)]:
        print(f"Not run: {', '.join(missing)}.\n")
    print(f"From `{command()}`: {len(records)} networks and their trials, {machine(records)}.")
    return comparisons


def results(place: Place, part: Part, options: argparse.Namespace) -> list[dict]:
    """The records of a place, old and new; if nothing is to be trained those of a place that is whole, else none."""
    file, settings = options.results / part.folder / f"{place.name.replace('/', '_')}.jsonl", part.settings(place)
    if options.tables:
        return whole(file, settings, options.seeds) if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    start, before = time.process_time(), file.stat().st_size if file.exists() else 0
    found = experiments.run(settings, options.seeds, file, chunk=part.chunk)
    if file.stat().st_size > before:
        print(f"{place.name}: {time.process_time() - start:.0f} s of processor time", file=sys.stderr, flush=True)
    return found


def whole(file: Path, settings: Sequence[Settings], seeds: int) -> list[dict]:
    """A place's records, if all are there."""
    wanted = [json.loads(json.dumps(dataclasses.asdict(one))) for one in settings]
    found = [one for one in experiments.load_results(file) if one["settings"] in wanted and one["seed"] < seeds]
    return found if len(found) == len(wanted) * seeds else []


def as_peer(record: dict, peers: Mapping[str, tuple[str, str]] = PEERS) -> dict:
    """With the way to begin as its source, so that all of a place are compared with Flax's default."""
    pair = record["settings"]["initializer"], record["settings"]["source"]
    source = "random" if pair == BASELINE else next(name for name, its in peers.items() if its == pair)
    return {**record, "settings": {**record["settings"], "initializer": "any", "source": source}}


def of(comparisons: Iterable[Comparison], place: Place) -> list[Comparison]:
    return [one for one in comparisons if all(one.settings[name] == value for name, value in place._asdict().items())]


ROUNDED = 1e-9  # equal accuracies' means differ in their last bits
SUMMARY = ("better", "worse", "no difference seen", "ahead", "mean difference, points", "epochs saved")


def summary(comparisons: Sequence[Comparison]) -> list[str]:
    """How often better or worse after correction, how often ahead at all, and by how much."""
    verdicts = [one.verdict for one in comparisons]
    counts = [str(verdicts.count(word)) for word in SUMMARY[:3]]
    ahead = sum(is_ahead(one) for one in comparisons)
    gap = 100 * np.mean([one.difference for one in comparisons])
    saved = np.mean([one.baseline_epochs - one.epochs for one in comparisons])
    share = f"{ahead} of {len(comparisons)} ({100 * ahead / len(comparisons):.0f} %)"
    return [*counts, share, f"{gap:+.2f}", f"{saved:+.2f}"]


def is_ahead(one: Comparison) -> bool:
    """The paper's criterion: a higher accuracy, or the same one sooner."""
    if abs(one.difference) > ROUNDED:
        return one.difference > 0
    return one.epochs < one.baseline_epochs


def twin_tables(comparisons: Sequence[Comparison], places: Sequence[Place]) -> list[Report]:
    by_source = [[name, *summary([one for one in comparisons if one.source == name])] for name in SOURCES]
    return [
        Report(f"{len(comparisons) // len(SOURCES)} comparisons a source", ("source", *SUMMARY), by_source),
        *(Report(place.name, ("initializer", "random, %", *SOURCES), rows(of(comparisons, place), SOURCES))
          for place in places),
    ]  # fmt: skip


def peer_tables(
    comparisons: Sequence[Comparison], places: Sequence[Place], ways: Iterable[str], records: Sequence[dict]
) -> list[Report]:
    ran = [name for name in ways if any(one.source == name for one in comparisons)]  # AnyInit refuses LSTMs
    by_arm = [
        [name, *summary([one for one in comparisons if one.source == name]), diverged(records, name)] for name in ran
    ]
    title = f"{len(places)} places, compared with Flax's default, of which {diverged(records, 'random')} diverged"
    return [
        Report(title, ("beginning", *SUMMARY, "networks that diverged"), by_arm),
        Report("Test accuracy, difference from Flax's default in points", ("place", "default, %", *ways),
               [peer_row(place, of(comparisons, place), ways) for place in places]),
        Report("Epochs saved until 95 % of the default's last accuracy", ("place", "default, epochs", *ways),
               [saved_row(place, of(comparisons, place), ways) for place in places]),
    ]  # fmt: skip


def diverged(records: Iterable[dict], source: str) -> str:
    """Of how many networks the last loss is no number."""
    losses = [float(one["loss"][-1]) for one in records if one["settings"]["source"] == source]
    return f"{np.count_nonzero(~np.isfinite(losses))} of {len(losses)}"


def peer_row(place: Place, found: Sequence[Comparison], ways: Iterable[str]) -> list[str]:
    by_arm = {one.source: one for one in found}
    cells = [cell(by_arm[name]) if name in by_arm else "refused" for name in ways]
    return [place.name, f"{100 * found[0].baseline_mean:.2f}", *cells]


def saved_row(place: Place, found: Sequence[Comparison], ways: Iterable[str]) -> list[str]:
    by_arm = {one.source: one.baseline_epochs - one.epochs for one in found}
    cells = [f"{by_arm[name]:+.1f}" if name in by_arm else "refused" for name in ways]
    return [place.name, f"{found[0].baseline_epochs:.1f}", *cells]


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="which tables")
    parser.add_argument("--results", type=Path, default=Path("evidence"), help="a folder to write, or to go on with")
    parser.add_argument("--seeds", type=int, default=15, help="networks for each way to begin")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PLACE", help="such as digits/mlp2, or digits/cnn/adam"
    )
    parser.add_argument("--tables", action="store_true", help="train nothing; show the places that are whole")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
