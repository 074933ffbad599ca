"""`qrjax aggregate`: what the experiments say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qrjax._cli._arguments import OneOf, OutputPath, examples
from qrjax._cli._failure import Failure
from qrjax._cli._picture import check_matplotlib, save
from qrjax._cli._screen import screen
from qrjax._experiments._initializers import SOURCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qrjax._experiments._records import Record
    from qrjax._experiments._statistics import Comparison

SHOWN = ("dataset", "model", "optimizer", "initializer")
HEADINGS = (
    *SHOWN, "source", "scheme", "seeds", "accuracy", "difference", "95 % interval", "wins", "adj. p", "epochs",
    "verdict",
)  # fmt: skip
LEGEND = (
    "Accuracy: % of the test data after the last epoch, mean over seeds. Difference, interval: from {baseline}, in "
    "points, paired by seed (bootstrap, BCa). Wins: % of the seeds in which it beats {baseline}; ties count half. "
    "Adj. p: sign-flip permutation test, Holm's correction for the {number} comparisons of this table. Epochs: "
    "mean number until {target}, its own / {baseline}'s."
)


@click.command(
    epilog=examples(
        "qrjax aggregate results.jsonl",
        "qrjax aggregate results.jsonl --out results.parquet --plot boxes.png",
        "qrjax aggregate digits.jsonl mnist.jsonl --target 0.95 --markdown > table.md",
    )
)
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", type=OneOf(list(SOURCES)), default="random", help="What the others are compared with.")
@click.option(
    "--target", metavar="X", type=float,
    help="The accuracy whose first epoch is looked for, such as 0.95; by default 95 % of the baseline's last.",
)  # fmt: skip
@click.option("--out", metavar="PATH", type=OutputPath(".csv", ".parquet"), help="A row for each seed and epoch.")
@click.option(
    "--plot", metavar="PATH", type=OutputPath(".png", ".pdf", ".svg"),
    help="The paper's box plot per epoch; a row of panels for each model, a panel for each initializer.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as a JSON array.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--quiet", is_flag=True, help="Plain text only, without colors.")
def command(
    results: Sequence[Path], baseline: str, target: float | None, out: Path | None, plot: Path | None, as_json: bool,
    markdown: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compare sources of randomness, in pairs of equal seeds, from what `qrjax train` wrote.

    For every experiment and source: mean difference from the baseline with a bootstrap confidence interval, share of
    wins, epochs to reach an accuracy, and a permutation test corrected for the number of comparisons. Needs: pip
    install 'qrjax[bench]'
    """
    from qrjax._experiments._aggregate import frame, load_results, save_frame
    from qrjax._experiments._statistics import compare

    if target is not None and not 0 < target < 1:
        raise click.BadParameter(f"must be between 0 and 1, got {target}; for example 0.95", param_hint="--target")
    try:
        records = load_results(*results)
        if out is not None:
            save_frame(frame(records), out)
        if plot is not None:
            _draw(records, plot)
        found = compare(records, baseline=baseline, target=target)
    except (ValueError, ImportError) as error:
        raise Failure(str(error)) from error
    _show(found, baseline, target, as_json, markdown, quiet)
    for what, path in (("table of all epochs", out), ("picture", plot)):
        if path is not None:
            click.echo(f"The {what} is in {path}", err=as_json or markdown)


def _show(
    found: Sequence[Comparison], baseline: str, target: float | None, as_json: bool, markdown: bool, quiet: bool
) -> None:
    if as_json:
        click.echo(json.dumps([comparison._asdict() | {"verdict": comparison.verdict} for comparison in found]))
        return
    output = screen(quiet or markdown)
    kept = _varying(found)
    headings = [heading for heading, keep in zip(HEADINGS, kept, strict=True) if keep]
    rows = [[cell for cell, keep in zip(_row(c), kept, strict=True) if keep] for c in found]
    goal = f"the accuracy is {target:.1%}" if target else f"the accuracy is 95 % of {baseline}'s last"
    legend = LEGEND.format(baseline=baseline, number=len(found), target=goal)
    if markdown:
        for line in (headings, ["---"] * len(headings), *rows):
            click.echo(f"| {' | '.join(line)} |")
        click.echo(f"\n{legend}")
        return
    output.table(headings, rows)
    output.text(legend)


def _varying(found: Sequence[Comparison]) -> list[bool]:
    """Which columns to show: a setting that is the same for all is not worth one."""
    several = [len({comparison.settings[name] for comparison in found}) > 1 for name in SHOWN]
    schemes = len({_scheme(comparison) for comparison in found if comparison.scheme}) > 1
    return [*several, True, schemes] + [True] * (len(HEADINGS) - len(SHOWN) - 2)


def _scheme(found: Comparison) -> str:
    return str(found.scheme["name"]) if found.scheme else ""


def _row(found: Comparison) -> list[str]:
    return [
        *(str(found.settings[name]) for name in SHOWN),
        found.source,
        _scheme(found),
        str(found.seeds),
        f"{100 * found.mean:.2f}",
        f"{100 * found.difference:+.2f}",
        f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
        f"{100 * found.wins:.0f}",
        f"{found.adjusted_p:.3f}",
        f"{found.epochs:.2f} / {found.baseline_epochs:.2f}",
        found.verdict,
    ]


def _draw(records: Sequence[Record], path: Path) -> None:
    check_matplotlib()
    save(lambda: _boxes(records), path)


def _boxes(records: Sequence[Record]) -> Figure:
    """A panel for each experiment: rows are datasets, models and optimizers, columns initializers."""
    from matplotlib.figure import Figure

    from qrjax._experiments._aggregate import accuracies
    from qrjax._plot._boxes import boxes

    panels: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        settings = record["settings"]
        place = ", ".join(settings[name] for name in SHOWN[:-1]), settings["initializer"]
        panels.setdefault(place, []).append(record)
    rows, columns = (list(dict.fromkeys(place)) for place in zip(*panels, strict=True))
    figure = Figure(figsize=(6.4 * len(columns), 3.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for (row, column), shown in panels.items():
        panel = axes[rows.index(row), columns.index(column)]
        panel.set_axis_on()
        boxes(accuracies(shown), ax=panel)
        panel.set_title(f"{row}: {column}", fontsize="medium", loc="left")
    return figure
