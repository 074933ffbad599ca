"""Counts of independent draws."""

from __future__ import annotations

import math

import numpy as np


def central_interval(n: int, probability: float, confidence: float) -> tuple[int, int]:
    """The quantiles of a binomial count of n draws that leave (1 - confidence) / 2 at each side, or less."""
    if not 0 < probability < 1:
        return (0, 0) if probability <= 0 else (n, n)
    mean, variance = n * probability, n * probability * (1 - probability)
    # Nine standard deviations, or for small means what a Poisson count's upper tail needs.
    reach = 9 * math.sqrt(variance) + 20
    counts = range(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    cumulative = np.cumsum([_probability(k, n, probability) for k in counts])
    tail = (1 - confidence) / 2
    low, high = np.searchsorted(cumulative / cumulative[-1], [tail, 1 - tail])
    return counts[int(low)], counts[int(high)]


def _probability(k: int, n: int, probability: float) -> float:
    choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choices + k * math.log(probability) + (n - k) * math.log1p(-probability))
