"""Whether two integers are the same: by their chances, which no grid between them knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._quadrature import WEIGHTS, Floats, correlation, hermite_squares, quantiles
from qrjax._signals._signal import Signal, Source, relation
from qrjax._signals._tables import Shape


def coincidence(x: Signal, y: Signal, shape: Shape, dtype: Any) -> Signal | None:
    """Where two independent arrays of integers agree, as ids and the classes of a one-hot code; None of others."""
    if any(z.dtype.kind not in "iu" or z.source is None or z.mask is not None or z.ndim != len(shape) for z in (x, y)):
        return None
    assert x.source is not None
    assert y.source is not None
    if x.source is y.source or abs(relation(x.source, y.source)) > 1e-2:
        return None
    (p, q), once = _chances(x, y), [_is_once(z) for z in (x, y)]
    share = float(p @ q)
    if not 0 < share < 1:
        return None
    table = np.empty((2,) * len(shape))
    for pattern in np.ndindex(table.shape):
        kept = [bool(z.rho[pattern] >= 1.0) for z in (x, y)]
        if all(kept):
            table[pattern] = share
        elif any(kept):
            # Of two places that are compared with one number both agree only where they hold the same.
            one, other = (p, q) if kept[0] else (q, p)
            table[pattern] = 0.0 if once[kept.index(False)] else float(one @ other**2)
        else:
            table[pattern] = share**2
    values = quantiles(np.array([0.0, 1.0]), np.array([1 - share, share]))
    rho = correlation(hermite_squares(values), table - share**2)
    rho.flat[0] = 1.0
    return Signal(shape, np.dtype(dtype), values, Source(), _tables.settled(rho, shape))


def _chances(x: Signal, y: Signal) -> tuple[Floats, Floats]:
    """The chances of all numbers that either may be."""
    held = [_weighted(z) for z in (x, y)]
    numbers = np.unique(np.concatenate([values for values, _ in held]))
    found = [np.bincount(np.searchsorted(numbers, values), weights, len(numbers)) for values, weights in held]
    return found[0] / found[0].sum(), found[1] / found[1].sum()


def _weighted(x: Signal) -> tuple[Floats, Floats]:
    if x.array is not None:
        values = np.asarray(x.array, np.float64).ravel()
        return values, np.ones_like(values)
    return np.round(x.values), WEIGHTS


def _is_once(x: Signal) -> bool:
    """Whether each number is held once, as by a range."""
    if x.array is None:
        return False
    varying = [n for axis, n in enumerate(x.shape) if x.rho[tuple(int(a == axis) for a in range(x.ndim))] < 1.0]
    return len(np.unique(x.array)) == int(np.prod(varying))
