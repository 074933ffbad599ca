"""The distributions as functions of a standardized value: density, and probability between two."""

from __future__ import annotations

import itertools
import math

import numpy as np

from qrjax._plot._arrays import Floats
from qrjax._values._distributions import Distribution, Normal, TruncatedNormal, Uniform
from qrjax._values._truncated import PRECISION, normal_cdf

NAMES: dict[type[Distribution], str] = {
    Uniform: "uniform",
    Normal: "normal",
    TruncatedNormal: "truncated normal",
}


def densities(law: Distribution, values: Floats) -> Floats:
    """The density at each value, 0 outside of the bounds."""
    lower, upper = law.bounds
    inside = (values >= lower) & (values <= upper)
    if isinstance(law, Uniform):
        return np.where(inside, 1 / (upper - lower), 0.0)
    mass = (normal_cdf(upper) - normal_cdf(lower)) / 2**PRECISION
    return np.where(inside, np.exp(-(values**2) / 2) / math.sqrt(2 * math.pi) / mass, 0.0)


def probabilities(law: Distribution, edges: Floats) -> Floats:
    """The probabilities between consecutive edges."""
    lower, upper = law.bounds
    clipped = np.clip(edges, lower, upper)
    if isinstance(law, Uniform):
        return np.asarray(np.diff(clipped) / (upper - lower), np.float64)
    # In Python's integers, as floats near 1 leave differences no digits in the upper tail.
    mass = normal_cdf(upper) - normal_cdf(lower)
    below = [normal_cdf(edge) for edge in clipped.tolist()]
    return np.array([(b - a) / mass for a, b in itertools.pairwise(below)], np.float64)
