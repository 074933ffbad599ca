"""One sample of places, where every source has a number: the joint law of signals that meet again.

A source says how it is correlated with others, which is all there is between normal variables. What is computed of
several is related to them in more than a correlation: f c + i g with the c of the step before, (1 - y) g (1 + y).
There the formulas are computed at the same places for all, as far back as their sources are remembered.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._joint import Function, finite, same, source_tables
from qrjax._signals._quadrature import (
    Floats,
    correlation,
    cross_covariance,
    expectation,
    hermite_squares,
    ordered,
    quantiles,
)
from qrjax._signals._scores import (
    BLOCK,
    BLOCKS,
    POINTS,
    at_scores,
    elsewhere,
    noise_rows,
    row_products,
    row_sums,
    scored,
    standardized,
)
from qrjax._signals._signal import KIN, Signal, Source, relation
from qrjax._signals._tables import Shape

# Older sources that a new one is drawn along with, and how far back they are drawn for that alone.
RELATIVES, BACK = 10, 3
# Formulas whose sources have no numbers yet are followed so far, and so many sources of a formula are remembered.
DEPTH, LINEAGE = 40, 128
# The numbers of so many sources are kept, and formulas within formulas.
KEPT, NESTED = 512, 1024
# Correlations from here on are told from the sample's own noise.
TOLD = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Formula:
    """How a source came about: it is the normal score of function(*operands).

    Attributes:
      function: of arrays.
      operands: for each, its values at the nodes and its source, None where it is a number.
      lineage: the sources that have a part in it, and those that they are kin to.
      normal: whether all of that is normal, so that correlations say everything.
    """

    function: Function
    operands: tuple[Part, ...]
    lineage: dict[Source, None]
    depth: int
    normal: bool = False


# The values of a signal at the nodes, and its source; None for a number.
Part = tuple[Floats, Source | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Laid:
    """Of an array that consists of others beside each other along an axis, these, their shares and its own values."""

    parts: tuple[Part, ...]
    shares: tuple[float, ...]
    values: Floats
    axis: int


def told(function: Function, operands: Sequence[Signal], source: Source, normal: bool = False) -> Source:
    """The source, with the formula whose score it is."""
    sources = list(dict.fromkeys(o.source for o in operands if o.source is not None))
    depth = 1 + max(s.formula.depth if s.formula is not None else 0 for s in sources)
    if depth <= NESTED:
        kept = _latest([lineage(s) for s in sources], LINEAGE)
        normal = normal and all(s.formula is None or s.formula.normal for s in sources)
        parts = tuple((o.values if o.source is not None else o.values[:1], o.source) for o in operands)
        source.formula = Formula(function, parts, kept, depth, normal)
    return source


def _latest(lineages: Sequence[dict[Source, None]], count: int) -> dict[Source, None]:
    """So many of those that were used last, the latest at the end: what all steps of a loop use is never old."""
    age: dict[Source, int] = {}
    for one in lineages:
        for back, source in enumerate(reversed(one)):
            age[source] = min(back, age.get(source, back))
    return dict.fromkeys(sorted(age, key=lambda source: (-age[source], source.number))[-count:])


def lineage(source: Source) -> dict[Source, None]:
    """The source and those that it depends on."""
    own = {} if source.formula is None else source.formula.lineage
    base = [source.base] if source.base is not None and abs(source.shift) > TOLD else []
    return {**own, **dict.fromkeys(source.kin), **dict.fromkeys(base), source: None}


def is_entangled(sources: Sequence[Source]) -> bool:
    """Whether some of them depend on each other in more than a correlation."""
    if all(s.formula is None or s.formula.normal for s in sources):
        return len(sources) > 2 and _meet(sources)
    return _meet(sources)


def _meet(sources: Sequence[Source]) -> bool:
    seen: set[Source] = set()
    for source in sources:
        own = lineage(source)
        if not seen.isdisjoint(own):
            return True
        seen.update(own)
    return False


class Places:
    """The numbers of sources at the same places, each drawn when it is first asked for."""

    def __init__(self) -> None:
        self._scores: dict[Source, Floats] = {}
        self._values: weakref.WeakKeyDictionary[Source, tuple[Floats, Floats]] = weakref.WeakKeyDictionary()
        self._rows = 0

    def scores(self, source: Source, back: int = 0, depth: int = 0) -> Floats:
        """The standard normal number of a source at each place."""
        found = self._scores.get(source)
        if found is None:
            formula = source.formula
            if formula is None or depth > DEPTH:
                found = self._drawn(source, back)
            else:
                found = self.computed(formula.function, formula.operands, depth + 1)
                found = standardized(found) if formula.normal else scored(ordered(found))
            self.keep(source, found)
        return found

    def keep(self, source: Source, scores: Floats) -> None:
        """Takes down a source's numbers; the oldest are forgotten."""
        self._scores[source] = scores
        if len(self._scores) > KEPT:
            del self._scores[next(iter(self._scores))]

    def values(self, f: Floats, source: Source) -> Floats:
        """A function of a source at the places; of each source the last is at hand."""
        found = self._values.get(source)
        if found is None or found[0] is not f:
            found = f, at_scores(f, self.scores(source))
            self._values[source] = found
        return found[1]

    def state(self) -> tuple[dict[Source, Floats], int]:
        """What has been drawn up to now, to come back to."""
        return dict(self._scores), self._rows

    def put_back(self, state: tuple[dict[Source, Floats], int]) -> None:
        """Forgets what was drawn since."""
        self._scores, self._rows = dict(state[0]), state[1]

    def known(self, source: Source) -> Floats | None:
        """Its numbers, if it has any yet."""
        return self._scores.get(source)

    def computed(self, function: Function, operands: Sequence[Part], depth: int = 0) -> Floats:
        """A function's values at the places."""
        parts = [v if s is None else at_scores(v, self.scores(s, depth=depth)) for v, s in operands]
        with np.errstate(all="ignore"):
            return np.nan_to_num(finite(np.broadcast_to(function(*parts), (POINTS,))))

    def _drawn(self, source: Source, back: int) -> Floats:
        """Normal numbers with the source's correlations to those that are older."""
        noise = noise_rows(self._rows // BLOCK % BLOCKS)[self._rows % BLOCK]
        self._rows += 1
        relatives = sorted(self._relatives(source, back).items(), key=lambda item: -abs(item[1]))[:RELATIVES]
        if not relatives:
            return noise
        z = np.stack([self.scores(s, back + 1) for s, _ in relatives])
        wanted = np.array([r for _, r in relatives])
        among = row_products(z) + 1e-6 * np.eye(len(z))
        weights = np.linalg.solve(among, wanted)
        share = float(weights @ wanted)
        if share > 1:  # what the correlations say of each other is not quite consistent
            weights, share = weights / math.sqrt(share), 1.0
        shared = np.linalg.solve(among, np.array([float(row @ noise) for row in z]) / POINTS)
        noise = noise - row_sums(np.asarray(shared[None], np.float64), z)[0]
        spread = math.sqrt(max(0.0, 1 - share) / float(noise @ noise / POINTS))
        return np.asarray(row_sums(weights[None], z)[0] + spread * noise)

    def _relatives(self, source: Source, back: int) -> dict[Source, float]:
        found = dict(source.kin)
        if source.base is not None and abs(source.shift) > TOLD:
            others = [source.base, *(s for s in source.base.parts.values() if s in self._scores)]
            found |= {s: relation(source, s) for s in others if s is not source}
        found |= {s: relation(source, s) for s in source.cousins() if s in self._scores}
        return {s: r for s, r in found.items() if abs(r) > TOLD and (s in self._scores or back < BACK)}

    def alike(self, first: Source, second: Source) -> float:
        """The correlation of two sources at one place."""
        if first is second:
            return 1.0
        return float(self.scores(first) @ self.scores(second) / POINTS)


_CURRENT: contextvars.ContextVar[Places | None] = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def places(own: Places | None = None) -> Iterator[Places]:
    """Until it ends, what meets again is computed at these places."""
    made = own or Places()
    token = _CURRENT.set(made)
    try:
        yield made
    finally:
        _CURRENT.reset(token)


def current() -> Places:
    return _CURRENT.get() or Places()


def alike(first: Source, second: Source) -> float:
    """The correlation of two sources at the same place, by their formulas where they have some in common."""
    if first is not second and (first.formula or second.formula) and _meet([first, second]):
        return current().alike(first, second)
    return relation(first, second)


def likeness(x: Signal, y: Signal) -> float:
    """E[x y] over the root of E[x^2] E[y^2], of two arrays at the same place."""
    both, first, second = _products((x.values, x.source), (y.values, y.source))
    scale = math.sqrt(first * second)
    return 0.0 if scale == 0 else min(1.0, max(-1.0, both / scale))


def _products(x: Part, y: Part) -> tuple[float, float, float]:
    """E[x y], E[x^2], E[y^2]: by place, by the correlation, or part by part."""
    (f, first), (g, second) = x, y
    if first is not None and second is not None:
        if first.laid is not None and second.laid is not None and len(first.laid.parts) == len(second.laid.parts):
            return _laid_products(f, first.laid, g, second.laid)
        if (first.formula or second.formula) and (first is second or _meet([first, second])):
            here = current()
            a, b = here.values(f, first), here.values(g, second)
            return float(a @ b) / POINTS, float(a @ a) / POINTS, float(b @ b) / POINTS
    if first is second:
        return expectation(f * g), expectation(f**2), expectation(g**2)
    shared = 0.0 if first is None or second is None else relation(first, second)
    means = expectation(f), expectation(g)
    both = means[0] * means[1] + float(cross_covariance(f, g, np.array([shared]))[0])
    return both, expectation(f**2), expectation(g**2)


def _laid_products(f: Floats, first: Laid, g: Floats, second: Laid) -> tuple[float, float, float]:
    """Of arrays that lie beside others: the sums of what the parts have, place by place along the axis."""
    total = np.zeros(3)
    for share, (a, source), (b, other) in zip(first.shares, first.parts, second.parts, strict=True):
        ours = a if f is first.values else np.interp(a, first.values, f)
        theirs = b if g is second.values else np.interp(b, second.values, g)
        total += share * np.array(_products((ours, source), (theirs, other)))
    both, one, two = total
    return float(both), float(one), float(two)


def of_places(function: Function, operands: list[Signal], sources: list[Source], shape: Shape, dtype: Any) -> Signal:
    """A function of signals whose sources depend on each other, from the sample of places."""
    here = current()
    z = {s: here.scores(s) for s in sources}
    tables = source_tables(operands, sources)
    parts = [(o.values if o.source is not None else o.values[:1], o.source) for o in operands]
    values = here.computed(function, parts)
    order = ordered(values)
    law = quantiles(values, order=order)
    if np.ptp(law) <= 1e-9 * float(np.abs(law).max()):
        return Signal.constant(law[law.size // 2], shape, dtype)
    rho = correlation(hermite_squares(law), _covariances(function, parts, z, tables, values))
    rho[same(tables)] = 1.0
    scores = scored(order)
    source = told(function, operands, Source(kin=_kin(here, scores, sources)))
    here.keep(source, scores)
    return Signal(shape, np.dtype(dtype), law, source, _tables.settled(rho, shape))


def _kin(here: Places, scores: Floats, sources: list[Source]) -> dict[Source, float]:
    """The correlations of a new source's numbers with those of older ones."""
    found = {}
    for older in dict.fromkeys([s for parent in sources for s in parent.kin] + sources):
        z = here.known(older)
        if z is not None:
            found[older] = float(scores @ z / POINTS)
    strongest = sorted(found.items(), key=lambda item: abs(item[1]))[-KIN:]
    return {s: max(-0.9999, min(0.9999, r)) for s, r in strongest if abs(r) > TOLD}


def _covariances(
    function: Function, parts: Sequence[Any], z: dict[Source, Floats], tables: list[Floats], values: Floats
) -> Floats:
    """The covariance with a second element, for every combination of the sources' correlations.

    The second element's sources are those of the first and, for the rest of their variance, of another place: there
    they depend on each other as they do at the first. What the sample says of places that have nothing in common, a
    hundredth where it should be 0, is taken off: of many elements that hundredth would be much.
    """
    stacked = np.stack([table.ravel() for table in tables], 1)
    combinations, inverse = np.unique(stacked.round(6), axis=0, return_inverse=True)
    other = elsewhere()
    centred = values - values.mean()
    strange, variance = centred[other], float(centred @ centred) / POINTS
    off = float(centred @ strange) / POINTS
    found = np.zeros(len(combinations))
    for number, row in enumerate(combinations):
        if not row.any():
            continue
        partner = {
            s: r * zs + math.sqrt(max(0.0, 1 - r * r)) * zs[other] for (s, zs), r in zip(z.items(), row, strict=True)
        }
        arrays = [v if s is None else at_scores(v, partner[s]) for v, s in parts]
        with np.errstate(all="ignore"):
            pair = np.nan_to_num(finite(np.broadcast_to(function(*arrays), (POINTS,))))
        own = float(pair @ strange) / POINTS / variance  # as much of the pair as is of the other place
        found[number] = float(centred @ pair) / POINTS - own * off
    return np.asarray(found[inverse.ravel()].reshape(tables[0].shape))
