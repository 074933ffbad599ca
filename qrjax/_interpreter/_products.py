"""What a weight makes of a signal: the output at the scale that is decided for it, and its row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qrjax._interpreter._beside import noted
from qrjax._interpreter._derived import leaves_of, untold
from qrjax._interpreter._gains import TOLERANCE
from qrjax._interpreter._laws import replace_source, scaled, unit
from qrjax._interpreter._ledger import Sized
from qrjax._interpreter._origins import Uses
from qrjax._interpreter._sizing import BEYOND, size
from qrjax._rules._equations import Equation
from qrjax._signals._complexes import ComplexSignal, unit_of
from qrjax._signals._places import likeness
from qrjax._signals._quadrature import expectation
from qrjax._signals._ranks import effective_rank, rows_of
from qrjax._signals._signal import Signal, Source, related
from qrjax._signals._source import Born
from qrjax._signals._weight import Weight

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

Make = Callable[[Signal], Signal]
# Earlier uses of a weight that its output is told to be like.
USES = 8
# Above this, two inputs are one.
SAME = 1.0 - 1e-9
# Sums of so many products are normal enough for an exponential, whatever its variance; of smaller variances all are.
FEW, SPREAD = 8, 0.1
# The second moment of n elements is off by as much as it is where their fourth moment, relative to its square, is n, as
# the squared relative error is (K - 1) / n; fewer elements than this are no batch, and are not judged by their number.
FEWEST = 100
# How the note begins on an input whose prediction has overflowed.
INCREDIBLE = "not credible"
# The note on a weight of a recurrence.
KEEPS = "recurrent: its output is as strong as its input, not as the target"


def product(
    walk: Walk, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float, make: Make
) -> Signal:  # fmt: skip
    """The output of a weight, and its row."""
    tag = weight.weight
    recurrent = _recurrent(walk, weight, axes)
    if walk.twin is not None:
        return make(unit(weight, axes, walk.zero_sum) if tag is not None else untold(weight))
    met = x.second_moment / unit_of(x)
    if tag is None:
        result, sized = size(walk, weight, make, met)
    elif walk.gains.touches(tag):
        made = make(_unit(walk, weight, axes))
        # Per unit of the parameter's own variance, whatever constant it was multiplied by.
        moment = made.second_moment * tag.factor**2 / unit_of(made)
        if not moment < BEYOND * fan:
            return _incredible(walk, equation, x, weight, fan, made)
        variance = walk.gains.variance(tag, moment, fan, walk.count(), met=met)
        result, sized = scaled(made, math.sqrt(variance) * abs(tag.factor)), Sized(tag, math.sqrt(variance))
    else:
        result, sized = _untouched(walk, tag, weight, make)
    if (rare := tails(x)) is not None:
        walk.note(rare)
    target = walk.gains.target_of(sized.weight.path)
    if recurrent and walk.gains.goal(sized.weight.key, met) < (1 - TOLERANCE) * target:
        walk.note(KEEPS)
    result = _likened(walk, sized.weight, x, result, fan, weight.size / max(1.0, fan))
    known = axes if tag is not None else None
    sized = dataclasses.replace(sized, recurrent=recurrent)
    walk.ledger.weight(equation, walk.place(), x, sized, fan, result, known, walk.taken())
    return result


def _recurrent(walk: Walk, weight: Signal, axes: Sequence[int]) -> bool:
    """Whether a weight, or a function of some, has turned out to meet what it made itself."""
    keys = leaves_of(weight).keys()
    if walk.origins.meet(_uses(weight, axes)):
        walk.gains.recurs(keys)
    return not walk.gains.recurrent.isdisjoint(keys)


def _uses(weight: Signal, axes: Sequence[int]) -> Uses:
    """A weight, or those that it is a function of, summed over these of its axes."""
    summed = None if weight.weight is None else weight.weight.summed(axes)
    return frozenset((key, summed) for key in leaves_of(weight))


def _likened(walk: Walk, tag: Weight, x: Signal, result: Signal, fan: float, outputs: float) -> Signal:
    """The output of a weight that was used before is as like its earlier output as its inputs are alike.

    Parts of a weight without an element in common are weights of their own, as the gates of a recurrent cell are.
    """
    if isinstance(result, ComplexSignal) or isinstance(x, ComplexSignal):
        return result  # how alike complex outputs are is not followed
    key, born = tag.key, None if x.source is None else Born(x.source, fan, effective_rank(x, fan))
    if result.source is not None and born is not None:
        result.source.born, result.source.rows = born, rows_of(result, born.rank, outputs)
    before = walk.used.setdefault(key, [])
    uses = [(z, y) for part, z, y in before if y.shape == result.shape and part.meets(tag)]
    alike = [(y.source, likeness(x, z)) for z, y in uses if y.source is not None]
    if alike and not result.is_constant:
        result = replace_source(result, _descendant(alike, born))
    before.append((tag, x, result))
    del before[:-USES]
    return result


def _untouched(walk: Walk, tag: Weight, weight: Signal, make: Make) -> tuple[Signal, Sized]:
    """The output of a weight as the module draws it."""
    if walk.gains.keeps(tag):
        walk.note("its own initializer is a constant: kept")
    return make(untold(weight)), Sized(tag, math.sqrt(weight.variance) / abs(tag.factor))


def _incredible(walk: Walk, equation: Equation, x: Signal, weight: Signal, fan: float, made: Signal) -> Signal:
    """Of a signal whose prediction has overflowed: the weight's own scale, and what is wanted for its output."""
    tag = weight.weight
    assert tag is not None
    decided = walk.gains.variances.get(tag.key)
    target = max(walk.gains.target_of(tag.path), 0.0) or 1.0
    walk.note(
        f"{INCREDIBLE}: the second moment of {x.second_moment:.2g} that is predicted for its input; the scale of "
        f"{tag.path} does not follow it"
    )
    if decided is None:
        walk.left[tag.key] = "the prediction of its input is not credible"
    result = Signal.normal(made.shape, 0.0, target * unit_of(made), made.dtype)
    gain = math.sqrt(weight.variance) / abs(tag.factor) if decided is None else math.sqrt(decided)
    walk.ledger.weight(equation, walk.place(), x, Sized(tag, gain), fan, result, None, walk.taken())
    return result


def _unit(walk: Walk, weight: Signal, axes: Sequence[int]) -> Signal:
    """The weight as it will be drawn, at variance 1, or the second moment 1 where it keeps its own law."""
    if walk.gains.own and weight.second_moment > 0:
        return scaled(untold(weight), 1 / math.sqrt(weight.second_moment))
    return unit(weight, axes, walk.zero_sum)


def look_up(walk: Walk, equation: Equation, weight: Signal, make: Make) -> Signal:
    """Rows of a table, and their row."""
    tag = weight.weight
    walk.origins.meet(_uses(weight, (0,)))
    if walk.twin is not None:
        return make(unit(weight, (), False) if tag is not None else untold(weight))
    if tag is None:
        result, sized = size(walk, weight, make)
    elif walk.gains.touches(tag):
        square = tag.factor**2
        variance = walk.gains.variance(tag, square, square * weight.shape[-1], walk.count(), table=True)
        result = scaled(make(_unit(walk, weight, ())), math.sqrt(variance) * abs(tag.factor))
        sized = Sized(tag, math.sqrt(variance))
        noted(walk, result, tag.key, 0.0 if tag.unknown else weight.second_moment / square)
        if walk.gains.is_tied(tag.key):
            walk.note(
                f"makes logits too, and is sized for {'these' if walk.gains.tied == 'logits' else 'its look-ups'}"
            )
    else:
        result, sized = _untouched(walk, tag, weight, make)
    walk.ledger.weight(equation, walk.place(), None, sized, 1.0, result, (0,), walk.taken())
    return result


def few(x: Signal) -> str | None:
    """What to say of an exponential of a weight's output that sums a few products: it is not quite normal."""
    born = None if x.source is None else x.source.born
    if born is None or born.products > FEW or x.variance < SPREAD:
        return None
    sums = f"an exponential of sums of {born.products:.0f} products"
    return f"approximate: {sums}, whose tails are heavier than a normal law's"


def tails(x: Signal) -> str | None:
    """What to say of an input whose second moment is that of a few large elements, as of powers of normal numbers."""
    if x.is_constant or isinstance(x, ComplexSignal):
        return None
    square = expectation(x.values**2)
    if not square > 0:
        return None
    weight = expectation((x.values / math.sqrt(square)) ** 4)
    if weight <= max(FEWEST, x.size):
        return None
    return f"approximate: a few large elements make up the second moment of its input, which has {x.size} in all"


def _descendant(alike: Sequence[tuple[Source, float]], born: Born | None) -> Source:
    """A source that is so like older ones, or one of them."""
    same = [source for source, r in alike if r >= SAME]
    if same:
        return same[-1]
    # What the nearest is kin to, and of the others the correlations themselves.
    kin = related([(alike[-1][0], alike[-1][1])]).kin
    return Source(kin=kin | {source: r for source, r in alike if abs(r) > 5e-3}, born=born)
