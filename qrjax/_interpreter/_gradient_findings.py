"""What stands out in the gradients of a report, in words."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from qrjax._interpreter._finding import ERROR, WARNING, Finding
from qrjax._interpreter._report import Row

# Squared norms are compared, as they stay from layer to layer whatever the width. So far from each other they have
# vanished or exploded: plain networks of thirty layers with batch norms reach 1e3 and train (each layer multiplies by
# up to 1.47, Yang et al., ICLR 2019, arXiv 1902.08129), a hundred tanh layers of second moment 1 have 1e7 and do not.
FAR = 1e4
# From here on the growth is said. Means over 2 x 2 places divide the squared norm by 4, so that a sound network that
# halves its images three times stays below.
NOTED = 64.0
# Weights beside the stream, such as an attention's queries and keys or a gate, may have a hundredth of its gradient
# without harm, and a head behind a mean over places has a hundred times that. So of this many weights one after the
# other, more than a block of attention has, the second largest stands for the stream.
WINDOW = 7
# Those within this of it, in octaves, are in the stream, and may be named.
STREAM = 1.0
# So many names are given.
SHOWN = 4


def gradient_findings(rows: Sequence[Row]) -> Iterator[Finding]:
    """Sentences on gradients: on their size by predictions where these stand out, else by measurements.

    That there is none at all is measured, where anything is, as predictions round down to zero what nearly cancels.
    """
    weights = [row for row in rows if row.gain is not None]
    halves = (list(_strength(weights, prefix)) for prefix in ("", "measured_"))
    yield from next((found for found in halves if found), [])
    measured = any(row.measured_weight_gradient is not None for row in weights)
    yield from _missing(weights, "measured_" if measured else "")


def _word(prefix: str) -> str:
    return "measured" if prefix else "predicted"


def _strength(weights: Sequence[Row], prefix: str) -> Iterable[Finding]:
    found = [(row, getattr(row, f"{prefix}gradient_norm")) for row in weights]
    infinite = [row for row, norm in found if norm is not None and not math.isfinite(norm)]
    if infinite:
        yield Finding(f"exploding gradient: the {_word(prefix)} one is no finite number at {_named(infinite)}", ERROR)
        return
    # A table's look-ups have a scale of their own, which a norm undoes: of smaller ones the gradient is larger.
    with_power = [(row, 2 * math.log2(norm)) for row, norm in found if norm and row.op != "gather"]
    powers = [power for _, power in with_power]
    for sign, verb, extreme in ((1, "grows", "exploding"), (-1, "falls", "vanishing")):
        change = _change(powers, sign)
        if change.octaves <= math.log2(NOTED):
            continue
        late, early, *step = (_name(with_power[i][0], weights) for i in (change.late, change.early, *change.step))
        serious = change.octaves > math.log2(FAR)
        what = f"{extreme} gradient: it" if serious else "the gradient"
        most = f", most of it from {step[0]} to {step[1]}" if step and step != [late, early] else ""
        yield Finding(
            f"{what} {verb} 2^{change.octaves:.1f}-fold from {late} to {early}{most} "
            f"({_word(prefix)}, squared norm per example)",
            ERROR if serious else WARNING,
        )


def _name(row: Row, weights: Sequence[Row]) -> str:
    """The module, or where it has several weights that one."""
    several = any(other.path == row.path and other.weight != row.weight for other in weights)
    return (row.weight if several or not row.path else row.path) or "the whole model"


class Change(NamedTuple):
    """How far gradients rise or fall on the way back, between which weights, and at which step if most of it is one."""

    octaves: float
    late: int
    early: int
    step: tuple[int, ...] = ()


def _change(powers: Sequence[float], sign: int) -> Change:
    """The largest rise, or fall where the sign is -1."""
    windows = _windows(len(powers))
    stream = [_second(powers, window) for window in windows]
    best, late = (0.0, 0, 0), len(stream) - 1
    for early in range(len(stream) - 1, -1, -1):
        if sign * stream[early] < sign * stream[late]:
            late = early
        best = max((sign * (stream[early] - stream[late]), late, early), best, key=operator.itemgetter(0))
    if not best[0]:
        return Change(*best)
    within = [[i for i in w if abs(powers[i] - level) <= STREAM] for w, level in zip(windows, stream, strict=True)]
    last, first = _extended([sign * power for power in powers], max(within[best[1]]), min(within[best[2]]))
    between = sorted({i for own in within for i in own if first <= i <= last})
    total = sign * (powers[first] - powers[last])
    steps = [(sign * (powers[i] - powers[j]), j, i) for i, j in itertools.pairwise(between)]
    largest, *step = max(steps)
    return Change(total, last, first, tuple(step) if largest > total / 2 and len(steps) > 1 else ())


def _extended(powers: Sequence[float], last: int, first: int) -> tuple[int, int]:
    """The ends of a rise, further on where it goes on as it did; windows' ends are within it."""
    step = 2 * (powers[first] - powers[last]) / (last - first)
    while last + 1 < len(powers) and 0 < powers[last] - powers[last + 1] <= step:
        last += 1
    while first > 0 and 0 < powers[first - 1] - powers[first] <= step:
        first -= 1
    return last, first


def _windows(count: int) -> list[range]:
    """Weights one after the other; where there are few, each by itself."""
    size = WINDOW if count > WINDOW else 1
    return [range(start, start + size) for start in range(count - size + 1)]


def _second(powers: Sequence[float], window: range) -> float:
    return sorted(powers[i] for i in window)[-2 if len(window) > 1 else 0]


def _missing(weights: Sequence[Row], prefix: str) -> Iterable[Finding]:
    without = [row for row in weights if getattr(row, f"{prefix}weight_gradient") == 0]
    if without:
        yield Finding(
            f"no gradient: {_named(without)} {'gets' if len(without) == 1 else 'get'} none ({_word(prefix)}), since "
            "what comes behind is zero, dead or does not depend on it",
            WARNING,
        )


def _named(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row.weight or row.path for row in rows))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
