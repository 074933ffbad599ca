"""`qrjax track`: what training changed, and what may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qrjax._cli._arguments import OneOf, OutputPath, WholeNumber, examples
from qrjax._cli._causes import own_errors
from qrjax._cli._checkpoints import WRITTEN, Checkpoint, check_writable, checkpoint_at, write
from qrjax._cli._inputs import RealNumber
from qrjax._cli._matching import Match, matched
from qrjax._cli._picture import check_matplotlib, save
from qrjax._cli._pruning import Pruned, check_belonging, pruned, total
from qrjax._cli._screen import print_json, screen
from qrjax._tracking._criteria import CRITERIA

if TYPE_CHECKING:
    from qrjax import Record
    from qrjax._tracking._changes import Changes

OPTIONS = {
    "threshold": "--threshold", "sparsity": "--prune-sparsity", "select": "--select", "keep": "--keep",
}  # fmt: skip
SCOPES = {"layer": "in each variable", "global": "all together"}


class Existing(click.Path):
    """Files and folders that are there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not Path(value).exists():
            self.fail(f"must be there, and there is no file or folder {str(value)!r}", param, ctx)
        return Path(value)


@click.command(
    epilog=examples(
        "qrjax track record.json checkpoints/20",
        "qrjax track record.json checkpoints --threshold 1e-6 --plot changes.png",
        "qrjax track record.json model.safetensors --json",
        "qrjax track record.json model.npz --prune-sparsity 0.9 --save pruned.npz",
        "qrjax track record.json model.npz --prune-sparsity 0.5 --criterion movement",
    )
)
@click.argument("record", metavar="RECORD", type=Existing())
@click.argument("checkpoint", metavar="CHECKPOINT", type=Existing())
@click.option(
    "--step",
    metavar="N",
    type=WholeNumber(0, 10**12, "--step 20"),
    help="Of a folder of several steps.  [default: the last]",
)
@click.option(
    "--subtree", metavar="PATH",
    help="Where in the checkpoint the weights are, such as state/params.  [default: where they are found]",
)  # fmt: skip
@click.option(
    "--threshold", metavar="NUMBER", type=RealNumber("--threshold 1e-6", 0), default=0.0,
    help="A weight counts as changed if it moved by more.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--plot", metavar="PATH", type=OutputPath(".png", ".pdf", ".svg"), help="Save a picture of what changed.")
@click.option(
    "--prune-sparsity", "sparsity", metavar="FRACTION", type=RealNumber("--prune-sparsity 0.5", 0, 1),
    help="Prune this fraction of the weights, from 0 to 1.",
)  # fmt: skip
@click.option(
    "--criterion", metavar="NAME", type=OneOf(CRITERIA), default="change",
    help=f"By what weights are ranked; the lowest go: {', '.join(CRITERIA)}.",
)  # fmt: skip
@click.option(
    "--scope", metavar="NAME", type=OneOf(("layer", "global")), default="layer",
    help="Whether the fraction is that of every variable (layer) or of all together (global).",
)  # fmt: skip
@click.option(
    "--to", metavar="NAME", type=OneOf(("zero", "initial")), default="zero",
    help="What pruned weights become: zero, or initial, the values they began with.",
)  # fmt: skip
@click.option(
    "--select", metavar="PATTERN", multiple=True,
    help="Variables that may lose weights, such as '*/kernel'.  [default: two or more axes, no bias, no scale]",
)  # fmt: skip
@click.option("--keep", metavar="PATTERN", multiple=True, help="Variables that may not.")
@click.option(
    "--seed", metavar="N", type=WholeNumber(0, 2**32 - 1, "--seed 7"), default=0, help="Of the criterion random."
)
@click.option(
    "--save", "saved", metavar="PATH", type=OutputPath(*WRITTEN),
    help="Write the checkpoint with its pruned weights, .npz or .safetensors; the other arrays stay as they are.",
)  # fmt: skip
def command(
    record: Path, checkpoint: Path, step: int | None, subtree: str | None, threshold: float,
    as_json: bool, plot: Path | None, saved: Path | None, **pruning: Any,
) -> None:  # fmt: skip
    """Tell which weights training moved, and prune those that it left where they were.

    RECORD is what qrjax.record(...).save(file) wrote, or an Orbax checkpoint with a record in its metadata. It says how
    every weight was drawn, so no copy of the initial weights is needed. CHECKPOINT is the folder of an Orbax
    checkpoint, or of several steps, or a .safetensors or .npz file whose names are the weights' paths, with "/" or "."
    between the steps.
    """
    import qrjax
    from qrjax import plot as pictures

    check_belonging(click.get_current_context())
    _check_outputs(checkpoint, saved, plot)
    known, file = _record(record, step), checkpoint_at(checkpoint, step)
    match = matched(known, file, subtree)
    with own_errors(OPTIONS), match.precision:
        params = match.params(file)
        found = qrjax.changes(known, params, threshold=threshold)
        lost, left = pruned(known, params, **pruning) if pruning["sparsity"] is not None else ([], None)
        if plot is not None:
            save(lambda: pictures.changes(found)[0].figure, plot)
    if saved is not None:
        _write(saved, file, match, left)
    if as_json:
        print_json(_plain(found, lost, pruning))
    else:
        place = f", weights at {match.place!r}" if match.place else ""
        _print(f"{checkpoint} ({file.kind}{place}) against {record}", found, lost, pruning)
    for name, path in (("picture", plot), ("pruned checkpoint", saved)):
        if path is not None:
            click.echo(f"The {name} is in {path}", err=as_json)


def _check_outputs(checkpoint: Path, saved: Path | None, plot: Path | None) -> None:
    if plot is not None:
        check_matplotlib()
    if saved is not None:
        check_writable(saved)
        if saved.exists() and saved.samefile(checkpoint):
            raise click.BadParameter("must not be the checkpoint itself; name another file", param_hint="--save")


def _record(path: Path, step: int | None) -> Record:
    import qrjax

    with own_errors({}):
        if not path.is_dir():
            return qrjax.Record.load(path)
        from qrjax._cli._orbax import record_in

        return qrjax.Record.from_dict(record_in(path, step))


def _write(path: Path, file: Checkpoint, match: Match, params: Any) -> None:
    """The arrays of the checkpoint, or of its subtree, with the pruned weights among them."""
    from qrjax._adapters._variables import leaves_of, values_of

    new = {match.names[leaf.path]: array for leaf, array in zip(leaves_of(params), values_of(params), strict=True)}
    old = file.read([name for name in match.within if name not in new])
    write(path, {name: new[name] if name in new else old[name] for name in match.within}, file.metadata)
    if file.others:
        click.echo(f"Left out, as they are no arrays of numbers: {', '.join(map(repr, file.others))}", err=True)


def _plain(found: Changes, lost: list[Pruned], pruning: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(found.to_json())
    if lost:
        rows = [row._asdict() for row in lost]
        data["pruning"] = pruning | {"total": total(lost)._asdict(), "rows": rows}
    return data


def _print(title: str, found: Changes, lost: list[Pruned], pruning: dict[str, Any]) -> None:
    output = screen(quiet=False)
    output.line(title)
    output.line(f"\n{found}")
    if not lost:
        return
    share = f"{100 * pruning['sparsity']:.4g} % of the weights that may go, ranked {SCOPES[pruning['scope']]}"
    output.line(f"\nPruned to {pruning['to']} by {pruning['criterion']}: {share}")
    rows = [[r.path, f"{r.weights:,}", f"{r.pruned:,}", f"{r.percent:.1f} %"] for r in (*lost, total(lost))]
    output.table(("variable", "weights", "pruned", "share"), rows)
