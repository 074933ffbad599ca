"""What weights are drawn from, as the walk sees it."""

from __future__ import annotations

import numpy as np

from qrjax._signals._quadrature import CDF, NODES, Floats, phi, phi_inverse
from qrjax._values._distributions import TruncatedNormal


def unit_law(distribution: str) -> Floats:
    """A distribution of variance 1 at the quadrature nodes; a normal one where it is none of the three."""
    if distribution == "uniform":
        return np.sqrt(12.0) * (CDF - 0.5)
    if distribution == "truncated_normal":
        law = TruncatedNormal()
        low, high = phi(np.array([law.lower, law.upper]))
        return phi_inverse(low + CDF * (high - low)) / law.stddev
    return NODES
