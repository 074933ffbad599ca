"""`qrjax track`: what training changed, and what may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from qrjax._cli._arguments import OneOf, OutputPath, PicturePath, Seed, WholeNumber, examples
from qrjax._cli._causes import own_errors
from qrjax._cli._code import BELONGING, calling, model, with_code
from qrjax._cli._files import WRITTEN, shown
from qrjax._cli._inputs import RealNumber
from qrjax._cli._models import NAME
from qrjax._cli._picture import check_matplotlib, save
from qrjax._cli._pruning import Pruned, check_belonging, pruned, total
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._sections import Sectioned, section
from qrjax._tracking._names import CRITERIA

if TYPE_CHECKING:
    from qrjax import Record
    from qrjax._cli._checkpoint import Checkpoint
    from qrjax._cli._matching import Match
    from qrjax._cli._series import Point
    from qrjax._tracking._changes import Changes

OPTIONS = {
    "threshold": "--threshold", "sparsity": "--prune-sparsity", "select": "--select", "keep": "--keep",
}  # fmt: skip
reading, pruning, output = map(section, ("Reading", "Pruning", "Output"))
SCOPES = {"layer": "in each variable", "global": "all together"}


class Reading(NamedTuple):
    """A checkpoint, its record, and which of its arrays are the record's weights."""

    record: Path
    checkpoint: Path
    known: Record
    file: Checkpoint
    match: Match


class Existing(click.Path):
    """Files and folders that are there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not Path(value).exists():
            self.fail(f"must be there, and there is no file or folder {str(value)!r}", param, ctx)
        return Path(value)


@click.command(
    cls=Sectioned,
    epilog=examples(
        "qrjax track record.json checkpoints/20",
        "qrjax track record.json checkpoints --threshold 1e-6 --plot changes.png",
        "qrjax track record.json model.safetensors --json",
        "qrjax track record.json run/checkpoint_* --plot movement.png",
        "qrjax track record.json model.npz --model model.py:CNN --input 1,28,28,1",
        "qrjax track record.json model.npz --prune-sparsity 0.9 --save pruned.npz",
        "qrjax track record.json model.npz --prune-sparsity 0.5 --criterion movement",
    ),
)
@click.argument("record", metavar="RECORD", type=Existing())
@click.argument("checkpoints", metavar="CHECKPOINT...", type=Existing(), nargs=-1, required=True)
@reading(
    "--step", metavar="N", type=WholeNumber(0, 10**12, "--step 20"),
    help="Which step to read from a folder of several.  [default: the last]",
)  # fmt: skip
@reading(
    "--subtree", metavar="PATH",
    help="Where in the checkpoint the weights are, such as state/params.  [default: wherever they are found]",
)  # fmt: skip
@reading(
    "--threshold", metavar="NUMBER", type=RealNumber("--threshold 1e-6", 0), default=0.0,
    help="Count a weight as changed if it moved by more than this.",
)  # fmt: skip
@model(
    "--model", "target", metavar=NAME,
    help="The model, if its weights come from initializers other than qrjax's. It is called with --input, as in qrjax "
    "analyze; without --input it must be a function of a key, or an NNX class.",
)  # fmt: skip
@calling
@output("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@output("--plot", metavar="PATH", type=PicturePath(), help="Save a picture of what changed.")
@pruning(
    "--prune-sparsity", "sparsity", metavar="FRACTION", type=RealNumber("--prune-sparsity 0.5", 0, 1),
    help="The fraction of the weights to prune, from 0 to 1.",
)  # fmt: skip
@pruning(
    "--criterion", metavar="NAME", type=OneOf(CRITERIA), default="change",
    help=f"What weights are ranked by, the lowest being pruned: {', '.join(CRITERIA)}.",
)  # fmt: skip
@pruning(
    "--scope", metavar="NAME", type=OneOf(("layer", "global")), default="layer",
    help="Whether the fraction applies to every variable (layer) or to all of them together (global).",
)  # fmt: skip
@pruning(
    "--to", metavar="NAME", type=OneOf(("zero", "initial")), default="zero",
    help="What pruned weights become: zero, or initial, the values they started with.",
)  # fmt: skip
@pruning(
    "--select", metavar="PATTERN", multiple=True,
    help="Which variables may be pruned, such as '*/kernel'.  [default: those of two or more axes, but no biases or "
    "scales]",
)  # fmt: skip
@pruning("--keep", metavar="PATTERN", multiple=True, help="Which variables may not be pruned.")
@pruning("--seed", metavar="N", type=Seed(), default=0, help="For the criterion random.")
@output(
    "--save", "saved", metavar="PATH", type=OutputPath(*WRITTEN),
    help="Save the checkpoint with its weights pruned, as .npz or .safetensors; other arrays are left as they are.",
)  # fmt: skip
def command(
    record: Path, checkpoints: tuple[Path, ...], step: int | None, subtree: str | None, threshold: float,
    target: str | None, as_json: bool, plot: Path | None, saved: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Tell which weights training moved, and prune those that it left where they were.

    RECORD is a file that qrjax.record(...).save(file) wrote, or an Orbax checkpoint with a record in its metadata. It
    says how every weight was drawn, so no copy of the initial weights is needed. CHECKPOINT is an Orbax checkpoint or a
    folder of several steps; a .safetensors file, or the index of several; a .npz or .msgpack file whose names are the
    weights' paths, joined by "/" or "."; or a file of Keras weights. For several checkpoints of one run, the movement
    of each layer is shown against the steps.
    """
    check_belonging(click.get_current_context())
    call = {name: options.pop(name) for name in BELONGING}
    _check_outputs(checkpoints[0], saved, plot)
    if len(checkpoints) > 1 and (step is not None or options["sparsity"] is not None):
        wrong = "--step" if step is not None else "--prune-sparsity"
        raise click.UsageError(f"{wrong} is for one checkpoint, got {len(checkpoints)}")
    from qrjax._cli._checkpoints import checkpoint_at
    from qrjax._cli._matching import matched
    from qrjax._cli._series import tracked

    known = with_code(_record(record, step), target, call)
    if len(checkpoints) > 1:
        _follow(record, tracked(known, checkpoints, subtree, threshold), as_json, plot)
    else:
        file = checkpoint_at(checkpoints[0], step)
        one = Reading(record, checkpoints[0], known, file, matched(known, file, subtree))
        _report(one, threshold, as_json, plot, saved, options)


def _follow(record: Path, points: list[Point], as_json: bool, plot: Path | None) -> None:
    """Of several checkpoints."""
    from qrjax._cli._series import draw_series, print_series

    print_series(record, points, as_json)
    if plot is not None:
        save(lambda: draw_series(points), plot)
        click.echo(f"The picture is in {shown(plot)}", err=as_json)


def _report(
    one: Reading, threshold: float, as_json: bool, plot: Path | None, saved: Path | None, pruning: dict[str, Any]
) -> None:
    """Of one checkpoint."""
    import qrjax
    from qrjax import plot as pictures

    with own_errors(OPTIONS), one.match.precision:
        params = one.match.params(one.file)
        found = qrjax.changes(one.known, params, threshold=threshold)
        lost, left = pruned(one.known, params, **pruning) if pruning["sparsity"] is not None else ([], None)
        if plot is not None:
            save(lambda: pictures.changes(found).figure, plot)
    if saved is not None:
        _write(saved, one.file, one.match, left)
    if as_json:
        print_json(_plain(found, lost, pruning))
    else:
        place = f", weights at {one.match.place!r}" if one.match.place else ""
        _print(f"{one.checkpoint} ({one.file.kind}{place}) against {one.record}", found, lost, pruning)
    for name, path in (("picture", plot), ("pruned checkpoint", saved)):
        if path is not None:
            click.echo(f"The {name} is in {shown(path)}", err=as_json)


def _check_outputs(checkpoint: Path, saved: Path | None, plot: Path | None) -> None:
    from qrjax._cli._checkpoints import check_writable

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
    from qrjax._cli._checkpoints import write

    new = {match.names[leaf.path]: array for leaf, array in zip(leaves_of(params), values_of(params), strict=True)}
    old = file.read([name for name in match.within if name not in new])
    arrays = {match.written.get(n, n): new[n] if n in new else old[n] for n in match.within}
    write(path, arrays, file.metadata)
    if file.others:
        click.echo(f"Left out, as they are no arrays of numbers: {', '.join(map(repr, file.others))}", err=True)


def _plain(found: Changes, lost: list[Pruned], pruning: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(found.to_json())
    if lost:
        rows = [row._asdict() for row in lost]
        data["pruning"] = pruning | {"total": total(lost)._asdict(), "rows": rows}
    return data


def _print(title: str, found: Changes, lost: list[Pruned], pruning: dict[str, Any]) -> None:
    page = Screen()
    page.line(title)
    page.gap()
    page.show(found._table()._replace(title=""))
    if not lost:
        return
    share = f"{100 * pruning['sparsity']:.4g} % of the weights that may go, ranked {SCOPES[pruning['scope']]}"
    page.gap()
    page.text(f"Pruned to {pruning['to']} by {pruning['criterion']}: {share}")
    rows = [[r.path, f"{r.weights:,}", f"{r.pruned:,}", f"{r.percent:.1f} %"] for r in (*lost, total(lost))]
    page.table(("variable", "weights", "pruned", "share"), rows)
