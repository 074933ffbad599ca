"""Shares of weights in equal intervals, drawn and declared, as numbers and as bars of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qrjax._cli._weights import Matrix
from qrjax._values._distributions import Distribution, TruncatedNormal

if TYPE_CHECKING:
    from qrjax._cli._screen import Screen

BINS = 20
# Characters of a bar, and of the columns before it.
WIDTH, NARROWEST, NUMBERS = 36, 8, 46


class Bin(NamedTuple):
    """An interval and the shares of weights in it, from 0 to 1."""

    low: float
    high: float
    drawn: float
    declared: float


def histogram(matrix: Matrix, weights: np.ndarray[Any, Any]) -> list[Bin]:
    wide = weights.astype(np.float64)
    reach, below = _law(matrix, wide)
    counts, _ = np.histogram(wide, BINS, (-reach, reach))
    edges = reach * (2 * np.arange(BINS + 1) - BINS) / BINS  # those of NumPy miss 0 by their rounding
    declared = np.diff([below(edge) for edge in edges])
    columns = (edges[:-1], edges[1:], counts / wide.size, declared)
    return [Bin(*map(float, row)) for row in zip(*columns, strict=True)]


def _law(matrix: Matrix, weights: np.ndarray[Any, Any]) -> tuple[float, Any]:
    """How far the intervals reach, and the declared distribution function."""
    if matrix.orthogonal:
        return float(np.abs(weights).max()), lambda x: _sphere(x, max(matrix.shape))
    specification = matrix.builder.specification(matrix.shape, np.dtype(np.float64))
    law, scale = specification.distribution, specification.scaling.scale
    return scale * law.bounds[1], lambda x: _standard(law, x / scale)


def _standard(law: Distribution, z: float) -> float:
    if not isinstance(law, TruncatedNormal):
        return (z + 1) / 2
    low, at, high = (math.erf(bound / math.sqrt(2)) for bound in (law.lower, z, law.upper))
    return (at - low) / (high - low)


def _sphere(x: float, n: int) -> float:
    """Of one coordinate of a uniform point of the sphere in n dimensions: its square is Beta(1/2, (n - 1) / 2)."""
    from jax.scipy.special import betainc

    # With one dimension the coordinate is 1 or -1, where betainc is not defined.
    inside = float(betainc(0.5, (n - 1) / 2, min(x * x, 1.0))) if n > 1 else float(abs(x) >= 1)
    return (1 + math.copysign(inside, x)) / 2


def show(bins: Sequence[Bin], output: Screen) -> None:
    most = max(max(found.drawn, found.declared) for found in bins)
    room = WIDTH if output.width is None else min(WIDTH, max(NARROWEST, output.width - NUMBERS))
    rows = [
        (
            f"{found.low:.4g}",
            f"{found.high:.4g}",
            f"{100 * found.drawn:.2f}",
            f"{100 * found.declared:.2f}",
            _bar(found.drawn / most, found.declared / most, room, output),
        )
        for found in bins
    ]
    title = f"{output.block} drawn {output.mark} declared"
    output.table(("from", "to", "drawn, %", "declared, %", title), rows, left={4})


def _bar(drawn: float, declared: float, width: int, output: Screen) -> str:
    """Blocks up to what was drawn, and a mark at what is declared."""
    cells = list((output.block * round(drawn * width)).ljust(width))
    cells[min(round(declared * width), width - 1)] = output.mark
    return "".join(cells).rstrip()
