"""Numbers for the sample of places: noise, normal scores, and sums over the places."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from qrjax._sequences._directions import static_directions
from qrjax._signals._quadrature import NODES, Floats, normal_scores, phi_inverse

# Places in the sample, a power of two for Sobol's points; moments are right to half a percent, those of a
# recurrence to one or two.
EXPONENT = 13
POINTS = 1 << EXPONENT
# Rows of noise that are made together and uncorrelated with each other; so many blocks, and then the first again: by
# then a recurrence has forgotten it.
BLOCK, BLOCKS = 32, 8


@functools.cache
def noise_rows(block: int) -> Floats:
    """Rows of uncorrelated normal scores: scrambled points of Sobol's sequence, one dimension for each row."""
    generator = np.random.Generator(np.random.PCG64([141421, block]))
    rows = np.empty((BLOCK, POINTS))
    for row in range(BLOCK):
        bits = generator.integers(1 << 32, size=1, dtype=np.uint32)
        for direction in _scrambled(static_directions(1 + block * BLOCK + row), generator):
            bits = np.concatenate([bits, bits ^ direction])
        rows[row] = phi_inverse((bits.astype(np.float64) + 0.5) / 2.0**32)
    rows -= rows.mean(1, keepdims=True)
    return row_sums(np.linalg.inv(np.linalg.cholesky(row_products(rows))), rows)


def _scrambled(directions: Any, generator: np.random.Generator) -> list[Any]:
    """The direction numbers times a random lower triangular matrix of bits (Matousek 1998)."""
    found = []
    rows = [
        (int(generator.integers(1 << 32, dtype=np.uint64)) >> (32 - place) << (32 - place) if place else 0)
        | 1 << (31 - place)
        for place in range(32)
    ]
    for direction in directions[:EXPONENT]:
        value = 0
        for place, row in enumerate(rows):
            value |= ((row & int(direction)).bit_count() & 1) << (31 - place)
        found.append(np.uint32(value))
    return found


@functools.cache
def elsewhere() -> Any:
    """For every place another one, by chance."""
    return np.random.Generator(np.random.PCG64(173205)).permutation(POINTS)


def scored(order: Any) -> Floats:
    """Normal scores in this order."""
    scores = np.empty(POINTS)
    scores[order] = normal_scores(POINTS)
    return scores


def standardized(values: Floats) -> Floats:
    centred = values - values.mean()
    return np.asarray(centred / math.sqrt(float(centred @ centred) / POINTS + 1e-300))


def row_products(x: Floats) -> Floats:
    """The mean products of rows, pair by pair: of matrices BLAS starts threads, and rounds by their number.

    OpenBLAS does so of vectors too, but from 10,000 numbers on, which `POINTS` is below.
    """
    found = np.empty((len(x), len(x)))
    for i, row in enumerate(x):
        for j in range(i + 1):
            found[i, j] = found[j, i] = float(row @ x[j]) / POINTS
    return found


def row_sums(weights: Floats, rows: Floats) -> Floats:
    """Sums of rows with these weights."""
    return np.asarray(np.einsum("ij,jp->ip", weights, rows))


def at_scores(values: Floats, z: Floats) -> Floats:
    """A function that is known at the nodes, in between."""
    place = np.clip((z - NODES[0]) * (1 / (NODES[1] - NODES[0])), 0, NODES.size - 1 - 1e-9)
    cell = place.astype(np.intp)
    low = values[cell]
    return np.asarray(low + (values[cell + 1] - low) * (place - cell))
