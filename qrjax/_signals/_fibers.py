"""Where an element meets an aggregate of its own row: a small sample of rows.

x - mean(x), x / sum(x) and the like are functions of an element and of all the others along the reduced
axes. A fiber is a sample of such rows of the source; the aggregates are computed on it row by row, and
whatever formula joins them to the elements is exact up to the sample. The sample is fixed: no run
differs from another.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._quadrature import MASKED, NODES, Floats, phi_inverse
from qrjax._signals._signal import Mask, Signal, Source
from qrjax._signals._tables import Shape

# Elements in a sample; rows are whole up to COLUMNS, or an element would weigh too much in its own sum.
ELEMENTS = 16384
COLUMNS = 1024
# Rows whose elements are less alike have nothing in common.
SMALL = 0.01


def noise_rows(columns: int) -> int:
    """How many rows a sample has."""
    return min(1024, ELEMENTS // columns)


@functools.cache
def _noise(columns: int, seed: int = 0) -> tuple[Floats, Floats]:
    """A stratified common normal for each row and noise within the rows, both standardized."""
    generator = np.random.Generator(np.random.PCG64(20240814 + seed))
    rows = noise_rows(columns)
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
    # The shape and the reduced axes of the array whose rows these are.
    shape: Shape = ()
    axes: tuple[int, ...] = ()
    # For the gates of a mask, where an element of the sample is present.
    patterns: dict[Any, NDArray[np.bool_]] = dataclasses.field(default_factory=dict)
    # The standard deviation within a row of what a softmax exponentiates, once it has.
    spread: list[float] = dataclasses.field(default_factory=list)

    @property
    def columns(self) -> int:
        return min(self.n, COLUMNS)

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """Where rows end before the sample does, see `Segments`."""
        return None

    def known_rows(self, x: Signal) -> Floats | None:
        """The numbers of a known array at the aggregates of the sample's rows."""
        if not self.shape or x.array is None or x.drawn:
            return None
        full = [1 if a in self.axes else n for a, n in enumerate(self.shape)]
        array = np.asarray(x.array, np.float64)
        if x.shape == tuple(n for a, n in enumerate(self.shape) if a not in self.axes):
            array = np.expand_dims(array, self.axes)
        elif x.shape != tuple(full):
            return None
        return np.array(self.taken(array)[:, :1])

    @functools.cached_property
    def z(self) -> Floats:
        """The sampled source, shape (rows, columns)."""
        return _field(self.columns, self.rho)

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

    def partner(self, same: float, cross: float) -> Floats:
        """Other rows, whose elements have the first correlation with these at the same place, the second elsewhere."""
        rows, columns = self.z.shape
        turned = functools.partial(np.roll, shift=(rows // 2 + 1, columns // 2 + 1), axis=(0, 1))
        if self.rho <= SMALL or self.valid is not None:
            return np.asarray(same * self.z + math.sqrt(max(0.0, 1 - same * same)) * turned(self.z))
        common, own = _noise(self.columns)
        a = min(1.0, max(-1.0, cross / self.rho))
        b = min(1.0, max(-1.0, (same - cross) / max(1e-9, 1 - self.rho)))
        both = a * common + math.sqrt(1 - a * a) * turned(common)
        alone = b * own + math.sqrt(1 - b * b) * turned(own)
        return np.asarray(math.sqrt(self.rho) * both + math.sqrt(1 - self.rho) * alone)

    # -- known arrays of the shape whose rows these are -----------------------------------------------------------

    @functools.cached_property
    def _places(self) -> list[NDArray[np.int64]]:
        """For each axis where the sample lies: all positions of the axes that differ within a row, and of the others
        each as often as any, in an order of its own."""
        rows, columns = self.z.shape
        inner = [self.shape[a] for a in self.axes]
        column = ((np.arange(columns) + 0.5) / columns * math.prod(inner)).astype(np.int64)
        within = dict(zip(self.axes, np.unravel_index(column, inner), strict=True))
        found = []
        for axis, size in enumerate(self.shape):
            order = np.random.Generator(np.random.PCG64([271828, axis])).permutation(rows)
            own = ((order + 0.5) / rows * size).astype(np.int64)
            found.append(within[axis][None, :] if axis in within else own[:, None])
        return found

    def varying(self, array: NDArray[Any]) -> list[int]:
        """The axes along which the rows of a known array differ."""
        return [a for a in range(array.ndim) if a not in self.axes and array.shape[a] > 1]

    def strengths(self, squares: Floats, axis: int) -> Floats:
        """A number of each row as a mean at each position of an axis, relative to that of all."""
        place = self._places[axis][: len(squares), 0]
        count = np.bincount(place, minlength=self.shape[axis])
        found = np.bincount(place, weights=squares, minlength=self.shape[axis])
        held = np.flatnonzero(count)
        means = np.interp(np.arange(self.shape[axis]), held, found[held] / count[held])
        return means / max(1e-300, float(means.mean()))

    def strength(self, profile: Floats, axis: int) -> Floats:
        """What a profile of an axis is at each row."""
        return profile[self._places[axis][:, 0]]

    def pairs(self, sample: Floats, axes: Sequence[int]) -> dict[tuple[int, ...], tuple[float, float]]:
        """E[x x'] of elements of two rows, at one column and at two, by those of the axes along which the rows differ.

        Sums over the pairs that agree along some axes are squares of sums over rows; inclusion and exclusion leave
        those that agree along no others.
        """
        columns, found = sample.shape[1], {}
        subsets = [s for n in range(len(axes) + 1) for s in itertools.combinations(axes, n)]
        agreeing = {agree: self._agreeing(sample, agree) for agree in subsets}
        for differ in subsets:
            others = [s for s in subsets if set(axes) - set(differ) <= set(s)]
            total = sum((-1) ** (len(s) + len(differ) - len(axes)) * agreeing[s] for s in others)
            if not differ:  # of each row with itself
                total = total - [len(sample), (sample**2).sum(), (sample.sum(1) ** 2).sum()]
            if total[0] > 0:
                same, both = total[1:] / total[0] / columns
                found[differ] = float(same), float((both - same) / max(1, columns - 1))
        return found

    def _agreeing(self, sample: Floats, axes: Sequence[int]) -> Floats:
        """Of the pairs of rows that agree along axes their number, and the sums of x x' at one column, and at any."""
        places = [self._places[a][:, 0] for a in axes]
        which = np.ravel_multi_index(places, [self.shape[a] for a in axes]) if places else np.zeros(len(sample), int)
        order = np.argsort(which, kind="stable")
        first = np.flatnonzero(np.diff(which[order], prepend=-1))
        sums, counts = np.add.reduceat(sample[order], first), np.diff(first, append=len(sample))
        return np.array([(counts.astype(np.float64) ** 2).sum(), (sums**2).sum(), (sums.sum(1) ** 2).sum()])

    def taken(self, array: NDArray[Any]) -> NDArray[Any]:
        """A known array on the sample; its length may be 1 along axes where nothing differs."""
        at = tuple(np.minimum(place, n - 1) for place, n in zip(self._places, array.shape, strict=True))
        return np.broadcast_to(array[at], self.z.shape)

    def present(self, mask: Mask) -> NDArray[np.bool_]:
        """Which elements of the sample are present; of a mask for a softmax, in every row one at least."""
        key = (*(gate.source for gate in mask.gates), mask.whole)
        if key not in self.patterns:
            parts = [self._pattern(gate, number) for number, gate in enumerate(mask.gates)]
            made = np.array(functools.reduce(np.logical_and, parts))
            if mask.whole:
                empty = ~made.any(1)
                made[empty] = parts[0][empty]
                # Where a row of the mask is empty, programs attend to all of it.
                made[~made.any(1)] = True
            self.patterns[key] = made
        return self.patterns[key]

    def _pattern(self, gate: Signal, number: int) -> NDArray[np.bool_]:
        """Rows of the actual mask, where it is known; else rows with its law."""
        if gate.shape == self.shape and gate.array is not None:
            return self.taken(np.asarray(gate.array, bool))
        if gate.is_constant:
            return np.full(self.z.shape, gate.mean > 0)
        rho = 0.0
        if gate.shape == self.shape:
            rho = float(_tables.differing(gate.rho, self.axes, gate.shape).flat[0])
        return np.interp(_field(self.columns, rho, 1 + number), NODES, gate.values) > 0.5


def _field(columns: int, rho: float, seed: int = 0) -> Floats:
    """Normals with a common correlation within rows."""
    common, own = _noise(columns, seed)
    if rho >= 0:
        return np.sqrt(rho) * common + np.sqrt(1 - rho) * own
    # The most negative common correlation of n variables is that of variables that sum to zero.
    share = min(1.0, -rho * (columns - 1))
    centred = (own - own.mean(1, keepdims=True)) * np.sqrt(columns / max(1, columns - 1))
    return np.asarray(np.sqrt(share) * centred + np.sqrt(1 - share) * np.roll(own, columns // 2 + 1, 0))


def fiber_of(parent: Source, n: int, rho: float) -> Fiber:
    """The fiber of a source along n elements; the same one for every signal on that source."""
    key = ("fiber", n, round(rho, 6))
    if key not in parent.fibers:
        parent.fibers[key] = Fiber(parent, n, min(1.0, max(-1.0 / (n - 1), rho)))
    fiber: Fiber = parent.fibers[key]
    return fiber


def laid_fiber(x: Signal, axes: tuple[int, ...], n: int) -> Fiber:
    """The fiber that knows the rows of its array: for signals with a mask, or with a known array added."""
    assert x.source is not None
    rho = float(_tables.differing(x.rho, axes, x.shape).flat[0])
    key = ("laid", n, round(rho, 6), x.shape, axes)
    if key not in x.source.fibers:
        x.source.fibers[key] = Fiber(x.source, n, min(1.0, max(-1.0 / (n - 1), rho)), x.shape, axes)
    fiber: Fiber = x.source.fibers[key]
    return fiber


def pair_covariance(sample: Floats, n: int, present: NDArray[np.bool_] | None = None) -> float:
    """The covariance of two different elements of a row of n, over the sampled part of the rows."""
    columns = sample.shape[1]
    if columns == 1:
        return float(sample.var())
    count = np.full(sample.shape[0], columns) if present is None else present.sum(1)
    pairs = float((count * (count - 1.0)).sum())
    if pairs == 0:
        return 0.0
    mean = sample.mean() if present is None else sample[present].mean()
    centred = sample - mean if present is None else np.where(present, sample - mean, 0.0)
    found = float((centred.sum(1) ** 2 - (centred**2).sum(1)).sum() / pairs)
    # Competition for a fixed sum is stronger among fewer.
    return found * (columns - 1) / (n - 1) if found < 0 else found
