"""`qrjax spectrum`: how many directions the weights of every layout have."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import qrjax
from qrjax._cli._arguments import OneOf, PicturePath, WholeNumber, examples
from qrjax._cli._files import shown
from qrjax._cli._picture import check_matplotlib, save
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._weights import DEFAULT_LAYOUT, DISTRIBUTIONS, MODES, SECOND_NAMES
from qrjax._layouts._names import LAYOUTS

if TYPE_CHECKING:
    import numpy as np

BUILDERS = (
    *(f"{mode}_{distribution}" for mode in (*MODES, *SECOND_NAMES) for distribution in DISTRIBUTIONS),
    "normal",
    "truncated_normal",
)
THEIRS, HASH = "jax.random", "hash"
SOURCES = (THEIRS, *LAYOUTS, HASH)
# Rows x columns x the smaller of the two: some two seconds for a matrix.
LARGEST = 2**33
LEGEND = (
    "The effective rank is exp of the entropy of the squared singular values' shares: {most} where all directions "
    f"carry the same, 1 where one carries all. {DEFAULT_LAYOUT} is the default layout; sequence fills the tensor in "
    "the order of one Sobol' dimension, in which rows are XORs of each other."
)


def shape(text: str) -> tuple[int, ...]:
    """A shape such as 784,64 or 3,3,64,128."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 2**32 for part in parts):
        raise click.BadParameter(
            f"must be two sizes or more with commas between them, got {text!r}; for example --shape 784,64 or "
            "--shape 3,3,64,128"
        )
    found = tuple(map(int, parts))
    rows, columns = math.prod(found[:-1]), found[-1]
    if rows * columns * min(rows, columns) > LARGEST:
        raise click.BadParameter(
            f"must be small enough for its singular values, got {rows} x {columns}, which is {4 * rows * columns:,} "
            "bytes; 2048,2048 takes about two seconds for each row of the table and each seed"
        )
    return found


@click.command(
    epilog=examples(
        "qrjax spectrum",
        "qrjax spectrum --shape 1024,1024 --shape 3,3,64,128 --seeds 3",
        "qrjax spectrum --builder he_normal --shape 1000,1000 --plot spectrum.png",
    )
)
@click.option(
    "--shape", "shapes", metavar="SHAPE", type=shape, multiple=True, default=["784,64"],
    help="The tensor's shape: 784,64 or, for a convolution, 3,3,64,128. Repeat it for more tables.",
)  # fmt: skip
@click.option(
    "--builder", metavar="NAME", type=OneOf(BUILDERS), default="glorot_uniform",
    help=f"The initializer's name without its suffix: {'_, '.join([*MODES, *SECOND_NAMES])}_ followed by normal or "
    "uniform; normal; or truncated_normal.",
)  # fmt: skip
@click.option("--seeds", metavar="N", type=WholeNumber(1, 1000, "--seeds 5"), default=5, help="Seeds 0 to N - 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--plot", metavar="FILE", type=PicturePath(), help="Save a picture of the singular values.")
def command(shapes: tuple[tuple[int, ...], ...], builder: str, seeds: int, as_json: bool, plot: Path | None) -> None:
    """Compare the effective rank of every layout.

    Shows the mean over seeds for jax.random's weights, for every layout of the Sobol' sequence, and for the hash. A
    tensor of more than two axes is taken as a matrix with a column for every entry of its last axis.
    """
    if plot is not None:
        if len(shapes) > 1:
            raise click.UsageError(f"`--plot` shows one shape, got {len(shapes)} by --shape; draw them one at a time")
        check_matplotlib()
    output = Screen(as_json)
    tables = [_ranks(builder, found, seeds, output) for found in shapes]
    if as_json:
        print_json({"builder": builder, "seeds": list(range(seeds)), "shapes": tables})
    else:
        for table in tables:
            _show(builder, seeds, table, output)
    if plot is not None:
        _plot(builder, shapes[0], plot)
        if not as_json:
            output.line(f"The singular values of seed 0 are in {shown(plot)}")


def _ranks(builder: str, shape: tuple[int, ...], seeds: int, output: Screen) -> dict[str, Any]:
    ranks: dict[str, list[float]] = {}
    with output.progress(SOURCES, seeds) as advance:
        for source in SOURCES:
            ranks[source] = []
            for seed in range(seeds):
                advance(source, seed, "")
                ranks[source].append(qrjax.effective_rank(_weights(builder, source, shape, seed)))
            advance(source, seeds, "")
    most = min(math.prod(shape[:-1]), shape[-1])
    return {"shape": list(shape), "largest_rank": most, "sources": [_summary(ranks, source) for source in SOURCES]}


def _weights(builder: str, source: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    import jax
    import numpy as np

    init = (
        getattr(jax.nn.initializers, builder)() if source == THEIRS
        else getattr(qrjax, f"{builder}_hash")() if source == HASH
        else getattr(qrjax, f"{builder}_qr")(layout=source)
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)  # the table shows it
        return np.asarray(init(jax.random.key(seed), shape))


def _summary(ranks: dict[str, list[float]], source: str) -> dict[str, Any]:
    found = ranks[source]
    mean = statistics.fmean(found)
    return {
        "source": source,
        "effective_ranks": found,
        "mean": mean,
        "standard_deviation": statistics.stdev(found) if len(found) > 1 else None,
        "relative": mean / statistics.fmean(ranks[THEIRS]),
    }


def _show(builder: str, seeds: int, table: dict[str, Any], output: Screen) -> None:
    size = " x ".join(map(str, table["shape"]))
    output.line(f"{builder}, {size}: effective rank, mean of {seeds} seed{'s' * (seeds != 1)}")
    rows = [_cells(row) for row in table["sources"]]
    output.table(("layout", "effective rank", "sd", f"x {THEIRS}"), rows)
    output.text(LEGEND.format(most=table["largest_rank"]))


def _cells(row: dict[str, Any]) -> Sequence[str]:
    deviation = "" if row["standard_deviation"] is None else f"{row['standard_deviation']:.2f}"
    return row["source"], f"{row['mean']:.2f}", deviation, f"{row['relative']:.3f}"


def _plot(builder: str, shape: tuple[int, ...], path: Path) -> None:
    from qrjax import plot

    matrices = {source: _weights(builder, source, shape, 0) for source in SOURCES}
    save(lambda: plot.spectrum(matrices).figure, path)
