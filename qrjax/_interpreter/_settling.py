"""Where several unknowns settle that answer to each other: a fixed point, sped up by what earlier steps did."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from qrjax._signals._quadrature import Floats

Name = TypeVar("Name", bound=Hashable)
# The share of a miss that the first step makes up for: what comes back to a weight through its other uses adds to it.
CAREFUL = 1 / 1.35
# How many earlier steps are remembered, and the longest step, in logarithms.
MEMORY, LONGEST = 6, 8.0


@dataclasses.dataclass
class Settling:
    """Steps that bring a vector of misses to zero.

    Each unknown answers to its own step, in part, and to the others'. The combination of the last steps that would
    have left the smallest miss, had the answers been linear, is where the next one starts from (Anderson 1965,
    Iterative procedures for nonlinear integral equations, J. ACM 12(4)).
    """

    names: tuple[Hashable, ...] = ()
    places: list[Floats] = dataclasses.field(default_factory=list)
    misses: list[Floats] = dataclasses.field(default_factory=list)

    def steps(self, misses: Mapping[Name, float]) -> dict[Name, float]:
        """The next step of each unknown, from what each misses now."""
        if not misses:
            return {}
        if self.names != tuple(misses):
            self.names, self.places, self.misses = tuple(misses), [np.zeros(len(misses))], []
        now = np.array(list(misses.values()), np.float64)
        self.misses.append(now)
        step = np.clip(self._combined(now), -LONGEST, LONGEST)
        self.places.append(self.places[-1] + step)
        return dict(zip(misses, step.tolist(), strict=True))

    def _combined(self, now: Floats) -> Floats:
        count = min(MEMORY, len(self.misses) - 1)
        if count == 0:
            return CAREFUL * now
        answers = np.stack([self.misses[-1] - self.misses[-2 - i] for i in range(count)], 1)
        moves = np.stack([self.places[-1] - self.places[-2 - i] for i in range(count)], 1)
        shares = np.linalg.lstsq(answers, now, rcond=1e-8)[0]
        step: Floats = now - (moves + answers) @ shares
        return step
