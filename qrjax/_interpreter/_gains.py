"""Which variance each weight gets, while the walk goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from qrjax._interpreter._settling import Settling
from qrjax._signals._quadrature import NODES, Floats
from qrjax._signals._recipe import Key
from qrjax._signals._weight import Weight

# Weights used several times are settled to this, in logarithms of the variance.
TOLERANCE = 5e-3
# More than this is said.
UNSETTLED = 2e-2
SWEEPS = 10
BITS = 20


def rounded(variance: float) -> float:
    """The variance whose root, the gain, has 20 bits: what processors' libraries differ in is cut off."""
    mantissa, exponent = math.frexp(math.sqrt(variance))
    return math.ldexp(round(math.ldexp(mantissa, BITS)), exponent - BITS) ** 2


@dataclasses.dataclass
class Gains:
    """The variance of every weight.

    A weight's output gets the target's second moment. Where a weight is used several times (a shared
    layer, the steps of a recurrence), it is the mean of the second moments of all its outputs that
    gets it; that takes a few walks. A table of embeddings is settled by its look-ups, unless it makes
    logits too: then by these.

    Attributes:
      target: the second moment of outputs.
      selected: whether a weight may be touched, by its path; None to touch none.
      fixed: parameters whose own initializer is a constant, which they keep.
      law: the distribution that weights are drawn from: at the quadrature nodes, of variance 1.
      own: whether weights keep the law that their initializer draws from, at another scale.
      tied: what settles a table that is looked up and makes logits: "logits" or "lookup".
      variances: what has been decided.
      uses: for each weight, its outputs' second moments and how often each occurs.
      groups: parameters that are sized together, by the first of them, and the power of their common
        variance that the second moment grows with.
      settling: how the weights used several times came to where they are.
      miss: by how much the mean over a weight's uses misses the target at most, in logarithms.
    """

    target: float
    selected: Callable[[str], bool] | None
    fixed: frozenset[str] = frozenset()
    law: Floats = dataclasses.field(default_factory=lambda: NODES)
    own: bool = False
    tied: str = "logits"
    variances: dict[Key, float] = dataclasses.field(default_factory=dict)
    uses: dict[Key, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    groups: dict[Key, tuple[tuple[Key, ...], float]] = dataclasses.field(default_factory=dict)
    tables: set[Key] = dataclasses.field(default_factory=set)
    settling: Settling = dataclasses.field(default_factory=Settling)
    miss: float = 0.0
    _tied: set[Key] = dataclasses.field(default_factory=set)

    @property
    def unsettled(self) -> list[str]:
        """What to say where the last walk allowed did not settle all weights."""
        if self.miss <= UNSETTLED:
            return []
        return [
            f"unsettled: after {SWEEPS} walks weights used several times miss the target by up to "
            f"{math.expm1(self.miss):.0%}"
        ]

    @property
    def decides(self) -> bool:
        """Whether there is anything to decide."""
        return self.selected is not None

    def may_touch(self, weight: Weight) -> bool:
        """Whether the user lets it be touched."""
        return self.selected is not None and self.selected(weight.path)

    def keeps(self, weight: Weight) -> bool:
        """Whether it is a constant that is kept."""
        return self.may_touch(weight) and not self.touches(weight)

    def touches(self, weight: Weight) -> bool:
        """Whether its variance is decided here."""
        return self.may_touch(weight) and (weight.equal or weight.path not in self.fixed)

    def variance(self, weight: Weight, unit: float, fan: float, count: float, table: bool = False) -> float:
        """The variance of a weight at one of its uses, `count` times in the program."""
        key = weight.key
        if table:
            self.tables.add(key)
        if key not in self.variances or (table and self.tied == "lookup"):
            # Nothing has come in yet, as at a recurrence's first step: the textbook's scale until the next walk.
            self.variances[key] = rounded(self.target / unit if unit > 0 else 1 / fan)
        if not table:
            self.used(key, unit * self.variances[key], count)
        for path in weight.also:
            self.variances[path, weight.layer] = self.variances[key]
        return self.variances[key]

    def decide(self, gains: Mapping[Key, float]) -> None:
        """The standard deviations of parameters that are sized together."""
        self.variances |= {key: rounded(gain**2) for key, gain in gains.items()}

    def used(self, key: Key, moment: float, count: float, members: tuple[Key, ...] = (), power: float = 1.0) -> None:
        """Takes down a use."""
        self.uses.setdefault(key, []).append((moment, count))
        if members:
            self.groups[key] = members, power

    def is_tied(self, key: Key) -> bool:
        """Whether a table makes logits too."""
        return key in self._tied

    def _settles(self, key: Key) -> bool:
        """Whether a weight's uses together decide."""
        if key in self.tables:
            return self.tied == "logits"
        return len(self.uses[key]) > 1

    def next_walk(self, last: bool = False) -> bool:
        """Settles the weights used several times; whether another walk is needed, and is not the last one behind."""
        misses = {key: self._miss(uses) for key, uses in self.uses.items() if self._settles(key)}
        # Said at the look-up, which comes first: so another walk.
        news = (self.tables & self.uses.keys()) - self._tied
        self._tied |= news
        self.miss = max(map(abs, misses.values()), default=0.0)
        if last or (self.miss <= TOLERANCE and not news):
            return False
        steps = self.settling.steps({key: miss / self._power(key) for key, miss in misses.items()})
        self.variances = {
            member: rounded(self.variances[member] * math.exp(step))
            for key, step in steps.items()
            for member in self._members(key)
        }
        self.uses = {}
        return True

    def _miss(self, uses: list[tuple[float, float]]) -> float:
        """By how much the mean over a weight's uses misses the target, in logarithms."""
        pooled = sum(moment * count for moment, count in uses) / sum(count for _, count in uses)
        return math.log(self.target / pooled) if pooled > 0 and math.isfinite(pooled) else 0.0

    def _members(self, key: Key) -> tuple[Key, ...]:
        return self.groups[key][0] if key in self.groups else (key,)

    def _power(self, key: Key) -> float:
        return self.groups[key][1] if key in self.groups else 1.0


@dataclasses.dataclass
class Given(Gains):
    """The variances that weights have.

    Attributes:
      of: the variance of a parameter's layer by its key, None where it is not centred, or none of the weights.
    """

    of: Callable[[Key], float | None] = lambda _: None

    def touches(self, weight: Weight) -> bool:
        """Whether its variance is known."""
        if weight.key not in self.variances:
            found = self.of(weight.key)
            if found is None:
                return False
            self.variances[weight.key] = found
        return True

    def variance(self, weight: Weight, unit: float, fan: float, count: float, table: bool = False) -> float:
        """What the weight has."""
        del unit, fan, count, table
        return self.variances[weight.key]

    def next_walk(self, last: bool = False) -> bool:
        """Nothing is left to settle."""
        del last
        return False
