"""Functions of three independent sources and more, on a lattice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._joint import Function, finite, same, source_tables, ties
from qrjax._signals._places import told
from qrjax._signals._quadrature import NODES, Floats, correlation, hermite_squares, phi_inverse, quantiles
from qrjax._signals._signal import Signal, Source, related
from qrjax._signals._tables import Shape

POINTS = 8192


# Their square roots make even steps (Richtmyer 1951).
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)


@functools.cache
def _lattice(dimensions: int) -> Floats:
    """Uncorrelated normal points of a lattice, shape (dimensions, POINTS)."""
    primes = np.array([PRIMES[d % len(PRIMES)] + d // len(PRIMES) * 72 for d in range(dimensions)])
    points = phi_inverse(np.asarray((0.5 + np.sqrt(primes)[:, None] * np.arange(1, POINTS + 1)) % 1.0, np.float64))
    points = points - points.mean(1, keepdims=True)
    root = np.linalg.cholesky(np.cov(points, ddof=0).reshape(dimensions, -1))
    return np.asarray(np.linalg.solve(root, points))


def of_many(function: Function, operands: list[Signal], sources: list[Source], shape: Shape, dtype: Any) -> Signal:
    z = dict(zip(sources, _lattice(len(sources)), strict=True))
    tables = source_tables(operands, sources)

    def at(points: dict[Source, Floats]) -> Floats:
        parts = [o.values[:1] if o.source is None else np.interp(points[o.source], NODES, o.values) for o in operands]
        return finite(np.broadcast_to(function(*parts), (POINTS,)))

    values = at(z)
    result = quantiles(values)
    rho = correlation(hermite_squares(result), _sampled_covariances(at, z, tables, values))
    rho[same(tables)] = 1.0
    parents = ties(values, None, list(z.items()))
    if np.ptp(result) == 0:
        return Signal.constant(result[0], shape, dtype)
    return Signal(
        shape, np.dtype(dtype), result, told(function, operands, related(parents)), _tables.settled(rho, shape)
    )


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
