"""How alike the steps of a recurrence are, by their distance: from neighbours and from all pairs."""

from __future__ import annotations

import functools

import numpy as np

from qrjax._signals._quadrature import Floats

# The kind of pairs that are one step apart, beside the number of steps; see `Signal.twins`.
STEP = "step"
HALVINGS = 30
# Neighbours that are alike by so little more than all pairs are like all pairs.
LITTLE = 1e-3


@functools.lru_cache(maxsize=256)
def correlations(near: float, average: float, n: int) -> Floats:
    """The correlations of steps that are 0, 1, ... n - 1 apart: what dies out geometrically, and what stays.

    Args:
      near: that of neighbours.
      average: that of all pairs, on the mean.
      n: how many steps there are.
    """
    if near <= average + LITTLE:
        return _with_itself(np.full(n, average))
    low, high = 0.0, max(0.0, average)
    for _ in range(HALVINGS):
        stays = (low + high) / 2
        low, high = (low, stays) if _mean(_dying(near, stays, n)) > average else (stays, high)
    return _with_itself(_dying(near, (low + high) / 2, n))


def _dying(near: float, stays: float, n: int) -> Floats:
    ratio = min(0.9999, max(0.0, (near - stays) / (1 - stays)))
    return np.asarray(stays + (1 - stays) * ratio ** np.arange(n), np.float64)


def _mean(found: Floats) -> float:
    """Over all pairs of steps."""
    n = found.size
    return float(((n - np.arange(1, n)) * found[1:]).sum() * 2 / max(1, n * (n - 1)))


def _with_itself(found: Floats) -> Floats:
    found[0] = 1.0
    return found
