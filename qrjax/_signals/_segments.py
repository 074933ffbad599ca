"""Where an element meets an aggregate of its own segment: a small sample of segments, of their own lengths.

A graph's edges are grouped by the node that they end at, tokens by the sequence that they belong to. A sample of
such groups, each as long as an actual one, is a fiber whose rows end where their segments do.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._fibers import COLUMNS, Fiber, noise_rows
from qrjax._signals._joint import ONE, finite
from qrjax._signals._masks import compacted, gate
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import Floats, correlation, hermite_squares, quantiles
from qrjax._signals._signal import Mask, Signal, Source, related
from qrjax._signals._tables import Shape

# Values from here on, of either sign, say that a segment was empty.
EMPTY = 1e4


@dataclasses.dataclass(frozen=True, eq=False)
class Segments(Fiber):
    """A sample of segments of `parent` along its first axis.

    Attributes:
      kind: the kind of pairs that lie in one segment, see `Signal.twins`.
      places: the segment of each element.
      degrees: the length of each segment.
    """

    kind: Any = None
    places: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    degrees: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @functools.cached_property
    def rows(self) -> NDArray[np.int64]:
        """The segments of the sample: those at the quantiles of all lengths, in no order."""
        rows = noise_rows(self.columns)
        order = np.random.Generator(np.random.PCG64(314159)).permutation(rows)
        row = ((order + 0.5) / rows * self.degrees.size).astype(np.int64)
        return np.argsort(self.degrees, kind="stable")[row]

    @functools.cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Their lengths."""
        return np.minimum(self.degrees[self.rows], self.columns)

    def known_rows(self, x: Signal) -> Floats | None:
        """A known number for each segment, such as their lengths."""
        if x.array is None or x.drawn or x.ndim == 0 or x.array.shape[0] != self.degrees.size:
            return None
        numbers = np.asarray(x.array, np.float64).reshape(self.degrees.size, -1)
        return numbers[self.rows, :1] if bool((numbers == numbers[:, :1]).all()) else None

    @functools.cached_property
    def valid(self) -> NDArray[np.bool_]:
        return np.arange(self.columns)[None, :] < self.lengths[:, None]

    def squares(self, sample: Floats) -> Floats:
        """The mean square of the elements of segments of each length, 1 for lengths that the sample has not."""
        seen = np.where(self.valid, sample**2, 0.0).sum(1)
        size = int(max(self.degrees.max(initial=0), self.columns)) + 1
        total, count = (np.bincount(self.lengths, weights=w, minlength=size) for w in (seen, self.lengths))
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), seen.sum() / max(1, self.lengths.sum())))

    def tie(self, rows: Floats) -> float:
        """The correlation of an element's source with the aggregate of its segment."""
        seen = np.broadcast_to(rows, self.valid.shape)[self.valid]
        spread = float(seen.std()) if seen.size else 0.0
        return float((self.z[self.valid] * (seen - seen.mean())).mean()) / spread if spread > 0 else 0.0


def segments_of(x: Signal, kind: Any, places: NDArray[np.int64], count: int) -> Segments:
    """The sample of the segments of a signal's first axis; the same one for every signal on its source."""
    assert x.source is not None
    rho = float(x.twins.get(kind, x.rho)[(1, *[0] * (x.ndim - 1))])
    key = ("segments", kind, count, round(rho, 6))
    if key not in x.source.fibers:
        degrees = np.bincount(places, minlength=count)
        n = int(min(COLUMNS, max(2, degrees.max(initial=0))))
        x.source.fibers[key] = Segments(x.source, n, max(-1 / (n - 1), rho), kind=kind, places=places, degrees=degrees)
    found: Segments = x.source.fibers[key]
    return found


def element_sample(x: Signal, fiber: Segments) -> Floats:
    """The signal on a sample of segments."""
    if x.fiber is fiber and x.sample is not None and x.sample.shape[1] > 1:
        return x.sample
    return fiber.values(x.values)


def shared(x: Signal, kind: Any, count: int) -> Segments | None:
    """The segments that a signal has a sample of, if they are these."""
    fiber = x.fiber
    if not isinstance(fiber, Segments) or x.sample is None or fiber.kind != kind or fiber.degrees.size != count:
        return None
    return fiber


# What becomes of rows, and what an empty one is.
REDUCTIONS: dict[str, tuple[Callable[..., Any], float]] = {
    "max": (np.max, -np.inf), "min": (np.min, np.inf), "mul": (np.prod, 1.0), "add": (np.sum, 0.0),
}  # fmt: skip


def reduced(x: Signal, fiber: Segments, how: str, base: float, shape: Shape, dtype: Any) -> Signal:
    """An aggregate of every segment and of a number; empty ones are that number."""
    function, neutral = REDUCTIONS[how]
    sample = element_sample(x, fiber)
    rows = function(np.where(fiber.valid, sample, neutral), axis=1, keepdims=True)
    rows = finite(function(np.concatenate([rows, np.full_like(rows, base)], 1), axis=1, keepdims=True))
    empty = fiber.lengths == 0
    absent = bool(empty.any()) and abs(float(finite(base))) >= EMPTY
    law = rows[~empty] if absent else rows
    values = quantiles(law)
    if np.ptp(values) == 0:
        return Signal.constant(float(values[0]), shape, dtype)
    rho = np.where(x.rho >= ONE, 1.0, np.clip(x.rho, 0.0, 1.0))
    source = related([(fiber.parent, fiber.tie(rows))])
    made = Signal(shape, np.dtype(dtype), values, source, rho, fiber=fiber, sample=rows)
    if not absent:
        return made
    filled = (fiber.degrees > 0).reshape(-1, *[1] * (len(shape) - 1))
    return dataclasses.replace(made, mask=Mask(float(finite(base)), (gate(compacted(filled), shape),)))


def returned(made: Signal, fiber: Segments, rows: Floats) -> Signal:
    """Aggregates at the elements that they came from."""
    sample = np.broadcast_to(rows, fiber.valid.shape)
    seen = sample[fiber.valid]
    values = quantiles(seen)
    source = Source() if made.source is None else made.source
    return dataclasses.replace(made, values=values, source=source, fiber=fiber, sample=sample, at=None, mask=None)


def by_length(result: Signal) -> Signal:
    """What the sample knows of a function of elements and aggregates: its strength, and pairs in one segment."""
    fiber, sample = result.fiber, result.sample
    if not isinstance(fiber, Segments) or sample is None or result.is_constant:
        return result
    if sample.shape[1] == 1:
        return _aggregates_by_length(result, fiber, sample) if result.shape[0] == fiber.degrees.size else result
    squares = fiber.squares(sample)
    profile = normalized(squares[fiber.degrees[fiber.places]])
    relative = squares[fiber.lengths] / max(1e-300, float((squares[fiber.lengths] * fiber.lengths).sum()))
    relative = relative * fiber.lengths.sum()
    if profile is None:
        relative = np.ones_like(relative)
    inside = np.where(fiber.valid, sample, 0.0)
    pairs = float((fiber.lengths * (fiber.lengths - 1.0) * relative).sum())
    moment = float((inside.sum(1) ** 2 - (inside**2).sum(1)).sum()) / pairs if pairs > 0 else result.mean**2
    found = correlation(hermite_squares(result.values), np.array([moment - result.mean**2]))
    table = result.rho.copy()
    table[1] = np.clip(float(found[0]) * result.rho[0], -1.0, 1.0)
    profiles = {a: p for a, p in result.profiles.items() if a} | kept({0: profile})
    return dataclasses.replace(result, profiles=profiles, twins=result.twins | {fiber.kind: table})


def _aggregates_by_length(result: Signal, fiber: Segments, rows: Floats) -> Signal:
    """The strength of a function of aggregates, by the length of their segments."""
    size = int(max(fiber.degrees.max(initial=0), fiber.columns)) + 1
    total, count = (
        np.bincount(fiber.lengths, weights=w, minlength=size) for w in (rows[:, 0] ** 2, np.ones(len(rows)))
    )
    squares = np.where(count > 0, total / np.maximum(count, 1), float((rows**2).mean()))
    profiles = {a: p for a, p in result.profiles.items() if a} | kept({0: normalized(squares[fiber.degrees])})
    return dataclasses.replace(result, profiles=profiles)


# -- sums ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Totals:
    """The moments of sums over segments.

    Attributes:
      mean: of a sum.
      own: E[s s'] of two elements of the sums of one segment, by the other axes along which they differ.
      apart: the same for the sums of two segments, and `kin` for those of pairs of segments of these kinds.
      profile: the second moments of the segments.
      positive: whether no term is negative.
    """

    mean: float
    own: Floats
    apart: Floats
    kin: dict[Any, Floats]
    profile: Floats | None
    positive: bool

    def signal(self, shape: Shape, dtype: Any) -> Signal:
        """A signal with these moments: normal, or lognormal if no term is negative."""
        variance = float(self.own.flat[0]) - self.mean**2
        if variance <= 0:
            return Signal.constant(self.mean, shape, dtype)

        def table(apart: Floats) -> Floats:
            found = np.stack([self.own, apart], 0) - self.mean**2
            return _tables.settled(np.clip(found / variance, -1, 1), shape)

        twins = {kind: table(apart) for kind, apart in self.kin.items()}
        if self.positive and self.mean > 0:
            width = math.sqrt(math.log1p(variance / self.mean**2))
            made = Signal.normal(shape, math.log(self.mean) - width**2 / 2, width**2, dtype, table(self.apart))
            made = dataclasses.replace(made, values=np.exp(made.values), at=None)
        else:
            made = Signal.normal(shape, self.mean, variance, dtype, table(self.apart))
        return dataclasses.replace(made, profiles=kept({0: self.profile}), twins=twins)


def totals(x: Signal, places: NDArray[np.int64], count: int, kind: Any, kindred: Mapping[Any, Any]) -> Totals:
    """The moments of the sums over `count` segments; `kindred`: for a kind of pairs of segments that of their pairs."""
    inside = (places >= 0) & (places < count)
    roots = np.sqrt(x.profiles.get(0, np.ones(len(places))))[inside]
    # The sums of strengths and of their roots take the place of the number of elements.
    ones = np.asarray(np.bincount(places[inside], weights=roots**2, minlength=count), np.float64)
    sums = np.asarray(np.bincount(places[inside], weights=roots, minlength=count), np.float64)
    twos = sums**2 - ones

    def pairs(which: Any) -> Floats:
        return np.asarray(dataclasses.replace(x, rho=x.twins.get(which, x.rho)).moments.take(1, 0))

    same, together = x.moments.take(0, 0), pairs(kind)
    profile = normalized(ones * float(same.flat[0]) + twos * float(together.flat[0]))
    unlike = 1.0 if profile is None else float(np.sqrt(profile).mean() ** 2)
    apart = (float(sums.sum()) ** 2 - float((sums**2).sum())) / max(1, count * (count - 1)) / unlike
    return Totals(
        mean=float(sums.mean()) * x.mean,
        own=float(ones.mean()) * same + float(twos.mean()) * together,
        apart=apart * pairs(None),
        kin={found: apart * pairs(which) for found, which in kindred.items()},
        profile=profile,
        positive=bool(x.values.min() >= 0),
    )
