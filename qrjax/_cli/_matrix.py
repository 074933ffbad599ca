"""`qrjax matrix`: one matrix of weights, and its statistics beside what the builder declares."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import qrjax
from qrjax._cli._arguments import OneOf, OutputPath, Seed, WholeNumber, examples
from qrjax._cli._failure import Failure
from qrjax._cli._files import shown, written
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._sections import Sectioned, section
from qrjax._cli._weights import (
    DEFAULT_LAYOUT,
    DISTRIBUTIONS,
    DTYPES,
    LARGEST,
    MODES,
    SECOND_NAMES,
    SOURCES,
    Matrix,
    check_size,
    declared,
    figures,
)
from qrjax._layouts._names import LAYOUTS

if TYPE_CHECKING:
    import numpy as np

    from qrjax._cli._reproduction import Attempt

weights, checks, saving = map(section, ("The matrix", "More checks", "Output"))
THEIRS = "jax.random"
LEGEND = {
    False: "Declared are the moments of the builder's distribution and the open interval that holds its values; the "
    "effective rank beside ours is that of jax.nn.initializers.{name}() with this seed.",
    True: "Declared are the moments and the effective rank of a matrix with orthonormal {vectors}.",
}

UNRANKED = "The effective rank of so large a matrix would take minutes. "


@click.command(
    cls=Sectioned,
    epilog=examples(
        "qrjax matrix --rows 784 --columns 64 --show-dist",
        "qrjax matrix --mode xavier --distribution uniform --compare-modes",
        "qrjax matrix --source hash --dtype bfloat16 --test-repro",
        "qrjax matrix --orthogonal --rows 128 --save weights.npy",
    ),
)
@weights("--seed", metavar="N", type=Seed(), default=0, help="For jax.random.key.")
@weights("--rows", metavar="N", type=WholeNumber(1, LARGEST, "--rows 64"), default=784, help="A layer's inputs.")
@weights(
    "--columns", "--cols", metavar="N", type=WholeNumber(1, LARGEST, "--columns 64"), default=64,
    help="A layer's outputs.",
)  # fmt: skip
@weights(
    "--mode", type=OneOf([*MODES, *SECOND_NAMES]), default="he", help="The scale; kaiming means he, glorot xavier."
)
@weights(
    "--distribution", type=OneOf(DISTRIBUTIONS), default="normal",
    help="The normal distribution is truncated at two standard deviations, as in JAX.",
)  # fmt: skip
@weights(
    "--source", type=OneOf(SOURCES), default="sobol", help="Sobol' points (builders _qr) or a hash (builders _hash)."
)
@weights("--layout", type=OneOf(LAYOUTS), default=DEFAULT_LAYOUT, help="Which weights share a Sobol' sequence.")
@weights("--dtype", type=OneOf(DTYPES), default="float32", help="The weights' dtype.")
@weights("--orthogonal", is_flag=True, help="Orthonormal rows or columns, instead of a mode and distribution.")
@checks("--compare-modes", is_flag=True, help="Add a table of all modes and sources, jax.random included.")
@checks("--show-dist", is_flag=True, help="Add a histogram, beside the declared distribution.")
@checks(
    "--test-repro", is_flag=True,
    help="Draw the matrix again in four ways and compare every bit; exit with status 1 if any differs.",
)  # fmt: skip
@saving("--save", metavar="FILE", type=OutputPath(".npy"), help="Save the weights as .npy.")
@saving("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(
    rows: int, columns: int, compare_modes: bool, show_dist: bool, test_repro: bool, save: Path | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Draw one weight matrix and check its statistics.

    Prints the mean, the standard deviation, the extremes and the effective rank beside what the builder declares, and a
    digest of all bits to compare with another machine's.
    """
    from qrjax._cli._histogram import histogram
    from qrjax._cli._reproduction import attempts

    matrix = Matrix(shape=(rows, columns), **options)
    _check(matrix, compare_modes, save)
    with _settings(matrix):
        weights = matrix.drawn()
        found = _described(matrix, weights)
        if compare_modes:
            found["modes"] = [_compared(matrix, mode, source) for mode in MODES for source in (THEIRS, *SOURCES)]
        if show_dist:
            found["histogram"] = [part._asdict() for part in histogram(matrix, weights)]
        if test_repro:
            found["reproduction"] = [attempt._asdict() for attempt in attempts(matrix, weights)]
    if save is not None:
        _save(weights, save)
    if as_json:
        print_json(found)
    else:
        _show(matrix, found, save)
    different = [attempt["how"] for attempt in found.get("reproduction", ()) if attempt["equal"] < attempt["weights"]]
    if different:
        raise Failure(f"the weights differ when drawn {' and '.join(different)}; please report it with this output")


def _check(matrix: Matrix, compare_modes: bool, save: Path | None) -> None:
    def given(name: str) -> bool:
        return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT

    if matrix.source == "hash" and given("layout"):
        raise click.UsageError("`--layout` is of Sobol' points, and --source hash has none; leave out one of them")
    if matrix.orthogonal and (compare_modes or given("mode") or given("distribution")):
        name = "compare-modes" if compare_modes else "mode" if given("mode") else "distribution"
        raise click.UsageError(f"`--{name}` has no meaning for an --orthogonal matrix; leave out one of them")
    if save is not None and matrix.dtype == "bfloat16":
        raise click.UsageError("`--save` cannot keep bfloat16, which .npy files do not know; choose another --dtype")
    check_size(matrix.shape, matrix.dtype)


@contextmanager
def _settings(matrix: Matrix) -> Iterator[None]:
    """JAX with the precision asked for; a layout's warning becomes a line on stderr."""
    import jax

    with jax.enable_x64(matrix.dtype == "float64"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("once", qrjax.RankCollapseWarning)
        yield
    for message in {str(warning.message) for warning in caught}:
        print(f"qrjax matrix: warning: {message}", file=sys.stderr)


def _described(matrix: Matrix, weights: np.ndarray[Any, Any]) -> dict[str, Any]:
    from qrjax._cli._reproduction import digest

    theirs = matrix.draw_theirs()
    found = {
        "builder": f"qrjax.{matrix.builder!r}",
        "seed": matrix.seed,
        "shape": list(matrix.shape),
        "dtype": matrix.dtype,
        "bytes": weights.nbytes,
        "sha256": digest(weights),
        "drawn": figures(weights)._asdict(),
        "declared": declared(matrix, theirs)._asdict(),
    }
    return found | ({"deviation_from_identity": _deviation(weights)} if matrix.orthogonal else {})


def _deviation(weights: np.ndarray[Any, Any]) -> float:
    """The largest entry of |W^T W - I|, or of |W W^T - I| if there are fewer rows than columns."""
    import numpy as np

    wide = weights.astype(np.float64)
    product = wide.T @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.T
    return float(np.abs(product - np.eye(len(product))).max())


def _compared(matrix: Matrix, mode: str, source: str) -> dict[str, Any]:
    own = dataclasses.replace(matrix, mode=mode, source=matrix.source if source == THEIRS else source)
    theirs = own.draw_theirs()
    weights = theirs if source == THEIRS else own.drawn()
    return {
        "mode": mode,
        "source": source,
        "drawn": figures(weights)._asdict(),
        "declared": declared(own, theirs)._asdict(),
    }


def _save(weights: np.ndarray[Any, Any], path: Path) -> None:
    import numpy as np

    with written(path, "choose another --save") as temporary, open(temporary, "wb") as file:
        np.save(file, weights)


def _show(matrix: Matrix, found: dict[str, Any], save: Path | None) -> None:
    from qrjax._cli._histogram import Bin, show
    from qrjax._cli._reproduction import Attempt

    output = Screen()
    rows, columns = matrix.shape
    output.line(f"{found['builder']}, seed {matrix.seed}")
    output.line(f"{rows} x {columns} {matrix.dtype} weights, {found['bytes']:,} bytes")
    output.table(("", "drawn", "declared"), list(_rows(matrix, found)))
    vectors = "columns" if rows >= columns else "rows"
    unranked = UNRANKED * (found["drawn"]["effective_rank"] is None)
    output.text(unranked + LEGEND[matrix.orthogonal].format(name=matrix.name, vectors=vectors))
    output.line(f"SHA-256 {found['sha256']}")
    if "modes" in found:
        _show_modes(found["modes"], output)
    if "histogram" in found:
        show([Bin(**part) for part in found["histogram"]], output)
    if "reproduction" in found:
        _show_attempts([Attempt(**attempt) for attempt in found["reproduction"]], output)
    if save is not None:
        output.line(f"The weights are in {shown(save)}")


def _rows(matrix: Matrix, found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, own in found["drawn"].items():
        target = found["declared"][name]
        sign = {"smallest": "> ", "largest": "< "}.get(name, "") if not matrix.orthogonal else ""
        yield name.replace("_", " "), _number(own), sign + _number(target)
    if matrix.orthogonal:
        rows, columns = matrix.shape
        yield f"max |{'W^T W' if rows >= columns else 'W W^T'} - I|", f"{found['deviation_from_identity']:.2g}", "0"


def _number(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.6g}"


def _show_modes(modes: list[dict[str, Any]], output: Screen) -> None:
    headings = ("mode", "source", "mean", "sd", "declared", "smallest", "largest", "rank")
    rows = []
    for row in modes:
        mean, deviation, *rest = (f"{value:.4g}" if value is not None else "" for value in row["drawn"].values())
        target = f"{row['declared']['standard_deviation']:.4g}"
        rows.append((row["mode"], row["source"], mean, deviation, target, *rest))
    output.table(headings, rows, left={0, 1})


def _show_attempts(found: list[Attempt], output: Screen) -> None:
    rows = [
        (
            attempt.how,
            f"{attempt.weights:,}",
            "equal" if attempt.equal == attempt.weights else f"{attempt.weights - attempt.equal:,} differ",
        )
        for attempt in found
    ]
    output.table(("drawn again", "weights", "bits"), rows)
