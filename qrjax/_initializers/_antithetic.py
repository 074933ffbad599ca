"""Weights that sum to zero: a distribution whose draws are negated, or 0, as their places in pairs say."""

from __future__ import annotations

import dataclasses

from jax import Array

from qrjax._layouts._sources import Antithetic
from qrjax._values._distributions import Distribution
from qrjax._values._quantiles import Draw
from qrjax._words._pairs import where, word


@dataclasses.dataclass(frozen=True, eq=False)
class Paired:
    """A distribution that is symmetric about 0, for weights in pairs w, -w.

    The sign is turned and not the word: the two ends of every quantile function are mirror images but for
    the last bit, and a complex value's words are a modulus and an angle.
    """

    law: Distribution
    pairs: Antithetic

    @property
    def bounds(self) -> tuple[float, float]:
        return self.law.bounds

    @property
    def extent(self) -> float:
        return self.law.extent

    def draw(self, bits: Array, exact: bool) -> Draw:
        return self._member(self.law.draw(bits, exact))

    def complex_draw(self, bits: Array, angle: Array) -> tuple[Draw, Draw]:
        real, imaginary = self.law.complex_draw(bits, angle)
        return self._member(real), self._member(imaginary)

    def _member(self, draw: Draw) -> Draw:
        alone, magnitude = self.pairs.alone, draw.magnitude
        if alone is not None:
            magnitude = where(alone, word(0), magnitude)
        return Draw(draw.negative ^ self.pairs.negated, magnitude, draw.fraction)


def paired(law: Distribution, pairs: Antithetic) -> Distribution:
    return Paired(law, pairs)  # type: ignore[return-value]  # a distribution by its methods


def is_symmetric(distribution: Distribution, location: float) -> bool:
    """Whether -w is as likely as w, so that pairs of both keep the distribution."""
    lower, upper = distribution.bounds
    return location == 0 and lower == -upper
