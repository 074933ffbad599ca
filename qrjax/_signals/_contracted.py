"""Contractions of signals: by their moments, where one is a known matrix by its rows, and of an array with itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._families import signal_of
from qrjax._signals._profiles import kept, normalized, renamed
from qrjax._signals._quadrature import NODES, WEIGHTS, cross_covariance, quantiles
from qrjax._signals._reduce import aggregate, summed
from qrjax._signals._signal import Signal, relation
from qrjax._signals._strengths import Strengths, met, product_profiles
from qrjax._signals._tables import Shape

Axes = tuple[Sequence[int], Sequence[int]]
# Rows of an array that meets itself, and elements of a known matrix, that are told apart at most.
ROWS, ELEMENTS = 64, 1 << 18
# Correlations are known to this, so that of what cancels in a row so much may be left, or less than nothing.
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class _Axes:
    """Where the axes of a contraction lie: first those of its result (batch, x's own, y's own), then the summed ones.

    Attributes:
      x, y: the axes of each signal, in that order.
      x_places, y_places: where they lie.
      shape: of the result.
      inner: the lengths of the summed axes.
      batch: how many axes are of the batch, and after them how many `own` of x and of y.
    """

    x: list[int]
    y: list[int]
    x_places: list[int]
    y_places: list[int]
    shape: Shape
    inner: Shape
    batch: int
    own: tuple[int, int]

    @classmethod
    def of(cls, x: Signal, y: Signal, contract: Axes, batch: Axes) -> _Axes:
        x_own = [a for a in range(x.ndim) if a not in contract[0] and a not in batch[0]]
        y_own = [a for a in range(y.ndim) if a not in contract[1] and a not in batch[1]]
        b, p, q = len(batch[0]), len(x_own), len(y_own)
        summed = range(b + p + q, b + p + q + len(contract[0]))
        return cls(
            [*batch[0], *x_own, *contract[0]],
            [*batch[1], *y_own, *contract[1]],
            [*range(b + p), *summed],
            [*range(b), *range(b + p, b + p + q), *summed],
            (*(x.shape[a] for a in (*batch[0], *x_own)), *(y.shape[a] for a in y_own)),
            tuple(x.shape[a] for a in contract[0]),
            b,
            (p, q),
        )

    @property
    def summed(self) -> tuple[int, ...]:
        return tuple(range(len(self.shape), len(self.shape) + len(self.inner)))

    @property
    def terms(self) -> int:
        """How many products each element of the result sums."""
        return math.prod(self.inner)


def contracted(x: Signal, y: Signal, contract: Axes, batch: Axes, dtype: Any) -> Signal:
    """The contraction of two signals; axes of the result as in `lax.dot_general`: batch, x's own, y's own."""
    axes = _Axes.of(x, y, contract, batch)
    ndim = len(axes.shape) + len(axes.inner)
    left, right = _placed(x, axes.x, axes.x_places, ndim), _placed(y, axes.y, axes.y_places, ndim)
    if axes.terms == 1 or x.is_constant or y.is_constant or (_kin(x, y) and not any(axes.own)):
        return _by_products(left, right, axes.shape + axes.inner, axes.summed, dtype)
    more, profiles = _by_strength(x, y, axes, contract)
    table = _tables.pair_sums(left.moments * right.moments * more, axes.summed, axes.shape + axes.inner)
    covariances = table - (axes.terms * x.mean * y.mean) ** 2
    mean = axes.terms * _mean_product(x, y, axes)
    signed = (x.values.min() >= 0 or x.values.max() <= 0) and (y.values.min() >= 0 or y.values.max() <= 0)
    result = aggregate(mean, np.maximum(covariances, -covariances.flat[0]), axes.shape, dtype, signed)
    if axes.own == (1, 1) and not result.is_constant and _meets_itself(x, y, axes):
        return _with_own(result, x, y, axes, dtype)
    return result.fresh(profiles=kept({a: normalized(line) for a, line in profiles.items()}))


def _by_strength(x: Signal, y: Signal, axes: _Axes, contract: Axes) -> tuple[Any, dict[int, Any]]:
    """What places of unlike strength make of the products, relative to like ones, and of the result's own places."""
    strengths = Strengths.of(x, axes.x, axes.x_places), Strengths.of(y, axes.y, axes.y_places)
    more, profiles = met(*strengths, axes.summed), product_profiles(*strengths, len(axes.shape))
    first = len(axes.shape)
    for known, other, along, weights, place in (
        (x, y, contract, strengths[1], axes.batch),
        (y, x, contract[::-1], strengths[0], axes.batch + axes.own[0]),
    ):
        rows = _by_rows(known, other, *along, weights.profiles.get(first))
        if rows is not None:
            more, profiles = float(rows[1].mean()), profiles | {place: rows[0]}
    return more, profiles


def _mean_product(x: Signal, y: Signal, axes: _Axes) -> float:
    if not (_kin(x, y) and x.source is y.source and axes.own[0]):
        return x.mean * y.mean
    # Pairs of different rows of one signal: their mean product is the cross moment of two rows.
    own = axes.x[axes.batch : axes.batch + axes.own[0]]
    differ = tuple(int(a in own) for a in range(x.ndim))
    return x.mean * y.mean + float(cross_covariance(x.values, y.values, x.rho[differ].reshape(1))[0])


def _kin(x: Signal, y: Signal) -> bool:
    return x.source is not None and y.source is not None and abs(relation(x.source, y.source)) > 0.05


def _placed(x: Signal, axes: Sequence[int], places: Sequence[int], ndim: int) -> Signal:
    """The signal with its axes at these places among ndim, constant along the others."""
    table = _tables.broadcast(x.rho.transpose(axes), places, ndim) if ndim else x.rho
    shape = [1] * ndim
    for axis, place in zip(axes, places, strict=True):
        shape[place] = x.shape[axis]
    profiles = renamed(x.profiles, dict(zip(axes, places, strict=True)))
    return x.fresh(shape=tuple(shape), rho=table, profiles=profiles)


def _by_products(x: Signal, y: Signal, shape: Shape, axes: tuple[int, ...], dtype: Any) -> Signal:
    return summed(combine(np.multiply, [x, y], shape, dtype), axes)


# -- rows that differ -----------------------------------------------------------------------------------------------


def _by_rows(known: Signal, x: Signal, own: Sequence[int], axes: Sequence[int], profile: Any) -> tuple[Any, Any] | None:
    """What each row of a known matrix makes of places of unlike strength: its second moment, and relative to like ones.

    A permutation takes strong places elsewhere; a row of a cumulative sum adds up as many as its number says.
    """
    if known.array is None or known.recipe is None or known.recipe.data or known.drawn:
        return None  # no array, or the input itself
    if known.ndim != 2 or len(own) != 1 or known.size > ELEMENTS:
        return None
    rows = np.asarray(known.array, np.float64)
    rows = rows if own[0] == 1 else rows.T
    if not np.isfinite(rows).all():
        return None
    like = float(x.moments[tuple(int(a == axes[0]) for a in range(x.ndim))] / max(1e-300, x.second_moment))

    def moments(profile: Any) -> Any:
        alone = rows**2 @ profile
        return alone + like * ((rows @ np.sqrt(profile)) ** 2 - alone)

    flat = np.ones(rows.shape[1])
    found, plain = moments(flat if profile is None else profile), moments(flat).mean()
    if not plain > 0 or found.min() < -ROUNDING * plain:
        return None
    found = np.maximum(found, 0.0)
    return found, found / plain


# -- an array with itself -------------------------------------------------------------------------------------------


def _meets_itself(x: Signal, y: Signal, axes: _Axes) -> bool:
    """Whether the rows of one array, or of functions of it, meet each other, so that each meets itself once."""
    first, second = ([z.shape[a] for a in order] for z, order in ((x, axes.x), (y, axes.y)))
    tables = x.rho.transpose(axes.x), y.rho.transpose(axes.y)
    other = tuple(int(place == axes.batch) for place in range(x.ndim))
    same = x.source is y.source and first == second and np.allclose(*tables)
    return bool(same and first[axes.batch] > 1 and tables[0][other] < 1.0)


def _with_own(result: Signal, x: Signal, y: Signal, axes: _Axes, dtype: Any) -> Signal:
    """The matrix of products of rows, on whose diagonal each meets itself."""
    places = range(x.ndim)
    one, other = _placed(x, axes.x, places, x.ndim), _placed(y, axes.y, places, y.ndim)
    own = _by_products(one, other, one.shape, tuple(range(axes.batch + 1, x.ndim)), dtype)
    n = one.shape[axes.batch]
    if n > ROWS:
        weights = np.stack([WEIGHTS * (1 - 1 / n), WEIGHTS / n])
        return result.fresh(values=quantiles(np.stack([result.values, own.values]), weights))
    table = np.where(np.eye(n, dtype=bool), own.values[:, None, None], result.values[:, None, None])
    base = Signal(result.shape, np.dtype(np.float32), NODES, result.source, result.rho)
    return signal_of(base, table.reshape(-1, *(1,) * axes.batch, n, n), dtype)
