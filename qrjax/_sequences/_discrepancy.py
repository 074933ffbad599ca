"""How far a set of points is from uniform: L2 discrepancies in closed form.

Hickernell 1998; Zhou, Fang, Ning 2013, "Mixture discrepancy for quasi-random point sets", eq. 18; Warnock 1972.

On the host in float64: they are differences of numbers near one, of which float32 would leave no digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from qrjax._terminal._received import received

Kind = Literal["centred", "wrap-around", "mixture", "l2-star"]
Floats = np.ndarray
# Differences of so many coordinates are held at once.
CHUNK = 1 << 21


def _centred(x: Floats) -> float:
    away = np.abs(x - 0.5)
    alone = np.prod(1 + away / 2 - away**2 / 2, axis=1).mean()

    def pair(rows: slice) -> Floats:
        return 1 + away[rows, None] / 2 + away / 2 - np.abs(x[rows, None] - x) / 2

    return float((13 / 12) ** x.shape[1] - 2 * alone + _mean_over_pairs(x, pair))


def _wrap_around(x: Floats) -> float:
    def pair(rows: slice) -> Floats:
        apart = np.abs(x[rows, None] - x)
        return 1.5 - apart * (1 - apart)

    return float(_mean_over_pairs(x, pair) - (4 / 3) ** x.shape[1])


def _mixture(x: Floats) -> float:
    away = np.abs(x - 0.5)
    alone = np.prod(5 / 3 - away / 4 - away**2 / 4, axis=1).mean()

    def pair(rows: slice) -> Floats:
        apart = np.abs(x[rows, None] - x)
        return 15 / 8 - away[rows, None] / 4 - away / 4 - apart * (3 - 2 * apart) / 4

    return float((19 / 12) ** x.shape[1] - 2 * alone + _mean_over_pairs(x, pair))


def _l2_star(x: Floats) -> float:
    alone = np.prod((1 - x**2) / 2, axis=1).mean()

    def pair(rows: slice) -> Floats:
        return 1 - np.maximum(x[rows, None], x)

    # Its square is never below 0, but what rounding leaves of it may be.
    return float(np.sqrt(max(0.0, (1 / 3) ** x.shape[1] - 2 * alone + _mean_over_pairs(x, pair))))


def _mean_over_pairs(x: Floats, pair: Callable[[slice], Floats]) -> float:
    """The mean over all pairs of points of the product over the coordinates of `pair`, some rows at a time."""
    count, dims = x.shape
    step = max(1, CHUNK // (count * dims))
    sums = [np.prod(pair(slice(start, start + step)), axis=2).sum() for start in range(0, count, step)]
    return float(np.sum(sums)) / count**2


KINDS: dict[str, Callable[[Floats], float]] = {
    "centred": _centred, "wrap-around": _wrap_around, "mixture": _mixture, "l2-star": _l2_star,
}  # fmt: skip


def discrepancy_of(points: Floats, kind: str) -> float:
    """Of points that were checked."""
    return KINDS[kind](points)


def check_points(points: object) -> Floats:
    """Points as float64, shape (n, d).

    Raises:
      TypeError: if they are traced, or no real numbers.
      ValueError: if they have another shape, are none, or lie outside [0, 1].
    """
    if isinstance(points, jax.core.Tracer):
        raise TypeError("`points` must not be traced: a discrepancy needs float64; call it outside of jit")
    try:
        x = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`points` must be an array of real numbers, got {received(points)}") from None
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"`points` must have the shape (n, d), a row for each point, got {x.shape}")
    if not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"`points` must lie in [0, 1], got values from {x.min():g} to {x.max():g}; scale them")
    return x
