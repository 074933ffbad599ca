"""Moments of functions of a normal variable that bend faster than the nodes are close.

A kink, or an activation far beyond its linear range, costs the trapezoid rule on fixed nodes its accuracy; where the
function itself is known, and not only its values, Simpson's rule is refined until it agrees with itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qrjax._signals._quadrature import LIMIT, NODES, Floats

TOLERANCE = 1e-9
LEVELS = 40
# Fourth differences beyond this share of the range show a bend.
BENT = 1e-5
QUARTERS = np.linspace(0.0, 1.0, 5)


def is_bent(values: Floats) -> bool:
    """Whether the values at the nodes turn too fast for the trapezoid rule."""
    extent = float(np.ptp(values))
    if not (extent > 0 and math.isfinite(extent)):
        return False
    central = values[np.abs(NODES) < 6]
    spread = float(np.ptp(central))
    return bool(np.abs(np.diff(central, 4)).max() > BENT * spread) if spread > 0 else False


def moments(function: Callable[[Floats], Floats]) -> tuple[float, float]:
    """E f(Z) and E f(Z)^2 by adaptive Simpson's rule, to 1e-9 of their size."""
    edges = np.linspace(-LIMIT, LIMIT, 129)
    left, right = edges[:-1], edges[1:]
    total = np.zeros(3)
    for level in range(LEVELS):
        once, twice = _simpson(function, left, right)
        scale = np.abs(total) + np.abs(twice.sum(1))
        done = (np.abs(once - twice) <= TOLERANCE * (scale[:, None] + 1e-300)).all(0) | (level + 1 == LEVELS)
        total += twice[:, done].sum(1)
        left, right = left[~done], right[~done]
        if not left.size:
            break
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return float(total[0] / total[2]), float(total[1] / total[2])


def _simpson(function: Callable[[Floats], Floats], left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """The integrals of f, f^2 and 1 over the intervals, whole and by halves; f is asked once for all points."""
    z = left + (right - left) * QUARTERS[:, None]
    values = np.asarray(function(z.ravel()), np.float64).reshape(z.shape)
    density = np.exp(-0.5 * z * z)
    at = np.stack([values * density, values * values * density, density])
    sixth = (right - left) / 6
    once = sixth * (at[:, 0] + 4 * at[:, 2] + at[:, 4])
    twice = sixth / 2 * (at[:, 0] + 4 * at[:, 1] + 2 * at[:, 2] + 4 * at[:, 3] + at[:, 4])
    return once, twice
