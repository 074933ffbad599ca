"""`qrjax train`: the paper's experiments."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qrjax._cli._arguments import OneOf, OutputPath, Positive, SeveralOf, examples
from qrjax._cli._failure import Failure
from qrjax._cli._files import shown
from qrjax._cli._results import damage_told
from qrjax._cli._screen import Screen
from qrjax._cli._sections import Sectioned, section
from qrjax._experiments._names import INITIALIZERS, MARK, OWN, SOURCES
from qrjax._experiments._schemes import SCHEMES, Scheme
from qrjax._experiments._settings import KINDS, MODELS, OPTIMIZERS, Settings
from qrjax._files._journal import encoded
from qrjax._terminal._cells import counted

if TYPE_CHECKING:
    from qrjax._experiments._records import Record


network, inputs, weights, training = map(section, ("Network", "Data", "Initial weights", "Training"))
search, output = map(section, ("First dimension of the source 'sequence'", "Output"))


def _numbers(option: Callable[..., Callable[[Any], Any]], *added: tuple[str, int | None, str]) -> Callable[[Any], Any]:
    """Options of positive whole numbers: name, default and help of each."""

    def decorate(function: Any) -> Any:
        for name, default, help in reversed(added):
            function = option(name, metavar="N", type=Positive(), default=default, help=help)(function)
        return function

    return decorate


class Initializers(SeveralOf):
    """The paper's, and a person's own, each MODULE:FACTORY."""

    def __init__(self) -> None:
        super().__init__(INITIALIZERS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = dict.fromkeys(str(value).split(","))
        theirs = ",".join(word for word in words if MARK not in word)
        known = super().convert(theirs, param, ctx) if theirs else ()
        return (*known, *(word for word in words if MARK in word))


def _rates(_context: click.Context, _option: click.Parameter, text: str | None) -> float | tuple[float, ...] | None:
    """A number, or several with commas between."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"must be a number, or several with commas between, got {text!r}; for example 0.001,0.01"
        ) from None
    return found if len(found) > 1 else found[0]


@click.command(
    cls=Sectioned,
    epilog=examples(
        "qrjax train --model cnn --initializer he_normal --out results.jsonl",
        "qrjax train --initializer he_normal,mypackage.peers:sinusoidal --out peers.jsonl",
        "qrjax train --model mlp2,cnn --initializer all --source all --out results.jsonl",
        "qrjax train --dataset mnist1d --depth 3 --learning-rate 0.0003,0.001,0.003 --validation 0.2",
        "qrjax train --dataset mnist --data ~/mnist --source random,sequence --scheme auto --out mnist.jsonl",
        "qrjax aggregate results.jsonl",
    ),
)
@network("--model", type=SeveralOf(MODELS), default="mlp2", help="The network.")
@network("--filters", metavar="N,N", default="16,32", help="Filters of the CNN's convolutions, in order.")
@_numbers(
    network,
    ("--units", Settings.units, "Width of hidden layers, of the LSTM and of the Transformer."),
    ("--heads", Settings.heads, "Heads of the Transformer's attention."),
    ("--blocks", Settings.blocks, "Blocks of the Transformer."),
    ("--depth", Settings.depth, "How many times each hidden layer is repeated."),
)
@network("--norms/--no-norms", default=True, help="Whether the Transformer has its LayerNorms.")
@inputs(
    "--dataset", type=OneOf(list(KINDS)), default="digits", help="What to train on; digits and mnist1d need no files."
)
@inputs("--data", "folder", metavar="FOLDER", type=click.Path(path_type=Path), help="Where the dataset's files are.")
@inputs("--download", is_flag=True, help="Fetch missing files into FOLDER or a cache.")
@inputs("--checksum", is_flag=True, help="Compare the files' checksums with the published ones.")
@_numbers(
    inputs,
    ("--limit", None, "Keep the first N training and test examples."),
    ("--vocabulary", Settings.vocabulary, "IMDB: how many words to keep."),
    ("--length", Settings.length, "IMDB: tokens in a review."),
)
@weights(
    "--initializer", type=Initializers(), default="glorot_uniform",
    help=f"The paper's ten, {', '.join(INITIALIZERS)}; all; or your own, package.module:factory.",
)  # fmt: skip
@weights("--source", type=SeveralOf(SOURCES), default="random,sobol", help="Sources of randomness.")
@training("--optimizer", type=SeveralOf(OPTIMIZERS), default="adam", help="momentum is SGD with a momentum of 0.9.")
@training(
    "--learning-rate", metavar="X[,X]", callback=_rates,
    help="One rate, or several of which validation examples choose the best.  [default: 0.001 for Adam, 0.01 for SGD, "
    "as in Keras]",
)  # fmt: skip
@training(
    "--validation", metavar="SHARE", type=float, default=Settings.validation,
    help="The share of the training examples held out to choose rates and to stop early.",
)  # fmt: skip
@_numbers(
    training,
    ("--epochs", Settings.epochs, "Passes over the training data."),
    ("--batch-size", Settings.batch_size, "Examples in a step."),
    ("--seeds", 20, "Networks for each initializer, trained side by side."),
    ("--chunk", None, "At most N seeds side by side on a device.  [default: as many as fit in half of its memory]"),
)
@search("--scheme", type=OneOf(list(SCHEMES)), default="increment-end", help="How each seed's dimension is chosen.")
@_numbers(
    search,
    ("--scheme-min-dim", Scheme.min_dim, "The smallest dimension."),
    ("--scheme-count", Scheme.count, "auto: first dimensions tried."),
    ("--scheme-range", Scheme.range, "auto: the range of dimensions they are spread over."),
    ("--scheme-epochs", Scheme.epochs, "auto: epochs of a trial."),
    ("--scheme-repetitions", Scheme.repetitions, "auto: trials of each."),
)
@output(
    "--out", metavar="PATH", type=OutputPath(".jsonl"), default="results.jsonl",
    help="Where to save the results, as JSON lines; an existing file is added to.",
)  # fmt: skip
@output("--json", "as_json", is_flag=True, help="Print the records of this run as a JSON array.")
@output("--quiet", is_flag=True, help="Plain text only, without progress bars or colors.")
def command(
    model: Sequence[str], initializer: Sequence[str], source: Sequence[str], optimizer: Sequence[str],
    folder: Path | None, checksum: bool, download: bool, seeds: int, chunk: int | None, out: Path, as_json: bool,
    quiet: bool, filters: str, **options: Any,
) -> None:  # fmt: skip
    """Train networks from the paper's initializers and sources of randomness.

    This is the harness of arXiv 2408.02654: every combination of --model, --optimizer, --initializer and --source
    ("a,b" or "all") is trained for every seed, on scikit-learn's digits, on MNIST-1D, or on files of MNIST, CIFAR-10 or
    IMDB. The sources are random (jax.nn.initializers), sobol (the _qr builders), sequence (the paper's order), hash
    (the _hash builders), autoinit (qrjax.autoinit with the initializer's distribution), stable (the same with that
    target) and calibrate (qrjax.calibrate applied to what random draws). An initializer of your own, given as a
    function that returns it, is a source in itself and is compared with the same baseline. A seed sees the data in the
    same order everywhere, and seeds train side by side on all devices. Results are saved as soon as they exist; a run
    that was killed continues where it stopped when you repeat the command. Needs: pip install 'qrjax[bench]'
    """
    if (folder is None and not download) != (options["dataset"] in WITHOUT_FILES):
        raise click.UsageError(
            "--data must name the folder of the dataset's files, or --download fetch them; digits, which come with "
            "scikit-learn, and mnist1d, which is made, need none"
        )
    scheme = _scheme(options)
    chosen = {**options, "filters": _filters(filters)}
    try:
        experiments = [
            Settings(**chosen | {"model": m, "optimizer": o, "initializer": i, "source": s})
            for m, o, i in itertools.product(model, optimizer, initializer)
            for s in ((OWN,) if MARK in i else source)
        ]
    except ValueError as error:
        raise click.UsageError(as_options(str(error))) from error
    data = {"folder": folder, "checksums": checksum, "download": download}
    records = _run(experiments, seeds, out, data, scheme, chunk, progress=not (quiet or as_json))
    if as_json:
        click.echo(f"[{', '.join(map(encoded, records))}]")
        return
    page = Screen(quiet)
    same, table = _table(records, seeds, page.plus_minus)
    page.text(same)
    page.table(*table)
    page.line(f"The results are in {shown(out)}")
    if len({settings.source for settings in experiments}) > 1:
        page.line(f"Compare them: qrjax aggregate {shlex.quote(os.path.relpath(out))}")


WITHOUT_FILES = ("digits", "mnist1d")
NAMES = ("model", "optimizer", "initializer", "source")
HEADINGS = ("test accuracy, %", "epoch 1", "loss", "s/seed")


def _scheme(options: dict[str, Any]) -> Scheme:
    fields = ("min_dim", "count", "range", "epochs", "repetitions")
    try:
        return Scheme(options.pop("scheme"), *(options.pop(f"scheme_{field}") for field in fields))
    except ValueError as error:
        raise click.UsageError(as_options(str(error))) from error


def as_options(message: str) -> str:
    """A message about arguments, in the words of the command line."""
    words = {
        "folder": "--data",
        "scheme": "--scheme",
        "checksums": "--checksum",
        "download": "--download",
        "seeds": "--seeds",
    }
    words |= {name: f"--scheme-{name.replace('_', '-')}" for name in ("min_dim", "count", "range", "repetitions")}
    for field in dataclasses.fields(Settings):
        words[field.name] = f"--{field.name.replace('_', '-')}"
    for name, option in words.items():
        message = message.replace(f"`{name}`", f"`{option}`")
    return message


def _filters(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"must be whole numbers with commas between, got {text!r}; for example 16,32", param_hint="--filters"
        ) from None


def _run(
    experiments: Sequence[Settings], seeds: int, out: Path, data: dict[str, Any], scheme: Scheme, chunk: int | None,
    progress: bool,
) -> list[Record]:  # fmt: skip
    from qrjax._experiments._run import run

    if any(settings.source == OWN for settings in experiments) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with damage_told("qrjax train"):
            return run(experiments, seeds, out, **data, scheme=scheme, chunk=chunk, progress=progress)
    except KeyboardInterrupt:
        click.echo(f"\nWhat was finished is in {shown(out)}; the same command goes on with the rest.", err=True)
        raise
    except MemoryError as error:
        raise Failure(f"the memory does not suffice: {error}; smaller sizes, --limit or --chunk may help") from error
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise Failure("the memory does not suffice; smaller sizes, --limit or --chunk may help") from error
    except (ValueError, ImportError, OSError) as error:
        raise Failure(as_options(str(error))) from error


def _table(records: Sequence[Record], seeds: int, plus_minus: str) -> tuple[str, tuple[Any, ...]]:
    """What all rows have in common, in words, and the headings, rows and names of the table."""
    groups = [records[start : start + seeds] for start in range(0, len(records), seeds)]
    every = [[str(group[0]["settings"][name]) for name in NAMES] for group in groups]
    told = [k for k, column in enumerate(zip(*every, strict=True)) if len(set(column)) > 1] or [len(NAMES) - 1]
    rows = [
        (*(names[k] for k in told), *_figures(group, plus_minus)) for names, group in zip(every, groups, strict=True)
    ]
    settings = records[0]["settings"]
    common = [settings["dataset"], *(every[0][k] for k in range(len(NAMES)) if k not in told)]
    same = f"{', '.join(common)}: {counted(settings['epochs'], 'epoch')}, {counted(seeds, 'seed')} a row"
    return same, ((*(NAMES[k] for k in told), *HEADINGS), rows, range(len(told)))


def _figures(records: Sequence[Record], plus_minus: str) -> tuple[str, ...]:
    import numpy as np

    from qrjax._experiments._records import stopped

    last, first = (100 * np.array([stopped(record)[epoch] for record in records]) for epoch in (-1, 0))
    spread = f" {plus_minus} {last.std(ddof=1):.2f}" if len(records) > 1 else ""
    loss = np.mean([record["loss"][-1] for record in records])
    seconds = np.mean([record["seconds"]["initialize"] + record["seconds"]["train"] for record in records])
    return (f"{last.mean():.2f}{spread}", f"{first.mean():.2f}", f"{loss:.4f}", f"{seconds:.2f}")
