"""The scale of a function of weights: what its output's second moment makes of its parameters' gains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._interpreter._derived import as_it_is, followed, leaves_of, sampled, untold
from qrjax._interpreter._laws import is_centred, scaled
from qrjax._interpreter._ledger import Sized
from qrjax._rules._operands import described
from qrjax._signals._complexes import ComplexSignal, unit_of
from qrjax._signals._quadrature import Floats
from qrjax._signals._recipe import Key
from qrjax._signals._signal import Signal

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

# A moment that changes by less, when a gain doubles, does not depend on it; in logarithms.
NO_EFFECT = 1e-3
# Moments are brought to the target to this, in logarithms.
CLOSE = 1e-3
DOUBLINGS, STEPS = 40, 30
# No signal is as strong: what predicts it has overflowed; an exponential of weights is tried with smaller ones.
BEYOND, HALVINGS = 1e24, 10
# A gain at which a weight has as good as gone.
NONE_LEFT = 2.0**-30

Make = Callable[[Signal], Signal]
Moment = Callable[[float], float]


@dataclasses.dataclass(frozen=True)
class Trials:
    """The output of a function of weights at trial gains.

    Attributes:
      walk, weight, make: where it stands, the function, and what makes the output of it.
      levels: those of its parameters whose gain is their value.
    """

    walk: Walk
    weight: Signal
    make: Make
    levels: frozenset[Key] = frozenset()

    def output(self, gains: Mapping[Key, float]) -> Signal:
        """With these standard deviations; other parameters have what was decided, or else their own."""
        walk = self.walk
        recipe = self.weight.recipe
        walk.trial = True
        try:
            if recipe is not None and recipe.by_elements:
                return self.make(untold(described(sampled(self.weight, self._leaf(gains)))))
            value = followed(self.weight, lambda recipe, operands: list(recipe.make(*operands)), self._leaf(gains))  # type: ignore[misc]
            return self.make(untold(described(value)))
        finally:
            walk.trial = False

    def _leaf(self, gains: Mapping[Key, float]) -> Callable[[Any], Signal]:
        def leaf(law: Signal) -> Signal:
            assert law.weight is not None
            key = law.weight.key
            gain = gains.get(key)
            if gain is None and key in self.walk.gains.variances:
                gain = math.sqrt(self.walk.gains.variances[key])
            if not self.walk.gains.decides:
                return as_it_is(law)
            if gain is not None and self.walk.gains.own and not law.is_constant:
                return scaled(untold(law), gain / own_gain(law))
            if gain is None:
                return as_it_is(law)
            return constant(law, gain) if key in self.levels else with_gain(law, gain, self.walk.gains.law)

        return leaf

    def along(self, own: Mapping[Key, float]) -> Moment:
        """The second moment as a function of a factor of these standard deviations."""
        return lambda factor: _moment(self.output({key: factor * gain for key, gain in own.items()}))

    def effective(self, own: Mapping[Key, float]) -> dict[Key, float]:
        """Those that the second moment depends on."""
        before = self.along(own)(1.0)
        if not before > 0:
            return {}
        return {k: g for k, g in own.items() if abs(math.log(self._doubled(own, k) / before)) > NO_EFFECT}

    def _doubled(self, own: Mapping[Key, float], key: Key) -> float:
        return max(1e-300, _moment(self.output({**own, key: 2 * own[key]})))


def _moment(output: Signal) -> float:
    """What is to be the target."""
    return output.second_moment / unit_of(output)


def constant(law: Signal, level: float) -> Signal:
    """A parameter all of whose elements are this."""
    return Signal.constant(level, law.shape, law.dtype)


def with_gain(law: Signal, gain: float, unit: Floats) -> Signal:
    """A parameter of this standard deviation."""
    if gain == 0:
        return constant(law, 0.0)
    if isinstance(law, ComplexSignal):
        return law.each(lambda part: Signal.normal(part.shape, 0.0, gain**2 / 2, part.dtype))
    if law.is_constant:
        return Signal.normal(law.shape, 0.0, gain**2, law.dtype).fresh(values=unit * gain)
    return dataclasses.replace(untold(law), values=unit * gain, rho=np.where(law.rho >= 1.0, 1.0, 0.0), at=None)


def size(walk: Walk, weight: Signal, make: Make, met: float = 1.0) -> tuple[Signal, Sized]:
    """The output of a function of weights, with the scale of its parameters at which it has the target.

    `met` is the second moment of what comes in; 1 where nothing does, as at a look-up.
    """
    laws = leaves_of(weight)
    gains, levels = walk.gains, _levels(laws)
    main = max(laws.values(), key=lambda law: (law.weight.key not in levels, law.shape == weight.shape, law.size))
    trials = Trials(walk, weight, make, levels)
    if not gains.decides:
        beside = tuple(law.weight for key, law in laws.items() if key in levels and law.mean != 0)
        recipe = weight.recipe
        result = trials.output({}) if recipe is not None and recipe.by_elements else make(untold(weight))
        return result, Sized(main.weight, math.sqrt(main.variance), beside)
    drawn = {k: own_gain(law) for k, law in laws.items() if gains.touches(law.weight) and k not in levels}
    decided = [k for k in drawn if k in gains.variances]
    if decided:
        return _used_again(walk, trials, main, tuple(decided), met)
    drawn = _credible(trials, drawn)
    chosen = trials.effective(drawn)
    if not chosen and drawn:
        # Normalized weights have their scale in a parameter of its own, if anywhere.
        scales = {k: own_gain(laws[k]) for k in levels if gains.may_touch(laws[k].weight) and laws[k].mean > 0}
        chosen = trials.effective(scales)
        walk.note("normalized: its own scale has no effect" + ("" if chosen else ", and is kept"))
    if not chosen:
        walk.left |= dict.fromkeys(drawn, "normalized, so that its scale has no effect")
    result = _solved(walk, trials, chosen, gains.goal(main.weight.key, met))
    gain = math.sqrt(gains.variances[main.weight.key]) if main.weight.key in gains.variances else own_gain(main)
    others = [laws[k].weight for k in chosen if k != main.weight.key]
    beside = tuple(dataclasses.replace(other, equal=other.key in levels) for other in others)
    return result, Sized(main.weight, gain, beside)


def _levels(laws: Mapping[Key, Any]) -> frozenset[Key]:
    """Parameters that are scales of the others: constants and, beside a weight, what its own mean gives a sign.

    Drawn around 0 these would no longer be what their author made: logarithms of steps, norms, positive factors.
    """
    fixed = {key for key, law in laws.items() if _is_fixed(law)}
    signed = {k for k, law in laws.items() if not law.is_constant and not is_centred(law.mean, law.second_moment)}
    return frozenset(fixed | signed if len(fixed) + len(signed) < len(laws) else fixed)


def _credible(trials: Trials, own: Mapping[Key, float]) -> dict[Key, float]:
    """Standard deviations no larger than their own, at which the output has not overflowed."""
    factor, moment = 1.0, trials.along(own)
    for _ in range(HALVINGS):
        if not own or moment(factor) < BEYOND:
            break
        factor /= 2
    return {key: factor * gain for key, gain in own.items()}


def _is_fixed(law: Signal) -> bool:
    assert law.weight is not None
    return law.is_constant and not law.weight.unknown


def own_gain(law: Signal) -> float:
    """The standard deviation that the module gives a parameter; of a constant one, its value."""
    assert law.weight is not None
    if law.weight.unknown:
        return 1 / math.sqrt(max(1, math.prod(law.shape[:-1])))
    return math.sqrt(law.second_moment)


def _used_again(walk: Walk, trials: Trials, main: Any, decided: tuple[Key, ...], met: float) -> tuple[Signal, Sized]:
    """Of parameters that are sized already."""
    result = trials.output({})
    target = walk.gains.goal(main.weight.key, met)
    if target > 0:
        walk.gains.used(decided[0], _moment(result) / target, walk.count())
    return result, Sized(main.weight, math.sqrt(walk.gains.variances.get(main.weight.key, main.variance)))


def _solved(walk: Walk, trials: Trials, own: Mapping[Key, float], target: float) -> Signal:
    if not own:
        return trials.output({})
    moment = trials.along(own)
    if not target > 0:  # a head of zeros
        walk.gains.decide(dict.fromkeys(own, 0.0))
        return trials.output({})
    factor = solution(moment, target)
    if factor is None:
        walk.note("no scale of it gives its output the target: kept")
        walk.left |= dict.fromkeys(own, "no scale of it gives its output the target")
        return trials.output({})
    if moment(NONE_LEFT) > target / 2:
        walk.note("beside a constant that gives the target already: its own part has it too")
    walk.gains.decide({key: factor * gain for key, gain in own.items()})
    result = trials.output({})
    power = max(0.1, math.log2(max(1e-300, moment(2 * factor)) / max(1e-300, moment(factor))) / 2)
    walk.gains.used(next(iter(own)), _moment(result) / target, walk.count(), tuple(own), power)
    return result


def solution(moment: Moment, target: float) -> float | None:
    """The factor at which the moment is the target; beside a constant part that is about that, its own part is.

    Where the moment is a power of the factor, by two evaluations; else by doubling and false position.
    """
    first, second = moment(1.0), moment(2.0)
    if not (first > 0 and second > 0 and math.isfinite(second)):
        return None
    slope = math.log(second / first) / math.log(2)
    if slope > NO_EFFECT:
        guess = (target / first) ** (1 / slope)
        if abs(math.log(max(1e-300, moment(guess)) / target)) < CLOSE:
            return guess
    rest = moment(NONE_LEFT)
    goal = target if rest < target / 2 else target + rest
    return _between(lambda s: math.log(max(1e-300, moment(s)) / goal))


def _between(miss: Moment) -> float | None:
    """Where an increasing function of log(factor) is 0, None if it does not get there."""
    low = high = 1.0
    below = above = miss(1.0)
    for _ in range(DOUBLINGS):
        if above >= 0 >= below:
            break
        if above < 0:
            low, below, high = high, above, 2 * high
            above = miss(high)
        else:
            high, above, low = low, below, low / 2
            below = miss(low)
    else:
        return None
    if not (above >= 0 >= below):
        return None
    for _ in range(STEPS):
        share = 0.5 if above - below < 1e-12 else min(0.9, max(0.1, -below / (above - below)))
        middle = low * (high / low) ** share
        found = miss(middle)
        if abs(found) < CLOSE:
            return middle
        low, below, high, above = (middle, found, high, above) if found < 0 else (low, below, middle, found)
    return low
