"""Where an element meets an aggregate of its own row: a small sample of rows.

x - mean(x), x / sum(x) and the like are functions of an element and of all the others along the reduced
axes. A fiber is a sample of such rows of the source; the aggregates are computed on it row by row, and
whatever formula joins them to the elements is exact up to the sample. The sample is fixed: no run
differs from another.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from qrjax._signals._quadrature import MASKED, NODES, Floats, phi_inverse
from qrjax._signals._signal import Source

# Elements in a sample; rows are whole up to COLUMNS, or an element would weigh too much in its own sum.
ELEMENTS = 16384
COLUMNS = 1024


@functools.cache
def _noise(columns: int) -> tuple[Floats, Floats]:
    """A stratified common normal for each row and noise within the rows, both standardized."""
    generator = np.random.Generator(np.random.PCG64(20240814))
    rows = min(1024, ELEMENTS // columns)
    common = phi_inverse((generator.permutation(rows) + 0.5) / rows)
    common = common / np.sqrt((common**2).mean())
    strata = generator.permutation(rows * columns) + generator.random(rows * columns)
    own = phi_inverse(strata / (rows * columns)).reshape(rows, columns)
    return common[:, None], own


@dataclasses.dataclass(frozen=True, eq=False)
class Fiber:
    """A sample of rows of `parent`, whose reduced axes hold n elements with correlation rho."""

    parent: Source
    n: int
    rho: float
    # The standard deviation within a row of what a softmax exponentiates, once it has.
    spread: list[float] = dataclasses.field(default_factory=list)

    @property
    def columns(self) -> int:
        return min(self.n, COLUMNS)

    @functools.cached_property
    def z(self) -> Floats:
        """The sampled source, shape (rows, columns)."""
        common, own = _noise(self.columns)
        if self.rho >= 0:
            return np.sqrt(self.rho) * common + np.sqrt(1 - self.rho) * own
        # The most negative common correlation of n variables is that of variables that sum to zero.
        k = self.columns
        share = min(1.0, -self.rho * (k - 1))
        centred = (own - own.mean(1, keepdims=True)) * np.sqrt(k / max(1, k - 1))
        return np.sqrt(share) * centred + np.sqrt(1 - share) * np.roll(own, k // 2 + 1, 0)

    @functools.cached_property
    def _cells(self) -> tuple[NDArray[np.intp], Floats]:
        """Between which nodes the sampled source lies, and where: the nodes are evenly spaced."""
        place = np.clip((self.z - NODES[0]) / (NODES[1] - NODES[0]), 0, NODES.size - 1 - 1e-9)
        cell = place.astype(np.intp)
        return cell, place - cell

    def values(self, f: Floats) -> Floats:
        """f at the sampled source."""
        cell, part = self._cells
        found = f[cell] + (f[cell + 1] - f[cell]) * part
        if f.min() < -MASKED < f.max():
            # No row of a causal mask is masked all over, as a few of a random sample are.
            empty = found.max(1) < -MASKED
            found[empty, 0] = np.median(f[f > -MASKED])
        return found


def fiber_of(parent: Source, n: int, rho: float) -> Fiber:
    """The fiber of a source along n elements; the same one for every signal on that source."""
    key = ("fiber", n, round(rho, 6))
    if key not in parent.fibers:
        parent.fibers[key] = Fiber(parent, n, min(1.0, max(-1.0 / (n - 1), rho)))
    fiber: Fiber = parent.fibers[key]
    return fiber


def pair_covariance(sample: Floats, n: int) -> float:
    """The covariance of two different elements of a row of n, over the sampled part of the rows."""
    rows, columns = sample.shape
    if columns == 1:
        return float(sample.var())
    mean = sample.mean()
    centred = sample - mean
    found = float((centred.sum(1) ** 2 - (centred**2).sum(1)).sum() / (rows * columns * (columns - 1)))
    # Competition for a fixed sum is stronger among fewer.
    return found * (columns - 1) / (n - 1) if found < 0 else found
