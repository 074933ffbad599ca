"""What functions of several sources have in common: correlations of the result, and its relation to them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals._quadrature import Floats, normal_scores, ordered, phi_inverse
from qrjax._signals._signal import HUGE, Signal, Source

Function = Callable[..., Floats]
# Above this, two sources are one up to a sign.
ONE = 1.0 - 1e-9


def finite(values: Any) -> Floats:
    return np.clip(np.asarray(values, np.float64), -HUGE, HUGE)


def source_tables(operands: list[Signal], sources: list[Source]) -> list[Floats]:
    return [functools.reduce(np.minimum, (o.rho for o in operands if o.source is s)) for s in sources]


def same(tables: Sequence[Floats]) -> Any:
    """Where two elements have every source in common."""
    return functools.reduce(np.logical_and, (table >= ONE for table in tables))


def ties(
    grid: Floats, weights: Floats | None, sources: list[tuple[Source, Floats]], order: NDArray[np.intp] | None = None
) -> list[tuple[Source, float]]:
    """The correlation of the new source, the normal score of the values, with the old ones; no weights: all alike."""
    if not sources:
        return []
    order = ordered(grid) if order is None else order
    if weights is None:
        score = normal_scores(order.size) / order.size
    else:
        w = np.broadcast_to(weights, grid.shape).ravel()[order]
        w = w / w.sum()
        score = phi_inverse(np.cumsum(w) - w / 2) * w
    return [(source, float((np.broadcast_to(z, grid.shape).ravel()[order] * score).sum())) for source, z in sources]
