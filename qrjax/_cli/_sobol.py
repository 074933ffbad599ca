"""`qrjax sobol`: points of the Sobol' sequence."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from qrjax._cli._arguments import OneOf, OutputPath, PicturePath, Seed, WholeNumber, examples
from qrjax._cli._files import shown, written
from qrjax._cli._picture import check_matplotlib
from qrjax._cli._picture import save as save_picture
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._sections import Sectioned, section
from qrjax._sequences._names import DIMENSIONS, SCRAMBLES

if TYPE_CHECKING:
    import numpy as np

sequence, output = map(section, ("Points", "Output"))
LARGEST = 2**28
FINEST = 2**12  # intervals of a picture
LONGEST = {"float32": 14, "float64": 23}  # of the dtypes' shortest digits
INTEGERS = 2**32
ORIGIN = "Point 0 of the plain sequence is 0 in all dimensions; it is moved inside (0, 1). --start 1 leaves it out."


def dimensions(text: str) -> list[int]:
    """Dimensions such as 3 and 1,2,5 and 1-4,7, in that order."""
    found: list[int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (0, 0) if numbers is None else (int(numbers[1]), int(numbers[2] or numbers[1]))
        if not 1 <= first <= last <= DIMENSIONS:
            raise click.BadParameter(
                f"must be dimensions from 1 to {DIMENSIONS}, got {text!r}; for example --dim 3, --dim 1,2,5, --dim 1-4"
            )
        found.extend(range(first, last + 1))
    return found


@click.command(
    cls=Sectioned,
    epilog=examples(
        "qrjax sobol --dim 1-3 --n 8 --start 1",
        "qrjax sobol --dim 20,21 --n 256 --scramble owen --seed 1 --plot points.png",
        "qrjax sobol --dim 1-10 --n 1024 --csv > points.csv",
        "qrjax sobol --dim 5 --n 1000000 --save points.npy",
    ),
)
@sequence(
    "--dim", "dims", metavar="DIMS", type=dimensions, default="1-2",
    help=f"One dimension, a list such as 1,2,5 or a range such as 1-4; at most {DIMENSIONS}.",
)  # fmt: skip
@sequence("--n", "count", metavar="N", type=WholeNumber(1, INTEGERS, "--n 8"), default=8, help="How many points.")
@sequence(
    "--start", metavar="N", type=WholeNumber(0, INTEGERS - 1, "--start 1"), default=0, help="The first point's number."
)
@sequence(
    "--scramble", type=OneOf(["none" if name is None else name for name in SCRAMBLES]), default="none",
    help="How the points are randomized.",
)  # fmt: skip
@sequence("--seed", metavar="N", type=Seed(), default=0, help="The scramble's seed.")
@sequence("--dtype", type=OneOf(LONGEST), default="float32", help="The points' dtype.")
@output("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@output("--json", "as_json", is_flag=True, help="Print JSON.")
@output("--save", metavar="FILE", type=OutputPath(".npy", ".csv"), help="Save the points as .npy or .csv.")
@output(
    "--plot", metavar="FILE", type=PicturePath(),
    help="Save a picture of two dimensions.",
)  # fmt: skip
def command(
    dims: list[int], count: int, start: int, scramble: str, seed: int, dtype: str, as_csv: bool, as_json: bool,
    save: Path | None, plot: Path | None,
) -> None:  # fmt: skip
    """Print, save or plot points of the Sobol' sequence.

    A point is computed from its number alone, so any run of the sequence's 2^32 points costs the same. Without
    --scramble the points are those of Joe and Kuo's direction numbers, the same as SciPy's.
    """
    _check(dims, count, start, dtype, as_csv and as_json)
    if plot is not None:
        if len(dims) != 2:
            raise click.UsageError(f"`--plot` shows two dimensions, got {len(dims)} by --dim; for example --dim 1,2")
        check_matplotlib()
    points = _points(dims, count, start, scramble, seed, dtype)
    if save is not None:
        _save(points, dims, start, save)
    if plot is not None:
        _plot(points, dims, plot)
    if as_json:
        print_json({
            "dimensions": dims, "start": start, "scramble": None if scramble == "none" else scramble,
            "seed": None if scramble == "none" else seed, "dtype": dtype, "points": points.tolist(),
        })  # fmt: skip
    elif as_csv:
        _write_csv(points, dims, start, sys.stdout)
    elif save is None and plot is None:
        _print(points, dims, start, scramble)
    else:
        for path in filter(None, (save, plot)):
            Screen().line(f"{count:,} points are in {shown(path)}")


def _check(dims: Sequence[int], count: int, start: int, dtype: str, twice: bool) -> None:
    if twice:
        raise click.UsageError("`--csv` and `--json` exclude each other; leave out one of them")
    if start + count > INTEGERS:
        raise click.UsageError(f"`--start` {start} and `--n` {count} go beyond the sequence's {INTEGERS} points")
    if count * len(dims) > LARGEST:
        size = count * len(dims) * int(dtype[-2:]) // 8
        raise click.UsageError(
            f"`--n` {count} points of {len(dims)} dimensions are {size:,} bytes of {dtype}; this command makes up to "
            f"{LARGEST:,} numbers at once, and the next ones by --start"
        )


def _points(dims: Sequence[int], count: int, start: int, scramble: str, seed: int, dtype: str) -> np.ndarray[Any, Any]:
    """The points, shape (count, dimensions)."""
    import jax
    import numpy as np

    import qrjax

    chosen: Any = {} if scramble == "none" else {"scramble": scramble, "key": jax.random.key(seed)}

    def line(dim: jax.Array) -> jax.Array:
        return qrjax.sobol.points_range(dim, start, count, dtype, **chosen)

    with jax.enable_x64(dtype == "float64"):
        # One program for all dimensions: a dimension known when compiling would be compiled on its own.
        return np.asarray(jax.jit(jax.vmap(line, out_axes=1))(jax.numpy.asarray(dims)))


def _plot(points: np.ndarray[Any, Any], dims: Sequence[int], path: Path) -> None:
    from qrjax import plot

    first, second = (f"dimension {dim}" for dim in dims)
    grid = _intervals(len(points))
    save_picture(lambda: plot.points(points, labels=(first, second), grid=grid).figure, path)


def _intervals(count: int) -> tuple[int, int] | None:
    """As many elementary intervals as points, as square as may be; None where that is no grid to look at."""
    power = count.bit_length() - 1
    return (2 ** (power - power // 2), 2 ** (power // 2)) if count == 2**power <= FINEST else None


def _save(points: np.ndarray[Any, Any], dims: Sequence[int], start: int, path: Path) -> None:
    import numpy as np

    with written(path, "choose another --save") as temporary:
        if path.suffix.lower() == ".csv":
            with open(temporary, "w", newline="") as file:
                _write_csv(points, dims, start, file)
        else:
            with open(temporary, "wb") as opened:
                np.save(opened, points)


def _write_csv(points: np.ndarray[Any, Any], dims: Sequence[int], start: int, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_headings(dims))
    writer.writerows(_lines(points, start))


def _headings(dims: Sequence[int]) -> list[str]:
    return ["index", *(f"dimension {dim}" for dim in dims)]


def _lines(points: np.ndarray[Any, Any], start: int) -> Iterator[list[str]]:
    """Every point's number and its coordinates, in as few digits as give back the same float."""
    for number, point in enumerate(points, start):
        yield [str(number), *map(str, point)]


def _print(points: np.ndarray[Any, Any], dims: Sequence[int], start: int, scramble: str) -> None:
    """As a table, but line by line: there may be millions, and a reader who leaves."""
    page = Screen()
    first, other = max(5, len(str(start + len(points) - 1))), LONGEST[points.dtype.name] + 2
    fit = len(dims) if page.width is None else max(1, (page.width - first) // other)
    for begin in range(0, len(dims), fit):
        print("\n" * (begin > 0), end="")
        some = slice(begin, begin + fit)
        for index, *cells in itertools.chain([_headings(dims[some])], _lines(points[:, some], start)):
            print(index.ljust(first) + "".join(f"  {cell.ljust(other - 2)}" for cell in cells).rstrip())
    if start == 0 and scramble == "none":
        print()
        page.text(ORIGIN)
