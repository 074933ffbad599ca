"""What makes signals dependent: one standard normal variable for each element, and how two of them are related."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from qrjax._signals._quadrature import Floats

# Relations to older sources that a source remembers; signals meet their kin within a few operations.
KIN = 20
# The part of an array that all its elements share.
COMMON = "common"


class Born(NamedTuple):
    """Of a weight's output, where it comes from.

    Attributes:
      parent: the source of the weight's input.
      products: how many are summed.
      rank: the effective rank of the input's rows, see `_ranks`.
    """

    parent: Source
    products: float
    rank: float


class Rows(NamedTuple):
    """Of an array with features, what sets its rows apart.

    Attributes:
      rank: its effective rank, see `_ranks`.
      apart: its share of the variance; the rest is the same in all rows of an example.
    """

    rank: float
    apart: float


@dataclasses.dataclass(eq=False)
class Source:
    """One standard normal variable for each element: what makes two signals dependent is sharing it.

    Attributes:
      kin: correlations, element by element, with older sources.
      base: the source of the array that this one is a part of, with other elements in the same places.
      born: of a weight's output, where it comes from.
      rows: of an array with features, what sets its rows apart; None where its kin know it.
      scores: of a contraction of two weights' outputs, the sources of their inputs.
      shift: the correlation between an element of `base` and the one that a part has in its place.
      which: of a part, which.
      step: of a part that is one of an array's steps, its number.
      summands: of a sum with a known array, the other summand, the array and the sum's values (see `_rows`).
      lags: of an array that is taken step by step, the correlations of steps by their distance; None if they are alike.
    """

    kin: dict[Source, float] = dataclasses.field(default_factory=dict)
    base: Source | None = None
    shift: float = 0.0
    parts: dict[Any, Source] = dataclasses.field(default_factory=dict)
    fibers: dict[Any, Any] = dataclasses.field(default_factory=dict)
    born: Born | None = None
    rows: Rows | None = None
    scores: frozenset[Source] = frozenset()
    formula: Any = None
    laid: Any = None
    summands: Any = None
    which: Any = None
    step: int | None = None
    lags: Floats | None = None
    number: int = dataclasses.field(default_factory=itertools.count().__next__)

    def part(self, which: Any, shift: float) -> Source:
        """The source of a part; asking twice for one part gives one source."""
        if shift >= 1.0:
            return self
        if which not in self.parts:
            # What the whole is kin to, the part is kin to the same part of.
            kin = {older.part(which, min(shift, 0.999)): r for older, r in self.kin.items()}
            self.parts[which] = Source(
                base=self, shift=shift, which=which, kin=kin, born=self.born, rows=self.rows, scores=self.scores
            )
        return self.parts[which]

    def whole(self) -> Source:
        """The source of the array that it is a part of, or a part of a part."""
        return self if self.base is None else self.base.whole()

    def parents(self) -> dict[Source, float]:
        """Its kin, without those for whom a younger one speaks."""
        return {source: r for source, r in self.kin.items() if not _elder(source, self.kin)}

    def common(self) -> Source:
        """What the elements of an array share, and those of its parts; a sum of many has little else."""
        return self.whole().parts.setdefault(COMMON, Source(which=COMMON))

    def cousins(self) -> list[Source]:
        """Of a part of one of an array's steps, the same part of the others."""
        if self.base is None or self.base.step is None or self.base.base is None:
            return []
        steps = (step.parts.get(self.which) for step in self.base.base.parts.values() if step is not self.base)
        return [part for part in steps if part is not None]


def related(parents: list[tuple[Source, float]], shares: Sequence[float] | None = None) -> Source:
    """A new source with these correlations to its parents and, through its shares in them, to their kin."""
    kin: dict[Source, float] = {}
    for (parent, _), share in zip(parents, shares or [r for _, r in parents], strict=True):
        for older, s in parent.kin.items():
            kin[older] = kin.get(older, 0.0) + share * s
    for parent, r in parents:
        kin[parent] = r
    strongest = sorted(kin.items(), key=lambda item: abs(item[1]))[-KIN:]
    return Source(kin={source: r for source, r in strongest if abs(r) > 5e-3})


def _elder(source: Source, others: Any) -> bool:
    """Whether another of them descends from this one, and so speaks for it."""
    return any(source in other.kin for other in others if other is not source)


def relation(first: Source, second: Source) -> float:
    """The correlation between two sources at the same place."""
    if first is second:
        return 1.0
    if second in first.kin:
        return first.kin[second]
    if first in second.kin:
        return second.kin[first]
    # In the order of kinship, not of a set's addresses: sums must not depend on where objects lie.
    if common := [s for s in first.kin if s in second.kin]:
        # Siblings: through the older sources that both descend from, as if those were independent.
        return max(-0.99, min(0.99, sum(first.kin[s] * second.kin[s] for s in common if not _elder(s, common))))
    if first.base is not None and second.base is not None and first.base is second.base:
        if first.step is not None and second.step is not None and first.base.lags is not None:
            return float(first.base.lags[abs(first.step - second.step)])
        return min(first.shift, second.shift)
    if first.base is not None and second.base is not None and first.which == second.which:
        return relation(first.base, second.base)  # the same part of either
    if first.base is not None:
        return first.shift * relation(first.base, second)
    if second.base is not None:
        return second.shift * relation(first, second.base)
    return 0.0
