"""A random array, described by one typical element and how two elements are related."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _adaptive, _tables
from qrjax._signals._quadrature import (
    NODES,
    Floats,
    correlation,
    covariance,
    expectation,
    hermite_squares,
    quantiles,
    thinned,
)
from qrjax._signals._recipe import Recipe
from qrjax._signals._source import COMMON as COMMON
from qrjax._signals._source import KIN as KIN
from qrjax._signals._source import Source as Source
from qrjax._signals._source import related as related
from qrjax._signals._source import relation as relation
from qrjax._signals._tables import Shape
from qrjax._signals._weight import Weight
from qrjax._words._numbers import real_number

Profiles = dict[int, Floats]
# Infinities become this, so that masked scores keep finite moments.
HUGE = 1e30


def _line(mean: float, spread: float, z: Floats) -> Floats:
    return mean + spread * z


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """Which elements of an array are absent: their number stands for "none", as a softmax's masked scores.

    Attributes:
      value: the number that they hold.
      gates: signals of truth values, of the array's shape and independent of each other: an element is present where
        all hold. A gate whose `array` is known may have it with length 1 along axes where nothing differs.
      whole: whether a row without any element counts as one with all, as in a softmax.
    """

    value: float
    gates: tuple[Signal, ...]
    whole: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """A random array.

    Attributes:
      shape, dtype: those of the array.
      values: f at the quadrature nodes, for a typical element f(Z).
      source: the Z, None for an array that is everywhere the same number.
      rho: the correlation of Z between two elements that differ along a subset of axes.
      array: the array itself, where it is known and small.
      weight: the untouched parameter that it is.
      recipe: how it came about, where the model's input has no part in it.
      fiber, sample: a sample of fibers along reduced axes, and the values there (see `_fibers`).
      twins: other versions of `rho`, for pairs that are closer than most: neighbours in an image ("near"), edges
        of a graph that end at one node; by what brings them together.
      at: f itself, where it is known between the nodes too.
      profiles: for an axis whose positions differ in strength, their second moments relative to the mean.
      mask: which elements are absent; everything else is then about those that are present.
      bare: the same with the elements that a known mask set to one number as absent.
      shift: of a sum with a known array, the other summand and the array, whose length may be 1 along an axis.
      response: of parts of another array and of sums of them, what they are of it (see `_responses`).
      family: of a function of another array and of known ones, what it is at each place (see `_families`).
      input_axes: of a function of a weight's output, the axes along which inputs differ and weights do not.
      drawn: whether the array is one draw of a random one, and what is computed from it another.
    """

    shape: Shape
    dtype: np.dtype[Any]
    values: Floats
    source: Source | None
    rho: Floats
    array: NDArray[Any] | None = None
    weight: Weight | None = None
    recipe: Recipe | None = None
    fiber: Any = None
    sample: Floats | None = None
    profiles: Profiles = dataclasses.field(default_factory=dict)
    twins: dict[Any, Floats] = dataclasses.field(default_factory=dict)
    at: Callable[[Floats], Floats] | None = None
    mask: Mask | None = None
    drawn: bool = False
    bare: Signal | None = None
    shift: tuple[Signal, NDArray[Any]] | None = None
    response: Any = None
    family: Any = None
    input_axes: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        mean, variance = round(self.mean, 9), round(self.variance, 9)  # sums over nodes are off by less
        return f"<{type(self).__name__} {self.dtype}{list(self.shape)}: mean {mean:.4g}, variance {variance:.4g}>"

    # -- makers ------------------------------------------------------------------------------------------------

    @staticmethod
    def constant(value: float, shape: Shape = (), dtype: Any = np.float32) -> Signal:
        """An array that is everywhere `value`."""
        values = np.full_like(NODES, min(max(float(value), -HUGE), HUGE))
        return Signal(tuple(shape), np.dtype(dtype), values, None, _tables.constant(len(shape)))

    @staticmethod
    def normal(
        shape: Shape, mean: float = 0.0, variance: float = 1.0, dtype: Any = np.float32, rho: Floats | None = None
    ) -> Signal:
        """A normal array; independent elements, unless `rho` says otherwise."""
        shape, mean, variance = tuple(shape), real_number(mean), real_number(variance)
        if variance <= 0:
            return Signal.constant(mean, shape, dtype)
        table = _tables.independent(shape) if rho is None else _tables.settled(rho, shape)
        line = functools.partial(_line, mean, math.sqrt(variance))
        return Signal(shape, np.dtype(dtype), line(NODES), Source(), table, at=line)

    @staticmethod
    def known(array: NDArray[Any]) -> Signal:
        """The law of the elements of an actual array, and of its pairs."""
        dtype = np.asarray(array).dtype
        numbers = np.nan_to_num(np.asarray(thinned(array), np.float64), nan=0.0, posinf=HUGE, neginf=-HUGE)
        if numbers.size == 0 or np.ptp(numbers) == 0:
            made = Signal.constant(float(numbers.flat[0]) if numbers.size else 0.0, array.shape, dtype)
            return dataclasses.replace(made, array=array)
        values = quantiles(numbers)
        moments = _tables.empirical(numbers - numbers.mean())
        rho = correlation(hermite_squares(values), moments)
        rho[(0,) * rho.ndim] = 1.0
        return Signal(array.shape, dtype, values, Source(), _tables.settled(rho, array.shape), array=array)

    def map(self, function: Callable[[Floats], Floats]) -> Signal:
        """The signal after an elementwise function of NumPy arrays.

        Args:
          function: takes the float64 values at the quadrature nodes, and returns as many.
        """
        with np.errstate(all="ignore"):
            values = np.clip(np.broadcast_to(function(self.values), NODES.shape).astype(np.float64), -HUGE, HUGE)
        if self.source is None or np.ptp(values) == 0:
            return Signal.constant(float(values[0]), self.shape, self.dtype)
        sample = None if self.sample is None else np.asarray(function(self.sample), np.float64)
        inner = self.at
        at = None if inner is None else lambda z: function(inner(z))
        return self.fresh(values=values, fiber=self.fiber, sample=sample, at=at)

    def with_shape(self, shape: Shape) -> Signal:
        """A signal of the same law and another shape: old axes keep their correlations, from the last one back."""
        kept = min(self.ndim, len(shape))
        table = _tables.dropped(self.rho, range(self.ndim - kept))
        table = _tables.broadcast(table, range(len(shape) - kept, len(shape)), len(shape))
        return self.fresh(shape=tuple(shape), rho=_tables.settled(table, tuple(shape)))

    def fresh(self, **changes: Any) -> Signal:
        """The signal with changes, without what no longer holds: the array, the parameter, the fibers."""
        dropped: dict[str, Any] = {
            "array": None,
            "weight": None,
            "recipe": None,
            "fiber": None,
            "sample": None,
            "profiles": {},
            "twins": {},
            "at": None,
            "mask": None,
            "drawn": False,
            "bare": None,
            "shift": None,
            "response": None,
            "family": None,
            "input_axes": frozenset(),
        }
        return dataclasses.replace(self, **(dropped | changes))

    # -- moments -----------------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_constant(self) -> bool:
        return self.source is None

    @functools.cached_property
    def _refined(self) -> tuple[float, float] | None:
        """Mean and variance where the nodes are too far apart for f."""
        if self.at is None or self.source is None or not _adaptive.is_bent(self.values):
            return None
        with np.errstate(all="ignore"):
            # Centred first, or the variance would be the small difference of large numbers.
            about = expectation(self.values)
            function = self.at
            first, second = _adaptive.moments(lambda z: np.clip(function(z), -HUGE, HUGE) - about)
        if not (math.isfinite(first) and math.isfinite(second)):
            return None
        return about + first, max(0.0, second - first**2)

    @functools.cached_property
    def mean(self) -> float:
        own = float(self.values[0]) if self.source is None else expectation(self.values)
        return own if self._refined is None else self._refined[0]

    @functools.cached_property
    def variance(self) -> float:
        if self.source is None:
            return 0.0
        return expectation((self.values - self.mean) ** 2) if self._refined is None else self._refined[1]

    @property
    def second_moment(self) -> float:
        return self.mean**2 + self.variance

    @functools.cached_property
    def squares(self) -> Floats:
        """The squared Hermite coefficients of f."""
        return hermite_squares(self.values)

    @functools.cached_property
    def covariances(self) -> Floats:
        """Cov of two elements, by the axes along which they differ."""
        if self.source is None:
            return np.zeros_like(self.rho)
        table = np.array(covariance(self.squares, self.rho))  # of one number too
        table[self.rho >= 1.0] = self.variance
        return table

    @property
    def moments(self) -> Floats:
        """E[x x'] of two elements, by the axes along which they differ."""
        return self.covariances + self.mean**2

    @functools.cached_property
    def is_normal(self) -> bool:
        """Whether f is affine."""
        if self.source is None:
            return True
        slope = (self.values[-1] - self.values[0]) / (NODES[-1] - NODES[0])
        off = self.values - self.values[0] - slope * (NODES - NODES[0])
        return bool(np.abs(off).max() <= 1e-9 * abs(slope) * 16 + 1e-300)

    def axis_correlation(self, axis: int) -> float:
        """The correlation between two elements that differ along one axis only."""
        one = tuple(int(a == axis) for a in range(self.ndim))
        return float(self.covariances[one] / self.variance) if self.variance > 0 else 1.0
