"""What helps on digits: ten initializers, five sources of randomness, three networks, in pairs of equal seeds.

    python tests/bench/experiments.py [--results experiments.jsonl] [--seeds 20] [--optimizer adam] [--markdown]

Trains the book's networks (an MLP with two hidden layers, a CNN and a Transformer) on scikit-learn's digits and
prints a summary and one table a network: the baseline's accuracy, and every source's mean difference from it with a
95 % bootstrap interval; a star where the sign-flip test is below 5 % after Holm's correction for all comparisons of the
run. The results file is kept, and a run that was killed goes on.

Autoinit takes the initializer's distribution alone, so it is trained once for each distribution, and compared with
every initializer of it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sampling import Report, as_markdown, command

from qrjax import experiments
from qrjax._experiments._initializers import FAMILIES
from qrjax._experiments._settings import OPTIMIZERS

SOURCES = ("sobol", "sequence", "hash", "autoinit")
NETWORKS = {"mlp2": {}, "cnn": {}, "transformer": {"units": 32, "blocks": 1}}
HEADINGS = ("initializer", "random, %", *SOURCES)
SUMMARY = ("source", "better", "worse", "no difference seen", "mean difference, points", "wins", "epochs saved")


def main(argv: Sequence[str] | None = None) -> list[experiments.Comparison]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--results", type=Path, default=Path("experiments.jsonl"), help="a file to write, or to go on with"
    )
    parser.add_argument("--seeds", type=int, default=20, help="networks for each initializer and source")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    parser.add_argument("--optimizer", default="adam", choices=OPTIMIZERS, help="with Keras's learning rate")
    parser.add_argument("--limit", type=int, help="keep the first so many training and test images")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    options = parser.parse_args(argv)
    records = trained(options)
    found = experiments.compare(records)
    show("All comparisons", SUMMARY, summary(found), options.markdown)
    for model in NETWORKS:
        of_model = [one for one in found if one.settings["model"] == model]
        show(model, HEADINGS, rows(of_model), options.markdown)
    print(f"From `{command()}`: {machine(records)}.")
    return found


def trained(options: argparse.Namespace) -> list[dict]:
    same = {"optimizer": options.optimizer, "epochs": options.epochs, "limit": options.limit}
    settings = [
        experiments.Settings(model=model, initializer=name, source=source, **sizes, **same)
        for model, sizes in NETWORKS.items()
        for name in FAMILIES
        for source in ("random", *SOURCES)
        if source != "autoinit" or name == representative(name)
    ]
    records = experiments.run(settings, options.seeds, options.results)
    return [*records, *shared(records)]


def representative(name: str) -> str:
    """The first initializer of the same distribution."""
    return next(other for other in FAMILIES if FAMILIES[other].distribution == FAMILIES[name].distribution)


def shared(records: Sequence[dict]) -> list[dict]:
    """Autoinit's records under the names of the other initializers of their distributions."""
    return [
        {**record, "settings": {**record["settings"], "initializer": name}}
        for record in records
        if record["settings"]["source"] == "autoinit"
        for name in FAMILIES
        if name != record["settings"]["initializer"] and representative(name) == record["settings"]["initializer"]
    ]


def show(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], markdown: bool) -> None:
    if markdown:
        print(as_markdown(Report(title, headings, lines)) + "\n")
        return
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for cells in lines:
        table.add_row(*cells)
    Console(width=140).print(table)


def rows(found: Sequence[experiments.Comparison], sources: Sequence[str] = SOURCES) -> list[list[str]]:
    return [row(name, [one for one in found if one.settings["initializer"] == name], sources) for name in FAMILIES]


def row(name: str, found: Sequence[experiments.Comparison], sources: Sequence[str]) -> list[str]:
    by_source = {one.source: one for one in found}
    return [name, f"{100 * found[0].baseline_mean:.2f}", *(cell(by_source[source]) for source in sources)]


def cell(one: experiments.Comparison) -> str:
    star = "*" if one.verdict in ("better", "worse") else ""
    return f"{100 * one.difference:+.2f}{star} ({100 * one.low:+.2f}, {100 * one.high:+.2f})"


def summary(found: Sequence[experiments.Comparison]) -> list[list[str]]:
    """One line a source: how often it is better or worse, and its mean difference."""
    lines = []
    for source in SOURCES:
        of_source = [one for one in found if one.source == source]
        verdicts = [one.verdict for one in of_source]
        counts = [str(verdicts.count(word)) for word in ("better", "worse", "no difference seen")]
        gap = 100 * np.mean([one.difference for one in of_source])
        wins = 100 * np.mean([one.wins for one in of_source])
        saved = np.mean([one.baseline_epochs - one.epochs for one in of_source])
        lines.append([source, *counts, f"{gap:+.2f}", f"{wins:.0f} %", f"{saved:+.2f}"])
    return lines


def machine(records: Sequence[dict]) -> str:
    """Where, with what, and when; the versions are those that trained."""
    versions = ", ".join(f"{name} {version}" for name, version in records[0]["versions"].items())
    return f"{platform.machine()}, {os.cpu_count()} cores, {versions}, {datetime.date.today()}"


if __name__ == "__main__":
    main()
