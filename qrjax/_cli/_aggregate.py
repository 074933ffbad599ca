"""`qrjax aggregate`: what the experiments say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qrjax._cli._arguments import OneOf, OutputPath, PicturePath, examples
from qrjax._cli._failure import Failure
from qrjax._cli._files import shown
from qrjax._cli._picture import save
from qrjax._cli._results import damage_told
from qrjax._cli._screen import Screen, print_json
from qrjax._experiments._names import SOURCES
from qrjax._terminal._cells import counted, decimal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qrjax._experiments._records import Record
    from qrjax._experiments._statistics import Comparison

HEADINGS = (
    "source", "scheme", "seeds", "accuracy", "difference", "95 % interval", "wins", "adj. p", "epochs", "verdict",
)  # fmt: skip
WORDS = ("source", "scheme", "verdict")
# Panels side by side in the picture.
COLUMNS = 3
LEGEND = (
    "Accuracy: % of the test data after the last epoch, mean over seeds. Difference, interval: from {baseline}, in "
    "points, paired by seed (bootstrap, BCa). Wins: % of the seeds in which it beats {baseline}; ties count half. "
    "Adj. p: sign-flip permutation test, Holm's correction for {comparisons} in this table. Epochs: "
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
    help="Count the epochs until this accuracy, such as 0.95.  [default: 95 % of the baseline's last]",
)  # fmt: skip
@click.option("--out", metavar="PATH", type=OutputPath(".csv", ".parquet"), help="Save a row for each seed and epoch.")
@click.option(
    "--plot", metavar="PATH", type=PicturePath(),
    help="Save the paper's box plot per epoch, with a panel for each experiment.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as a JSON array.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--quiet", is_flag=True, help="Plain text only, without colors.")
def command(
    results: Sequence[Path], baseline: str, target: float | None, out: Path | None, plot: Path | None, as_json: bool,
    markdown: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compare sources of randomness by the results of `qrjax train`, paired by seed.

    For every experiment and source, prints the mean difference from the baseline with a bootstrap confidence interval,
    the share of wins, the epochs needed to reach an accuracy, and a permutation test corrected for the number of
    comparisons. Needs: pip install 'qrjax[bench]'
    """
    from qrjax._experiments._aggregate import frame, load_results, save_frame

    if target is not None and not 0 < target < 1:
        raise click.BadParameter(f"must be between 0 and 1, got {target}; for example 0.95", param_hint="--target")
    if as_json and markdown:
        raise click.UsageError("give --json or --markdown, not both")
    try:
        with damage_told("qrjax aggregate"):
            records = load_results(*results)
        if not records:
            raise Failure(f"{' and '.join(map(str, results))} holds no results yet; `qrjax train` adds some")
        if out is not None:
            save_frame(frame(records), out)
        if plot is not None:
            save(lambda: _boxes(records), plot)
    except OSError as error:
        raise Failure(f"cannot read {error.filename}: {error.strerror}; name files of `qrjax train`") from error
    except (ValueError, ImportError) as error:
        raise Failure(str(error)) from error
    for what, path in (("table of all epochs", out), ("picture", plot)):
        if path is not None:
            click.echo(f"The {what} is in {shown(path)}", err=as_json or markdown)
    sources = {record["settings"]["source"] for record in records}
    if len(sources) == 1 and (out or plot):
        click.echo(f"There is nothing to compare: all results are from the source {sources.pop()}.", err=True)
        return
    _show(_compared(records, baseline, target), baseline, target, as_json, markdown, quiet)


def _compared(records: Sequence[Record], baseline: str, target: float | None) -> list[Comparison]:
    from qrjax._experiments._statistics import IncompleteWarning, compare

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", IncompleteWarning)
            found = compare(records, baseline=baseline, target=target)
    except (ValueError, ImportError) as error:
        raise Failure(str(error)) from error
    for warning in caught:
        click.echo(f"qrjax aggregate: {warning.message}", err=True)
    return found


def _show(
    found: Sequence[Comparison], baseline: str, target: float | None, as_json: bool, markdown: bool, quiet: bool
) -> None:
    if as_json:
        print_json([comparison._asdict() | {"verdict": comparison.verdict} for comparison in found])
        return
    output = Screen(quiet or markdown)
    shown = _shown(found)
    schemes = len({_scheme(comparison) for comparison in found if comparison.scheme}) > 1
    kept = [heading != "scheme" or schemes for heading in HEADINGS]
    headings = [*shown, *(heading for heading, keep in zip(HEADINGS, kept, strict=True) if keep)]
    rows = [
        [*(str(one.settings[name]) for name in shown), *(c for c, keep in zip(_row(one), kept, strict=True) if keep)]
        for one in found
    ]
    goal = f"the accuracy is {target:.1%}" if target else f"the accuracy is 95 % of {baseline}'s last"
    legend = LEGEND.format(baseline=baseline, comparisons=counted(len(found), "comparison"), target=goal)
    if markdown:
        for line in (headings, ["---"] * len(headings), *rows):
            click.echo(f"| {' | '.join(line)} |")
        click.echo(f"\n{legend}")
        return
    output.table(headings, rows, left=[k for k, heading in enumerate(headings) if heading in (*shown, *WORDS)])
    output.text(legend)


def _shown(found: Sequence[Comparison]) -> list[str]:
    """The settings that a column is worth: one that is the same for all is not."""
    from qrjax._experiments._aggregate import NAMING, varying

    settings = [comparison.settings for comparison in found]
    return [name for name in NAMING if len({one[name] for one in settings}) > 1] + varying(settings)


def _scheme(found: Comparison) -> str:
    return f"{found.scheme['name']} {found.scheme['min_dim']}" if found.scheme else ""


def _row(found: Comparison) -> list[str]:
    return [
        found.source,
        _scheme(found),
        str(found.seeds),
        f"{100 * found.mean:.2f}",
        decimal(100 * found.difference, sign="+"),
        f"{decimal(100 * found.low, sign='+')} to {decimal(100 * found.high, sign='+')}",
        f"{100 * found.wins:.0f}",
        f"{found.adjusted_p:.3f}",
        f"{found.epochs:.2f} / {found.baseline_epochs:.2f}",
        found.verdict,
    ]


def _boxes(records: Sequence[Record]) -> Figure:
    """A panel for each experiment."""
    from matplotlib.figure import Figure

    from qrjax._experiments._aggregate import panels
    from qrjax._plot._boxes import boxes

    found = panels(records)
    columns = min(len(found), COLUMNS)
    rows = math.ceil(len(found) / columns)
    figure = Figure(figsize=(6.4 * columns, 3.8 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for (name, by_source), panel in zip(found.items(), axes, strict=False):
        boxes(by_source, ax=panel)
        panel.set_title(f"{name}\n{panel.get_title()}", fontsize="medium")
    for panel in axes[len(found) :]:
        panel.set_axis_off()
    return figure
