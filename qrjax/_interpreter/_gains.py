"""Which variance each weight gets, while the walk goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

from qrjax._interpreter._settling import Settling
from qrjax._interpreter._stretches import SWEEPS
from qrjax._signals._quadrature import NODES, Floats
from qrjax._signals._recipe import Key
from qrjax._signals._weight import Weight

# Weights used several times are settled to this, in logarithms of the variance.
TOLERANCE = 1e-2
# What a weight's input gains in second moment, in logarithms, when the weight that it came through does: of the cells
# and networks tried .2 to .5.
ANSWER = 0.45
# More than this is said.
UNSETTLED = 2e-2
BITS = 20
# A second moment: the same for all weights, or by the path of each.
Target = float | Callable[[str], float]


class Named(float):
    """A second moment that a user gave for this very weight, by a pattern or a function of its path."""


def target_at(target: Target, path: str) -> float:
    """The second moment that a weight's output is to have."""
    return target(path) if callable(target) else target


def rounded(variance: float) -> float:
    """The variance whose root, the gain, has 20 bits: what processors' libraries differ in is cut off."""
    mantissa, exponent = math.frexp(math.sqrt(variance))
    return math.ldexp(round(math.ldexp(mantissa, BITS)), exponent - BITS) ** 2


@dataclasses.dataclass
class Guess:
    """What is told of a weight's variance while its uses are met for the first time.

    Attributes:
      first: the variance at the first use.
      total: the sum of the second moments of its outputs, at variance 1.
      count: their number.
    """

    first: float
    total: float = 0.0
    count: float = 0.0

    def add(self, target: float, unit: float, count: float, before: float, answer: float) -> float:
        """The variance after a use whose input was computed with the variance `before`, and answers to it so."""
        self.total, self.count = self.total + count * unit / before**answer, self.count + count
        return (target * self.count / self.total) ** (1 / (1 + answer))

    def drift(self, now: float) -> float:
        """How far the variance has moved since, in logarithms."""
        return abs(math.log(now / self.first))


@dataclasses.dataclass
class Gains:
    """The variance of every weight.

    A weight's output gets the target's second moment. Where a weight is used several times (a shared
    layer, the steps of a recurrence), it is the mean of the second moments of all its outputs that
    gets it; that takes a few walks of the stretch of the program from its first use to its last. In the
    first of them its variance follows the mean over the uses so far. A table of embeddings is settled by
    its look-ups, unless it makes logits too: then by these. A recurrent weight's output gets no more than its
    input has, so that from step to step a state is not made stronger than its own functions keep it: a random
    matrix of that scale is an orthogonal one in the mean (Saxe et al. 2014; Le, Jaitly, Hinton 2015).

    Attributes:
      target: the second moment of outputs, or a function of a weight's path to it.
      selected: whether a weight may be touched, by its path; None to touch none.
      fixed: parameters whose own initializer is a constant, which they keep.
      law: the distribution that weights are drawn from: at the quadrature nodes, of variance 1.
      own: whether weights keep the law that their initializer draws from, at another scale.
      tied: what settles a table that is looked up and makes logits: "logits" or "lookup".
      expected: paths of tables that the program looks up and makes logits with.
      variances: what has been decided.
      recurrent: weights whose input turned out to be made of their own earlier output.
      uses: for each weight, its outputs' second moments over their goal, and how often each occurs.
      groups: parameters that are sized together, by the first of them, and the power of their common
        variance that the second moment grows with.
      settling: how the weights used several times came to where they are.
      miss: by how much the mean over a weight's uses misses the target at most, in logarithms.
    """

    target: Target
    selected: Callable[[str], bool] | None
    fixed: frozenset[str] = frozenset()
    law: Floats = dataclasses.field(default_factory=lambda: NODES)
    own: bool = False
    tied: str = "logits"
    expected: frozenset[str] = frozenset()
    variances: dict[Key, float] = dataclasses.field(default_factory=dict)
    recurrent: set[Key] = dataclasses.field(default_factory=set)
    uses: dict[Key, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    groups: dict[Key, tuple[tuple[Key, ...], float]] = dataclasses.field(default_factory=dict)
    tables: set[Key] = dataclasses.field(default_factory=set)
    settling: Settling = dataclasses.field(default_factory=Settling)
    miss: float = 0.0
    _tied: set[Key] = dataclasses.field(default_factory=set)
    _left: set[Key] = dataclasses.field(default_factory=set)
    _guesses: dict[Key, Guess] | None = None

    @property
    def unsettled(self) -> list[str]:
        """What to say where the last walk allowed did not settle all weights."""
        if self.miss <= UNSETTLED:
            return []
        return [
            f"unsettled: after {SWEEPS} walks weights used several times miss the target by up to "
            f"{math.expm1(self.miss):.0%}"
        ]

    def target_of(self, path: str) -> float:
        """The second moment that a weight's output is to have."""
        return target_at(self.target, path)

    def goal(self, key: Key, met: float) -> float:
        """The second moment that its output is to have where what comes in has this one."""
        target = self.target_of(key[0])
        return min(target, met) if self._keeps(key) and met > 0 else target

    def _keeps(self, key: Key) -> bool:
        """Whether it keeps what comes in, unless it was named."""
        return key in self.recurrent and not isinstance(self.target_of(key[0]), Named)

    @property
    def guesses(self) -> bool:
        """Whether a stretch is walked for the first time, by guesses that have moved and so will be walked again."""
        return self._guesses is not None and self._drift(self._guesses) > TOLERANCE / 2

    def _drift(self, guesses: Mapping[Key, Guess]) -> float:
        """How far the variances that are guessed have moved at most, in logarithms."""
        return max((guess.drift(self.variances[key]) for key, guess in guesses.items()), default=0.0)

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

    def variance(
        self, weight: Weight, unit: float, fan: float, count: float, table: bool = False, met: float = 1.0
    ) -> float:
        """The variance of a weight at one of its uses, `count` times in the program.

        Args:
          unit: the output's second moment at variance 1.
          met: that of what comes in; 1 where nothing does, as at a look-up.
        """
        key, target = weight.key, self.target_of(weight.path)
        if not target > 0:  # a head of zeros, which has nothing to settle
            self.variances |= {(path, weight.layer): 0.0 for path in (weight.path, *weight.also)}
            return 0.0
        if table:
            self.tables.add(key)
        unit *= target / self.goal(key, met)
        if key not in self.variances or (table and self.tied == "lookup"):
            # Nothing has come in yet, as at a recurrence's first step, or what will is not known, as the input of
            # logits: the textbook's scale until the next walk.
            unseen = unit <= 0 or (table and self.tied == "logits" and self.is_tied(key))
            self.variances[key] = rounded(target / fan if unseen else target / unit)
        if not table:
            self._guess(key, unit, count, ANSWER if self.goal(key, met) == target else 0.0)
            self.used(key, unit * self.variances[key] / target, count)
        for path in weight.also:
            self.variances[path, weight.layer] = self.variances[key]
        return self.variances[key]

    def recurs(self, keys: Iterable[Key]) -> None:
        """Takes down that weights are recurrent; what was guessed of them before had another goal."""
        for key in {*keys} - self.recurrent:
            self.recurrent.add(key)
            if self._guesses is not None and key in self._guesses:
                self._guesses[key] = Guess(self._guesses[key].first)

    def _guess(self, key: Key, unit: float, count: float, answer: float) -> None:
        """In the first walk of a stretch the variance follows the mean over its uses.

        What a weight gives of what comes in, where it is to keep just that, does not answer to its variance.
        """
        if self._guesses is None or unit <= 0 or (key in self.tables and self.tied == "lookup"):
            return
        if not self.variances[key] > 0:  # a head of zeros
            return
        target = self.target_of(key[0])
        if key in self._guesses:
            guess, before = self._guesses[key], self.variances[key]
        else:
            guess, before = self._guesses.setdefault(key, Guess(self.variances[key])), target / unit
        self.variances[key] = rounded(guess.add(target, unit, count, before, answer))

    def decide(self, gains: Mapping[Key, float]) -> None:
        """The standard deviations of parameters that are sized together."""
        self.variances |= {key: rounded(gain**2) for key, gain in gains.items()}

    def used(self, key: Key, share: float, count: float, members: tuple[Key, ...] = (), power: float = 1.0) -> None:
        """Takes down a use whose output has this share of the target."""
        self.uses.setdefault(key, []).append((share, count))
        if members:
            self.groups[key] = members, power

    def is_tied(self, key: Key) -> bool:
        """Whether a table makes logits too."""
        return key in self._tied or key[0] in self.expected

    def _settles(self, key: Key) -> bool:
        """Whether a weight's uses together decide."""
        if key in self._left:
            return False
        if key in self.tables:
            return self.tied == "logits"
        return len(self.uses[key]) > 1

    def begin(self, guess: bool) -> frozenset[Key]:
        """Begins what is walked until its weights are settled, by guesses first; what was used so far."""
        self.settling = Settling()
        self._guesses = {} if guess else None
        return frozenset(self.uses)

    def next_walk(self, before: frozenset[Key] = frozenset(), last: bool = False) -> bool:
        """Settles the weights used several times that were not used `before`; whether another walk is needed.

        If this was the last one, they are left as they are.
        """
        uses = {key: found for key, found in self.uses.items() if key not in before}
        misses = {key: self._miss(key, found) for key, found in uses.items() if self._settles(key)}
        miss = max(map(abs, misses.values()), default=0.0)
        guessed, self._guesses = self._guesses, None
        if last:
            self._left |= misses.keys()
            self.miss = max(self.miss, miss)
            return False
        if guessed and self._drift(guessed) > TOLERANCE / 2:
            self._forget(uses)
            return True
        if not self._news(uses) and miss <= TOLERANCE:
            self.miss = max(self.miss, miss)
            return False
        steps = self.settling.steps({key: miss / self._power(key) for key, miss in misses.items()})
        for key, step in steps.items():
            for member in self._members(key):
                self.variances[member] = rounded(self.variances[member] * math.exp(step))
        self._forget(uses)
        return True

    def _news(self, uses: Mapping[Key, object]) -> bool:
        """Whether a table makes logits that nobody expected, which is said at the look-up, or does not after all."""
        news = (self.tables & uses.keys()) - {key for key in self.tables if self.is_tied(key)}
        self._tied |= news
        idle = {key for key in self.tables - self.uses.keys() if key[0] in self.expected}
        self.expected -= {path for path, _ in idle}
        for key in idle:
            del self.variances[key]
        return bool(news or idle)

    def _forget(self, uses: Mapping[Key, object]) -> None:
        self.uses = {key: found for key, found in self.uses.items() if key not in uses}

    def _miss(self, key: Key, uses: list[tuple[float, float]]) -> float:
        """By how much the mean over a weight's uses misses its goal, in logarithms."""
        if self._keeps(key):  # where nothing has come in yet there is nothing to keep
            uses = [use for use in uses if use[0] > 0] or uses
        pooled = sum(share * count for share, count in uses) / sum(count for _, count in uses)
        return -math.log(pooled) if pooled > 0 and math.isfinite(pooled) else 0.0

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

    def variance(
        self, weight: Weight, unit: float, fan: float, count: float, table: bool = False, met: float = 1.0
    ) -> float:
        """What the weight has."""
        del unit, fan, count, table, met
        return self.variances[weight.key]

    def next_walk(self, before: frozenset[Key] = frozenset(), last: bool = False) -> bool:
        """Nothing is left to settle."""
        del before, last
        return False
