"""Which variance each weight gets, while the walk goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from qrjax._signals._weight import Layer, Weight

Key = tuple[str, Layer]
# Weights used several times are settled to this, in logarithms of the variance.
TOLERANCE = 2e-3
SWEEPS = 24
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
    gets it; that takes a few walks. A table of embeddings is settled by its look-ups alone.

    Attributes:
      target: the second moment of outputs.
      selected: whether a weight is touched, by its path; None to touch none.
      variances: what has been decided.
      misses: by how much the last walk missed the target, in logarithms.
      uses: for each weight, its output's second moment at unit variance and how often it occurs.
    """

    target: float
    selected: Callable[[str], bool] | None
    variances: dict[Key, float] = dataclasses.field(default_factory=dict)
    uses: dict[Key, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    tables: set[Key] = dataclasses.field(default_factory=set)
    misses: dict[Key, float] = dataclasses.field(default_factory=dict)

    def touches(self, weight: Weight) -> bool:
        return self.selected is not None and self.selected(weight.path)

    def variance(self, weight: Weight, unit: float, fan: float, count: float, table: bool = False) -> float:
        """The variance of a weight at one of its uses, `count` times in the program."""
        key = weight.key
        if table:
            self.tables.add(key)
            self.variances[key] = rounded(self.target / unit)
        elif key not in self.tables:
            self.uses.setdefault(key, []).append((unit, count))
        if key not in self.variances:
            # Nothing has come in yet, as at a recurrence's first step: the textbook's scale until the next walk.
            self.variances[key] = rounded(self.target / unit if unit > 0 else 1 / fan)
        for path in weight.also:
            self.variances[path, weight.layer] = self.variances[key]
        return self.variances[key]

    def next_walk(self) -> bool:
        """Settles the weights used several times; whether another walk is needed."""
        shared: dict[Key, float] = {}
        error = 0.0
        for key, uses in self.uses.items():
            if key in self.tables or len(uses) < 2:
                continue
            pooled = sum(unit * count for unit, count in uses) / sum(count for _, count in uses)
            if pooled > 0 and math.isfinite(pooled):
                miss = math.log(self.target / pooled / self.variances[key])
                # A recurrence answers in part to its own gain: how much, the last two walks tell.
                answer = min(0.5, max(-0.9, miss / self.misses[key])) if self.misses.get(key) else 0.0
                self.misses[key] = miss
                shared[key] = rounded(self.variances[key] * math.exp(miss / (1 - answer)))
                error = max(error, abs(miss))
        if error <= TOLERANCE:
            return False
        self.variances = shared
        self.uses = {}
        return True


@dataclasses.dataclass
class Given(Gains):
    """The variances that weights have.

    Attributes:
      of: the variance of a parameter's layer by its key, None where it is not centred, or none of the weights.
    """

    of: Callable[[Key], float | None] = lambda _: None

    def touches(self, weight: Weight) -> bool:
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

    def next_walk(self) -> bool:
        """Nothing is left to settle."""
        return False
