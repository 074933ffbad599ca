"""Functions of two sources, on a product grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._joint import Function, finite, same, source_tables, ties
from qrjax._signals._places import alike, told
from qrjax._signals._quadrature import (
    COARSE,
    COARSE_WEIGHTS,
    NODES,
    PAIR_ORDERS,
    PAIR_PROJECTION,
    Floats,
    correlation,
    hermite_squares,
    matched,
    on_coarse,
    ordered,
    quantiles,
)
from qrjax._signals._signal import Signal, Source, related
from qrjax._signals._tables import Shape


def of_two(
    function: Function, operands: list[Signal], first: Source, second: Source, shape: Shape, dtype: Any
) -> Signal:
    r = alike(first, second)
    tables = source_tables(operands, [first, second])
    own = math.sqrt(max(0.0, 1 - r * r))
    linear = _sum_of_normals(function, operands, first, second)
    if linear is not None:
        mean, a, b = linear
        made = _normal_sum(mean, a, b, r, tables, (first, second), shape, dtype)
        if made.source is not None:
            told(function, operands, made.source, normal=True)
        return made
    z1, z2 = COARSE[:, None], r * COARSE[:, None] + own * COARSE[None, :]
    parts = [_on_grid(o, first, r, z2) for o in operands]
    grid = finite(np.broadcast_to(function(*parts), (COARSE.size, COARSE.size)))
    weights = COARSE_WEIGHTS[:, None] * COARSE_WEIGHTS[None, :]
    order = ordered(grid)
    values = quantiles(grid, weights, order)
    known = _exact(function, operands, r)
    if known is not None:
        values = matched(values, *known)
    mean = float((np.nan_to_num(grid) * weights).sum())
    table = _pair_covariances(grid - mean, tables[0], _remaining(tables[1], tables[0], r))
    squares = hermite_squares(values)
    rho = correlation(squares, table)
    rho[same(tables)] = 1.0
    parents = ties(grid, weights, [(first, z1), (second, z2)], order)
    source = told(function, operands, related(parents, _shares(parents[0][1], parents[1][1], r)))
    if np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    return Signal(shape, np.dtype(dtype), values, source, _tables.settled(rho, shape))


def _shares(first: float, second: float, r: float) -> list[float]:
    """What each of two sources that correlate adds to one that is so like them."""
    rest = max(1e-2, 1 - r * r)
    return [(first - r * second) / rest, (second - r * first) / rest]


def _exact(function: Function, operands: list[Signal], r: float) -> tuple[float, float] | None:
    """Mean and variance of a sum or product of two independent signals."""
    if r != 0 or len(operands) != 2:
        return None
    x, y = operands
    signs = getattr(function, "linear", None)
    if signs is not None:
        return signs[0] * x.mean + signs[1] * y.mean, x.variance + y.variance
    if getattr(function, "product", False) or function is np.multiply:
        mean = x.mean * y.mean
        return mean, max(0.0, x.second_moment * y.second_moment - mean**2)
    return None


def _on_grid(operand: Signal, first: Source, r: float, z2: Floats) -> Floats:
    if operand.source is None:
        return operand.values[:1]
    if operand.source is first:
        return on_coarse(operand.values)[:, None]
    values = on_coarse(operand.values)
    return values[None, :] if r == 0 else np.interp(z2, COARSE, values)


def _remaining(second: Floats, first: Floats, r: float) -> Floats:
    """The correlations of the part of the second source that is independent of the first."""
    return second if r == 0 else np.clip((second - r * r * first) / max(1e-9, 1 - r * r), -1.0, 1.0)


def _pair_covariances(centred: Floats, first: Floats, second: Floats) -> Floats:
    """Mehler's formula in two variables, the rest of the variance taken at the highest order."""
    centred = np.nan_to_num(centred)
    squares = (PAIR_PROJECTION @ centred @ PAIR_PROJECTION.T) ** 2
    squares[0, 0] = 0.0
    total = float(COARSE_WEIGHTS @ centred**2 @ COARSE_WEIGHTS)
    powers1 = first[..., None] ** np.arange(PAIR_ORDERS)
    powers2 = second[..., None] ** np.arange(PAIR_ORDERS)
    known = np.einsum("...k,kl,...l->...", powers1, squares, powers2)
    rest = max(0.0, total - float(squares.sum()))
    return known + rest * (np.clip(first, 0, 1) * np.clip(second, 0, 1)) ** (PAIR_ORDERS // 2)


def _sum_of_normals(
    function: Function, operands: list[Signal], first: Source, second: Source
) -> tuple[float, float, float] | None:
    """The mean and the two coefficients, where the function is a sum or difference of normal signals."""
    linear = getattr(function, "linear", None)
    if linear is None or len(operands) != 2 or not all(o.is_normal for o in operands):
        return None
    slopes = {first: 0.0, second: 0.0}
    mean = 0.0
    for sign, operand in zip(linear, operands, strict=True):
        assert operand.source is not None
        slopes[operand.source] += sign * math.copysign(
            math.sqrt(operand.variance), operand.values[-1] - operand.values[0]
        )
        mean += sign * operand.mean
    return mean, slopes[first], slopes[second]


def _normal_sum(
    mean: float, a: float, b: float, r: float, tables: list[Floats], sources: tuple[Source, Source], shape: Shape,
    dtype: Any,
) -> Signal:  # fmt: skip
    variance = a * a + b * b + 2 * r * a * b
    if variance <= 1e-24 * (a * a + b * b):
        return Signal.constant(mean, shape, dtype)
    # The cross terms' table is not known; the smaller of the two is what both allow.
    cross = 2 * r * a * b * np.minimum(*tables)
    rho = np.clip((a * a * tables[0] + b * b * tables[1] + cross) / variance, -1.0, 1.0)
    spread = math.sqrt(variance)
    parents = [(sources[0], (a + r * b) / spread), (sources[1], (b + r * a) / spread)]
    source = related(parents, shares=[a / spread, b / spread])
    return Signal(shape, np.dtype(dtype), mean + spread * NODES, source, _tables.settled(rho, shape))
