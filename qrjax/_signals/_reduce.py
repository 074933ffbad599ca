"""Sums and extremes of signals along axes, with the covariances that the axes have."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._families import family_of
from qrjax._signals._fibers import Fiber, fiber_of, laid_fiber
from qrjax._signals._masks import resolved, settled, unveiled, valid
from qrjax._signals._profiles import renamed
from qrjax._signals._quadrature import (
    CDF,
    COARSE,
    COARSE_WEIGHTS,
    NODES,
    WEIGHTS,
    Floats,
    correlation,
    hermite_squares,
    matched,
    phi,
    quantiles,
)
from qrjax._signals._rows import at_rows, sampled, summand
from qrjax._signals._signal import HUGE, Signal, Source, related
from qrjax._signals._tables import Shape

# From so many summands on a sum is normal, or lognormal where its terms have one sign.
MANY = 6
# So many independent rows are added up one by one; more of them spread as these do.
MOST = 64
# Rows less alike than this have nothing in common.
APART = 0.02
# Two rows' aggregates correlate at most by this.
ALIKE = 1 - 1e-6


def shrunk(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def summed(x: Signal, axes: Sequence[int]) -> Signal:
    """The sum of the elements along the axes."""
    axes = tuple(sorted(axes))
    n = math.prod(x.shape[axis] for axis in axes)
    shape = shrunk(x.shape, axes)
    held, x = unveiled(x), resolved(x)
    if x.is_constant or n == 0:
        return Signal.constant(x.mean * n, shape, x.dtype)
    if n == 1:
        return x.fresh(shape=shape, rho=_tables.dropped(x.rho, axes), fiber=x.fiber, sample=x.sample)
    # Rows of what is present and of what is not; where only that is random, of that.
    fiber, rows = _sums_again(x, axes, n)
    if rows is None:
        fiber, sample = row_sample(x if held.source is None else held, axes, n)
        rows = None if sample is None else n * sample.mean(1, keepdims=True)
    table = _tables.pair_sums(_weakened(x, axes), axes, x.shape)
    signed = x.values.min() >= 0 or x.values.max() <= 0
    kept_axes = [a for a in range(x.ndim) if a not in axes]
    profiles = renamed(x.profiles, {a: i for i, a in enumerate(kept_axes)})
    total = aggregate(n * x.mean, table, shape, x.dtype, signed, rows if n < MANY and not x.is_normal else None)
    if not total.is_constant:
        total = total.fresh(rho=_told_apart(total.rho, _tables.dropped(x.rho, axes)))
    if total.is_constant or rows is None:
        return total.fresh(profiles=profiles)
    assert fiber is not None
    source = related([(fiber.parent, _tie(fiber, rows))])
    return total.fresh(source=source, fiber=fiber, sample=rows, profiles=profiles)


def _sums_again(x: Signal, axes: Sequence[int], n: int) -> tuple[Fiber | None, Floats | None]:
    """Sums of what is an aggregate of rows already, on these rows, where those that are summed have nothing in common.

    So what is computed from two such sums, of numbers and of their squares say, is computed from the same rows.
    """
    if x.sample is None or x.sample.shape[1] > 1 or x.fiber is None or x.fiber.valid is not None:
        return None, None
    if abs(float(_tables.differing(x.rho, axes, x.shape).flat[0])) > APART:
        return None, None
    return x.fiber, summed_rows(x.sample, n)


def summed_rows(rows: Floats, n: int) -> Floats:
    """Each row with n - 1 other independent ones, the same ones for all that is computed from these rows."""
    few = max(1, min(n, len(rows) // 2, MOST))
    step = len(rows) // few
    mean = rows.mean()
    deviations = sum((np.roll(rows - mean, k * step, axis=0) for k in range(few)), np.zeros_like(rows))
    return n * mean + math.sqrt(n / few) * deviations


def _told_apart(rho: Floats, elements: Floats) -> Floats:
    """Aggregates of rows that differ are not one number, however alike; only along such axes is one broadcast."""
    return np.where((elements < 1.0) & (rho > ALIKE), ALIKE, rho)


def _weakened(x: Signal, axes: Sequence[int]) -> Floats:
    """The covariances where positions differ in strength: pairs have the product of their strengths' roots."""
    table = x.covariances
    for axis in set(axes) & set(x.profiles):
        factor = float(np.sqrt(x.profiles[axis]).mean() ** 2)
        table = np.stack([table.take(0, axis), table.take(1, axis) * factor], axis)
    return table


def row_sample(x: Signal, axes: Sequence[int], n: int) -> tuple[Fiber | None, Floats | None]:
    """The signal on the rows that it was last reduced along, if these are they, or else on new ones."""
    assert x.source is not None
    if x.sample is not None and x.sample.shape[1] > 1 and x.fiber.n == n and x.fiber.valid is None:
        return x.fiber, x.sample
    family = family_of(x)
    if family is not None and family.base.source is not x.source:
        fiber = laid_fiber(dataclasses.replace(x, rho=family.base.rho), tuple(axes), n)
        return fiber, sampled(x, fiber)
    base = summand(x)
    if valid(x) is not None or base is not None:
        fiber = laid_fiber(x if base is None else base, tuple(axes), n)
        return fiber, sampled(x, fiber)
    rho = float(_tables.differing(x.rho, axes, x.shape).flat[0])
    fiber = fiber_of(x.source, n, rho)
    return fiber, fiber.values(x.values)


def _tie(fiber: Fiber, rows: Floats) -> float:
    """The correlation of an element's source with the aggregate of its row."""
    centred = rows - rows.mean()
    spread = math.sqrt(float((centred**2).mean()))
    return 0.0 if spread == 0 else float((fiber.z.mean(1, keepdims=True) * centred).mean() / spread)


def aggregate(mean: float, table: Floats, shape: Shape, dtype: Any, signed: bool, rows: Floats | None = None) -> Signal:
    """The signal of a sum with this mean and these covariances."""
    variance = float(table.flat[0])
    if not variance > 1e-24 * mean * mean:
        return Signal.constant(mean, shape, dtype)
    if rows is not None:
        values = matched(quantiles(rows), mean, variance)
    elif signed and mean != 0:
        # A sum of non-negative terms stays away from 0, as a normal would not: its reciprocal exists.
        width = math.sqrt(math.log1p(variance / mean**2))
        values = matched(np.sign(mean) * np.exp(math.log(abs(mean)) - width**2 / 2 + width * NODES), mean, variance)
    else:
        values = mean + math.sqrt(variance) * NODES
    if rows is None and not (signed and mean != 0):
        rho = np.clip(table / variance, -1.0, 1.0)
    else:
        rho = correlation(hermite_squares(values), table)
        rho[table >= variance * (1 - 1e-12)] = 1.0
    return Signal(shape, np.dtype(dtype), values, Source(), _tables.settled(rho, shape))


# -- extremes -----------------------------------------------------------------------------------------------------


def extreme(x: Signal, axes: Sequence[int], largest: bool = True) -> Signal:
    """The largest, or smallest, element along the axes, of those that are present."""
    axes = tuple(sorted(axes))
    n = math.prod(x.shape[axis] for axis in axes)
    shape = shrunk(x.shape, axes)
    if x.mask is not None and (settled(x) is not x or (x.mask.value > 0) is largest):
        x = resolved(x)
    if x.is_constant:
        return Signal.constant(x.mean, shape, x.dtype)
    mask = valid(x)
    if n == 1 and mask is None:
        return x.fresh(shape=shape, rho=_tables.dropped(x.rho, axes), fiber=x.fiber, sample=x.sample)
    fiber, sample = row_sample(x, axes, n)
    assert fiber is not None
    assert sample is not None
    pick = _picked(None if mask is None else fiber.present(mask), largest)
    rows = pick(sample)
    if summand(x) is None and mask is None and family_of(x) is None:
        within = float(_tables.differing(x.covariances, axes, x.shape).flat[0])
        values = extreme_values(x.values, n, within, largest)
    else:
        values = quantiles(rows)
    cross = _tables.differing(x.rho, axes, x.shape)
    rho = _extreme_rho(x, fiber, pick, _tables.dropped(x.rho, axes), cross, values)
    if np.ptp(values) == 0:
        return Signal.constant(values[0], shape, x.dtype)
    source = related([(fiber.parent, _tie(fiber, rows))])
    return Signal(shape, x.dtype, values, source, _tables.settled(rho, shape), fiber=fiber, sample=rows)


def _picked(present: NDArray[np.bool_] | None, largest: bool) -> Callable[[Floats], Floats]:
    """The extremes of the rows of a sample, of those elements that are present."""
    pick: Callable[..., Floats] = functools.partial(np.max if largest else np.min, axis=1, keepdims=True)
    fill = -HUGE if largest else HUGE
    return pick if present is None else lambda found: pick(np.where(present, found, fill))


def extreme_values(values: Floats, n: float, within: float, largest: bool) -> Floats:
    """The quantile function of the extreme of n elements whose covariance is `within`."""
    law = quantiles(values if largest else -values, WEIGHTS)
    rho = float(correlation(hermite_squares(law), np.array([within]))[0])
    below = COARSE_WEIGHTS @ copula(rho, NODES) ** n
    found = np.interp(np.interp(CDF, below, NODES), NODES, law)
    return found if largest else -found


def window_rho(x: Signal, axes: Sequence[int], far: Floats, values: Floats, largest: bool) -> Floats:
    """The correlations between the extremes of two windows.

    Args:
      x: the elements, as neighbours are to each other; its shape is that of one window along the axes.
      axes: those of the windows.
      far: the correlations between elements of different windows.
      values: the law of the extremes.
      largest: whether it is that of the largest.
    """
    n = math.prod(x.shape[axis] for axis in axes)
    fiber, _ = row_sample(x, axes, n)
    assert fiber is not None
    same, cross = far.copy(), far.copy()
    for index in np.ndindex(far.shape):
        if not any(index[axis] for axis in axes):
            outside = tuple(i for axis, i in enumerate(index) if axis not in axes)
            cross[index] = _tables.differing(x.rho, axes, x.shape)[outside]
    return _extreme_rho(x, fiber, _picked(None, largest), same, cross, values)


def _extreme_rho(
    x: Signal, fiber: Fiber, pick: Callable[[Floats], Floats], same: Floats, cross: Floats, values: Floats
) -> Floats:
    """The correlations between the extremes of two rows, on a sample.

    They follow from those between elements at the same place of two rows and at different ones.
    """
    squares = hermite_squares(values)
    own = pick(at_rows(x, fiber))
    result = np.ones_like(same)
    for r, s in dict.fromkeys(zip(same.ravel().round(9), cross.ravel().round(9), strict=True)):
        if r < 1.0:
            partner = pick(at_rows(x, fiber, fiber.partner(r, s)))
            covariance = float((own * partner).mean() - own.mean() * partner.mean())
            # As a share of the sample's own variance: that of few rows is not quite the law's.
            share = covariance / math.sqrt(float(own.var() * partner.var()) + 1e-300)
            found = max(0.0, float(correlation(squares, squares.sum() * share)[()])) if max(r, s) > 0 else 0.0
            result[(same.round(9) == r) & (cross.round(9) == s)] = found
    return result


def copula(rho: float, threshold: Floats) -> Floats:
    """P(Z <= threshold | common part) on the coarse nodes of the common part, shape (common, thresholds)."""
    rho = min(max(rho, 0.0), 1 - 1e-12)
    return phi((threshold[None, :] - math.sqrt(rho) * COARSE[:, None]) / math.sqrt(1 - rho))
