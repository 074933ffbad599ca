"""Elementwise functions of several signals: exact on the quadrature for one source, on a product grid for
two, on a lattice for more, and on a fiber where an aggregate meets its elements.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._fibers import Fiber, pair_covariance
from qrjax._signals._profiles import combined
from qrjax._signals._quadrature import (
    COARSE,
    COARSE_WEIGHTS,
    NODES,
    PAIR_ORDERS,
    PAIR_PROJECTION,
    WEIGHTS,
    Floats,
    correlation,
    cross_covariance,
    hermite_squares,
    on_coarse,
    phi,
    phi_inverse,
    quantiles,
)
from qrjax._signals._signal import HUGE, Signal, Source, related, relation
from qrjax._signals._tables import Shape

Function = Callable[..., Floats]
# Above this, two sources are one up to a sign.
ONE = 1.0 - 1e-9


def combine(function: Function, operands: Sequence[Signal], shape: Shape, dtype: Any) -> Signal:
    """The signal function(*operands), elementwise; operands of lower rank are scalars."""
    operands = [fitted(operand, shape) for operand in operands]
    sources = list(dict.fromkeys(o.source for o in operands if o.source is not None))
    if not sources:
        with np.errstate(all="ignore"):
            value = float(_finite(function(*(o.values[:1] for o in operands)))[0])
        return Signal.constant(value, shape, dtype)
    with np.errstate(all="ignore"):
        result = _combined(function, operands, sources, shape, dtype)
    if not any(o.profiles for o in operands):
        return result
    linear = getattr(function, "linear", None) is not None
    return dataclasses.replace(result, profiles=combined(function, operands, result, linear))


def _combined(function: Function, operands: list[Signal], sources: list[Source], shape: Shape, dtype: Any) -> Signal:
    if len(sources) == 1:
        return _of_one(function, operands, sources[0], shape, dtype)
    fiber = _shared_fiber(operands)
    if fiber is not None:
        return _on_fiber(function, operands, fiber, shape, dtype)
    if getattr(function, "gate", False) and _is_independent_gate(operands):
        return _gated(operands, shape, dtype)
    if len(sources) == 2:
        return _of_two(function, operands, sources[0], sources[1], shape, dtype)
    return _of_many(function, operands, sources, shape, dtype)


def fitted(operand: Signal, shape: Shape) -> Signal:
    """The operand with the rank of the result; along axes of length 1 it is constant."""
    if operand.shape == shape:
        return operand
    table = operand.rho if operand.ndim == len(shape) else _tables.constant(len(shape))
    profiles = operand.profiles if operand.ndim == len(shape) else {}
    return operand.fresh(shape=shape, rho=table, fiber=operand.fiber, sample=operand.sample, profiles=profiles)


def _finite(values: Any) -> Floats:
    return np.clip(np.asarray(values, np.float64), -HUGE, HUGE)


def _at_nodes(operand: Signal) -> Floats:
    return operand.values


def _of_one(function: Function, operands: list[Signal], source: Source, shape: Shape, dtype: Any) -> Signal:
    values = _finite(np.broadcast_to(function(*map(_at_nodes, operands)), NODES.shape))
    rho = functools.reduce(np.minimum, (o.rho for o in operands if o.source is source))
    if values[0] == values[-1] and np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    sampled = next((o for o in operands if o.sample is not None), None)
    changes: dict[str, Any] = {}
    if sampled is not None:
        parts = [
            o.sample if o.sample is not None else o.values[:1]
            for o in operands
            if o.is_constant or o.sample is not None
        ]
        if len(parts) == len(operands):
            changes = {"fiber": sampled.fiber, "sample": _finite(function(*parts))}
    return Signal(shape, np.dtype(dtype), values, source, rho, **changes)


# -- two sources --------------------------------------------------------------------------------------------------


def _of_two(
    function: Function, operands: list[Signal], first: Source, second: Source, shape: Shape, dtype: Any
) -> Signal:
    r = relation(first, second)
    tables = _source_tables(operands, [first, second])
    own = math.sqrt(max(0.0, 1 - r * r))
    linear = _sum_of_normals(function, operands, first, second)
    if linear is not None:
        mean, a, b = linear
        return _normal_sum(mean, a, b, r, tables, (first, second), shape, dtype)
    z1, z2 = COARSE[:, None], r * COARSE[:, None] + own * COARSE[None, :]
    parts = [_on_grid(o, first, r, z2) for o in operands]
    grid = _finite(np.broadcast_to(function(*parts), (COARSE.size, COARSE.size)))
    weights = COARSE_WEIGHTS[:, None] * COARSE_WEIGHTS[None, :]
    order = np.argsort(grid, axis=None)
    values = quantiles(grid, weights, order)
    mean = float((np.nan_to_num(grid) * weights).sum())
    table = _pair_covariances(grid - mean, tables[0], _remaining(tables[1], tables[0], r))
    squares = hermite_squares(values)
    rho = correlation(squares, table)
    rho[_same(tables)] = 1.0
    source = related(_ties(grid, weights, [(first, z1), (second, z2)], order))
    if np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    return Signal(shape, np.dtype(dtype), values, source, _tables.settled(rho, shape))


def _on_grid(operand: Signal, first: Source, r: float, z2: Floats) -> Floats:
    if operand.source is None:
        return operand.values[:1]
    if operand.source is first:
        return on_coarse(operand.values)[:, None]
    values = on_coarse(operand.values)
    return values[None, :] if r == 0 else np.interp(z2, COARSE, values)


def _source_tables(operands: list[Signal], sources: list[Source]) -> list[Floats]:
    return [functools.reduce(np.minimum, (o.rho for o in operands if o.source is s)) for s in sources]


def _same(tables: Sequence[Floats]) -> Any:
    """Where two elements have every source in common."""
    return functools.reduce(np.logical_and, (table >= ONE for table in tables))


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


def _ties(
    grid: Floats, weights: Floats, sources: list[tuple[Source, Floats]], order: NDArray[np.intp] | None = None
) -> list[tuple[Source, float]]:
    """The correlation of the new source, the normal score of the values, with the old ones."""
    if not sources:
        return []
    order = np.argsort(grid, axis=None) if order is None else order
    w = np.broadcast_to(weights, grid.shape).ravel()[order]
    score = phi_inverse((np.cumsum(w) - w / 2) / w.sum())
    found = []
    for source, z in sources:
        flat = np.broadcast_to(z, grid.shape).ravel()[order]
        found.append((source, float((flat * score * w).sum() / w.sum())))
    return found


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
    source = related([(sources[0], (a + r * b) / spread), (sources[1], (b + r * a) / spread)])
    return Signal(shape, np.dtype(dtype), mean + spread * NODES, source, _tables.settled(rho, shape))


# -- gates --------------------------------------------------------------------------------------------------------


def _is_independent_gate(operands: list[Signal]) -> bool:
    """Whether a truth value, independent of both cases, chooses between functions of at most one source."""
    gate, *cases = operands
    others = {case.source for case in cases if case.source is not None}
    return (
        len(cases) == 2
        and gate.source is not None
        and len(others) == 1
        and all(abs(relation(gate.source, other)) < 1e-2 for other in others)
        and bool(((gate.values >= 0) & (gate.values <= 1)).all())
    )


def _gated(operands: list[Signal], shape: Shape, dtype: Any) -> Signal:
    """A mixture of the cases, in the gate's exact shares; a step on the grid would round them."""
    gate, off, on = operands
    share = gate.mean
    grid = np.stack([off.values, on.values])
    weights = np.array([[1 - share], [share]]) * WEIGHTS[None, :]
    values = quantiles(grid, weights)
    if np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    both = np.clip(gate.moments, 0.0, share)
    means = (1 - share) * off.mean + share * on.mean
    cross = _cross_moments(off, on)
    table = both * on.moments + (1 - 2 * share + both) * off.moments + 2 * (share - both) * cross - means**2
    rho = correlation(hermite_squares(values), table)
    rho[_same([o.rho for o in operands if o.source is not None])] = 1.0
    source = next(o.source for o in (off, on) if o.source is not None)
    ties = _ties(grid, weights, [(source, np.broadcast_to(NODES, grid.shape))])
    return Signal(shape, np.dtype(dtype), values, related(ties), _tables.settled(rho, shape))


def _cross_moments(a: Signal, b: Signal) -> Floats:
    """E[a b'] of two functions of one source, or of a constant and one."""
    if a.is_constant or b.is_constant:
        return np.full_like(a.rho, a.mean * b.mean)
    return cross_covariance(a.values, b.values, np.minimum(a.rho, b.rho)) + a.mean * b.mean


# -- many sources -------------------------------------------------------------------------------------------------

POINTS = 8192


@functools.cache
def _lattice(dimensions: int) -> Floats:
    """Normal points of a Kronecker lattice, shape (dimensions, POINTS)."""
    root = 2.0
    for _ in range(64):  # the positive root of x^(d+1) = x + 1 gives the most even steps
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    return phi_inverse(np.asarray((0.5 + steps[:, None] * np.arange(1, POINTS + 1)) % 1.0, np.float64))


def _of_many(function: Function, operands: list[Signal], sources: list[Source], shape: Shape, dtype: Any) -> Signal:
    z: dict[Source, Floats] = {}
    for source, noise in zip(sources, _lattice(len(sources)), strict=True):
        # Kin by its nearest relative only: three-way relations do not occur in a network's formulas.
        kin = max(z, key=lambda other: abs(relation(source, other)), default=None)
        r = 0.0 if kin is None else relation(source, kin)
        z[source] = noise if kin is None or r == 0 else r * z[kin] + math.sqrt(max(0.0, 1 - r * r)) * noise
    tables = _source_tables(operands, sources)

    def at(points: dict[Source, Floats]) -> Floats:
        parts = [o.values[:1] if o.source is None else np.interp(points[o.source], NODES, o.values) for o in operands]
        return _finite(np.broadcast_to(function(*parts), (POINTS,)))

    values = at(z)
    result = quantiles(values, np.ones_like(values))
    rho = correlation(hermite_squares(result), _sampled_covariances(at, z, tables, values))
    rho[_same(tables)] = 1.0
    ties = _ties(values, np.ones_like(values), list(z.items()))
    if np.ptp(result) == 0:
        return Signal.constant(result[0], shape, dtype)
    return Signal(shape, np.dtype(dtype), result, related(ties), _tables.settled(rho, shape))


def _sampled_covariances(
    at: Callable[[dict[Source, Floats]], Floats], z: dict[Source, Floats], tables: list[Floats], values: Floats
) -> Floats:
    """The covariance with a second element, for every combination of the sources' correlations."""
    stacked = np.stack([table.ravel() for table in tables], 1)
    combinations, inverse = np.unique(stacked.round(6), axis=0, return_inverse=True)
    fresh = _lattice(2 * len(z))[len(z) :]
    found = []
    for row in combinations:
        other = {
            s: r * zs + math.sqrt(max(0.0, 1 - r * r)) * e for (s, zs), r, e in zip(z.items(), row, fresh, strict=True)
        }
        partner = at(other)
        found.append(float(np.nanmean(values * partner) - np.nanmean(values) * np.nanmean(partner)))
    return np.array(found)[inverse.ravel()].reshape(tables[0].shape)


# -- fibers -------------------------------------------------------------------------------------------------------


def _shared_fiber(operands: list[Signal]) -> Fiber | None:
    """The fiber on which every operand that is not constant has values."""
    fibers = list(dict.fromkeys(o.fiber for o in operands if o.fiber is not None))
    for fiber in fibers:
        if all(o.is_constant or o.fiber is fiber or o.source is fiber.parent for o in operands):
            return fiber
    return None


def sampled(operand: Signal, fiber: Fiber) -> Floats:
    if operand.is_constant:
        return operand.values[:1].reshape(1, 1)
    if operand.fiber is fiber and operand.sample is not None:
        return operand.sample
    return fiber.values(operand.values)


def _on_fiber(function: Function, operands: list[Signal], fiber: Fiber, shape: Shape, dtype: Any) -> Signal:
    parts = [sampled(o, fiber) for o in operands]
    sample = _finite(function(*parts))
    order = np.argsort(sample, axis=None)
    values = quantiles(sample, np.ones_like(sample), order)
    if np.ptp(values) <= 1e-12 * max(1e-300, np.abs(values).max()):
        return Signal.constant(values[0], shape, dtype)
    elements = [o for o, part in zip(operands, parts, strict=True) if part.shape[1] > 1]
    aggregates = [o for o, part in zip(operands, parts, strict=True) if part.shape[1] == 1 and not o.is_constant]
    if not elements:
        rho = functools.reduce(np.minimum, (o.rho for o in aggregates))
    else:
        main = max(elements, key=lambda o: _likeness(sampled(o, fiber), sample))
        rho = main.rho
        if aggregates or fiber.rho < 0:
            rho = _with_rows(rho, values, sample, fiber.n, _row_axes(aggregates, main, shape))
    ties = _ties(sample, np.ones_like(sample), [(fiber.parent, fiber.z)] if elements else [], order)
    source = related(ties)
    return Signal(shape, np.dtype(dtype), values, source, _tables.settled(rho, shape), fiber=fiber, sample=sample)


def _likeness(a: Floats, b: Floats) -> float:
    a, b = np.nan_to_num(a - a.mean()), np.nan_to_num(b - b.mean())
    return float(abs((a * b).sum()) / math.sqrt((a * a).sum() * (b * b).sum() + 1e-300))


def _row_axes(aggregates: list[Signal], main: Signal, shape: Shape) -> list[int]:
    """The axes along which the aggregates are constant and the elements are not."""
    found = []
    for axis, size in enumerate(shape):
        one = tuple(int(a == axis) for a in range(len(shape)))
        if size > 1 and all(o.rho[one] >= ONE for o in aggregates) and main.rho[one] < ONE:
            found.append(axis)
    return found


def _with_rows(rho: Floats, values: Floats, sample: Floats, n: int, axes: list[int]) -> Floats:
    """The table with the sample's own correlation wherever two elements of one row are compared."""
    if not axes or sample.shape[1] == 1:
        return rho
    within = float(correlation(hermite_squares(values), np.array([pair_covariance(sample, n)]))[0])
    result = rho.copy()
    rows = tuple(axes)
    for index in np.ndindex(rho.shape):
        if any(index[axis] for axis in rows):
            outside = tuple(0 if axis in rows else i for axis, i in enumerate(index))
            result[index] = within * rho[outside]
    return result


def expected(function: Function, *operands: Signal) -> float:
    """E function(operands) for operands of one source."""
    return float(np.nan_to_num(function(*(o.values for o in operands))) @ WEIGHTS)


def copula(rho: float, threshold: Floats) -> Floats:
    """P(Z <= threshold | common part) on the coarse nodes of the common part, shape (common, thresholds)."""
    rho = min(max(rho, 0.0), 1 - 1e-12)
    return phi((threshold[None, :] - math.sqrt(rho) * COARSE[:, None]) / math.sqrt(1 - rho))
