"""`target="stable"`: the second moment of hidden outputs with which depth changes neither gradient nor signal much.

What an activation does to a gradient, to a small error of the signal's scale and to the difference of two inputs
depends on the second moment of its inputs: the smaller that is, the more it is like a line, which hands all three on.
What a network does whatever the second moment, as by means over places, residual sums or norms, is no matter of the
target; so each is compared with what it is for the smallest second moment tried.
"""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qrjax._autoinit._gradients import backward
from qrjax._autoinit._targets import STABLE, Aim
from qrjax._autoinit._walks import Walks
from qrjax._interpreter._findings import chains
from qrjax._interpreter._gains import Target
from qrjax._interpreter._ledger import Ledger
from qrjax._interpreter._report import Row

# By so many octaves may the gradient's squared norm per example change over depth beyond what it does in the limit:
# 1.4-fold. So little may the forward map amplify an error of the second moment.
ALLOWED = 0.5
# And 1 minus the correlation of two examples may become half of that: blocks between norms do as much, and train.
APART = 1.0
# Or by this share of what it does in the limit, as a norm's small constant adds a little to each layer.
SHARE = 0.1
# The smallest second moment tried is 2 to minus this: a hundred layers of gelu need 2^-10.
SMALLEST = 12
# Weights beside the stream, such as queries, keys or gates, whose gradient goes with the signal's size: in the limit
# it is so many octaves below the second largest of so many weights one after the other.
BESIDE, WINDOW = 3.0, 7

# From so many plain layers on orthogonal weights are advised: the spread of a product's squared singular values grows
# with the number of independent factors, of orthogonal ones it does not (Pennington et al. 2017, arXiv 1711.04735).
DEEP = 20

# Examples that end more alike, by so many octaves, are hardly told apart: a correlation of 0.97.
MERGED = 5.0

# Less than this, in octaves, is no change.
FLAT = 0.05
# The powers of gradients, in octaves, by the row's place among the hidden weights.
Profile = Mapping[int, float]


class Trial(NamedTuple):
    """What a network does at one second moment of its hidden outputs.

    Attributes:
      gradients: by weight.
      error: by so many octaves the forward map amplifies an error of the second moment.
      likeness: by so many octaves 1 minus the correlation of two examples is below 1, at the last hidden weight.
    """

    gradients: Profile
    error: float
    likeness: float


@dataclasses.dataclass
class Trials:
    """A network at several second moments of hidden outputs.

    Attributes:
      walked: the walk for a target, its rows with gradients, and the paths of the weights that make the outputs.
      heads: these paths.
      found: the trials by minus the logarithm of the second moment.
    """

    walked: Callable[[Target], tuple[Ledger, Sequence[Row], frozenset[str]]]
    heads: frozenset[str] = frozenset()
    found: dict[int, Trial] = dataclasses.field(default_factory=dict)

    def at(self, octaves: int) -> Trial:
        """Where hidden outputs have a second moment of 2 to minus `octaves`."""
        if octaves not in self.found:
            ledger, rows, heads = self.walked(self.target(octaves))
            self.heads = self.heads or heads
            hidden = [row for row in rows if row.gain is not None and row.weight not in self.heads]
            gradients = {i: _octaves(row) for i, row in enumerate(hidden) if _tells(row)}
            error = max((math.log2(chain.growth) for chain in chains(rows, ledger)), default=0.0)
            self.found[octaves] = Trial(gradients, error, _likeness(hidden))
        return self.found[octaves]

    def profile(self, octaves: int) -> Profile:
        """The gradients where hidden outputs have a second moment of 2 to minus `octaves`."""
        return self.at(octaves).gradients

    def target(self, octaves: int) -> Target:
        """1 for heads, 2 to minus `octaves` for the others."""
        if not octaves:
            return 1.0
        heads, hidden = self.heads, 2.0**-octaves
        return lambda path: 1.0 if path in heads else hidden

    def stream(self) -> list[int]:
        """The weights that the signal goes through one after the other."""
        limit, first = self.profile(SMALLEST), self.profile(0)
        known = [i for i in limit if i in first]
        size = min(WINDOW, len(known))
        levels = _levels([limit[i] for i in known], size)
        near = [max(0, min(k - size // 2, len(levels) - 1)) for k in range(len(known))]
        return [i for i, k in zip(known, near, strict=True) if limit[i] >= levels[k] - BESIDE]

    def is_line(self) -> bool:
        """Whether gradients change no more in the limit than at 1; they do where an activation of 0 is not 0."""
        spans = []
        for profile in (self.profile(SMALLEST), self.profile(0)):
            levels = _levels([*profile.values()], WINDOW if len(profile) > WINDOW else 1)
            spans.append(max(levels, default=math.inf) - min(levels, default=0.0))
        return len(self.profile(SMALLEST)) == len(self.profile(0)) and spans[0] <= spans[1] + ALLOWED

    def holds(self, octaves: int, stream: Sequence[int]) -> bool:
        """Whether depth changes gradients, errors and the difference of examples little beyond the limit."""
        limit, here = self.at(SMALLEST), self.at(octaves)
        powers = [limit.gradients[i] for i in stream]
        allowed = max(ALLOWED, SHARE * (max(powers) - min(powers))) if powers else ALLOWED
        signal = here.error - limit.error <= ALLOWED and here.likeness - limit.likeness <= APART
        return self.excess(octaves, stream) <= allowed and signal

    def excess(self, octaves: int, stream: Sequence[int]) -> float:
        """By how much gradients change over depth beyond what they do in the limit: a straight line's rise or fall.

        A line, as the two halves of a residual branch differ whatever the depth.
        """
        limit, profile = self.profile(SMALLEST), self.profile(octaves)
        changes = [profile[i] - limit[i] for i in stream if i in profile]
        if len(changes) < 2:
            return 0.0
        places = np.arange(len(changes)) - (len(changes) - 1) / 2
        return float(abs(places @ np.array(changes)) / (places @ places) * (len(changes) - 1))

    def growth(self, octaves: int, stream: Sequence[int]) -> float:
        """From the last weight of the stream back to the first."""
        profile = self.profile(octaves)
        return profile.get(stream[0], -math.inf) - profile.get(stream[-1], -math.inf)


def _levels(powers: Sequence[float], size: int) -> list[float]:
    """The second largest of so many one after the other."""
    starts = range(len(powers) - size + 1)
    return [sorted(powers[start : start + size])[-min(2, size)] for start in starts]


def _tells(row: Row) -> bool:
    # A table's look-ups have a scale of their own.
    return row.op != "gather" and bool(row.gradient_norm) and math.isfinite(row.gradient_norm or math.inf)


def _likeness(hidden: Sequence[Row]) -> float:
    """Of what has one row for all examples, or none that differ, nothing is known."""
    correlation = hidden[-1].correlation.get(0, 0.0) if hidden else 0.0
    return -math.log2(1 - correlation) if 0 < correlation < 1 else 0.0


def _octaves(row: Row) -> float:
    assert row.gradient_norm is not None
    return 2 * math.log2(row.gradient_norm)


def stable(walks: Walks, orthogonal: bool = False) -> Aim:
    """The largest power of two, 1 at most, with which depth changes little beyond what it does in the limit."""

    def walked(target: Target) -> tuple[Ledger, Sequence[Row], frozenset[str]]:
        _, walk, outputs = walks.at(target)
        return walk.ledger, *backward(walks.model, walk, outputs)

    trials = Trials(walked)
    if not trials.profile(0):
        return Aim(1.0, 1.0, f'target="{STABLE}": no hidden weight has a gradient, so all outputs have 1')
    stream = trials.stream()
    chosen = _chosen(trials, stream)
    said = _said(trials, stream, chosen)
    if not chosen:
        return Aim(1.0, 1.0, said, not orthogonal)
    given = {**{glob.escape(path): 1.0 for path in sorted(trials.heads)}, "*": 2.0**-chosen}
    return Aim(trials.target(chosen), given, said, not orthogonal)


def _chosen(trials: Trials, stream: Sequence[int]) -> int:
    if not trials.is_line() or trials.holds(0, stream):
        return 0
    too_large, enough = 0, SMALLEST
    while enough - too_large > 1:
        middle = (too_large + enough) // 2
        if trials.holds(middle, stream):
            enough = middle
        else:
            too_large = middle
    return enough


def _said(trials: Trials, stream: Sequence[int], chosen: int) -> str:
    if len(stream) < 2:
        return f'target="{STABLE}": hidden outputs have the second moment {_size(chosen)}, as there is no depth'
    if not trials.is_line():
        return f'target="{STABLE}": hidden outputs have 1, since with smaller ones gradients change more'
    sizes = {octaves: trials.growth(octaves, stream) for octaves in (chosen, 0, SMALLEST)}
    others = [f"{_fold(growth)} at {_size(octaves)}" for octaves, growth in sizes.items() if octaves != chosen]
    now = sizes[chosen]
    change = f"{'grows' if now >= 0 else 'falls'} {_fold(abs(now))}" if abs(now) >= FLAT else "keeps its size"
    return (
        f'target="{STABLE}": hidden outputs have the second moment {_size(chosen)}; the gradient {change} '
        f"over {len(stream)} weights ({', '.join(others)}; predicted, squared norm per "
        f"example){_said_of_signal(trials, chosen)}"
    )


def _said_of_signal(trials: Trials, chosen: int) -> str:
    """What the forward half has to say, where it changes much at 1, or where no target helps."""
    first, here, limit = (trials.at(octaves) for octaves in (0, chosen, SMALLEST))
    said = ""
    if chosen and first.error - limit.error > ALLOWED:
        said += f"; an error of the signal grows {_fold(here.error)} ({_fold(first.error)} at 1)"
    if chosen and first.likeness - limit.likeness > APART:
        shrinks = f"{_fold(here.likeness)} ({_fold(first.likeness)} at 1)"
        said += f"; 1 minus the correlation of two examples shrinks {shrinks}"
    if limit.likeness > MERGED:
        said += (
            f"; at any target two examples end with a correlation of {1 - 2**-limit.likeness:.3f}: a leak or a shift "
            "of the activation, as in relu(x + 1) - 1, residuals or norms keep them apart"
        )
    return said


def _size(octaves: int) -> str:
    return f"2^-{octaves}" if octaves else "1"


def _fold(octaves: float) -> str:
    return f"2^{octaves:.1f}-fold" if abs(octaves) >= FLAT else "1-fold"
