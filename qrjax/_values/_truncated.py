"""The normal distribution truncated to any interval, in 64-bit fixed point."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from jax import Array

from qrjax._values._quantiles import Draw, far_normal_magnitude, octaves_of_pair
from qrjax._words._pairs import Pair, add, constant, mulhi, where, word

PRECISION = 256
# 1 / sqrt(2 pi) * 2**256; a test recomputes it.
INVERSE_SQRT_TWO_PI = 46194360132781112550002021175736725500524138381534012844286371432913401257262
FARTHEST = 9.0  # normal probabilities beyond this are below 2**-62 and count as nothing
SMALLEST_MASS = 2.0**-30


def truncated_normal_between(bits: Array, lower: float, upper: float) -> Draw:
    """Standard normal values truncated to [lower, upper], rounding aside; increasing in `bits`."""
    mirrored = lower + upper > 0
    if mirrored:  # probabilities near 0 have more bits than those near 1
        lower, upper, bits = -upper, -lower, ~bits
    start, mass = _interval(lower, upper)
    scaled = constant(mass)
    # (bits + 1/2) * mass / 2**32; the half is in `start`.
    step = Pair(mulhi(bits, scaled.hi), bits * scaled.hi)
    probability = add(add(constant(start), step), Pair(word(0), mulhi(bits, scaled.lo)))
    above = probability.hi >= word(1 << 31)
    hi, lo = (where(above, ~half, half) for half in probability)
    twice = Pair(hi << 1 | lo >> 31, lo << 1 | 1)
    magnitude = far_normal_magnitude(~twice.hi, octaves_of_pair(twice))
    return Draw(above if mirrored else ~above, magnitude, 28)


def check_interval(lower: float, upper: float) -> None:
    """Raises ValueError unless lower < upper and the interval holds enough probability to sample."""
    if not lower < upper:
        raise ValueError(f"`lower` must be less than `upper`, got lower={lower} and upper={upper}")
    mass = (math.erf(upper / math.sqrt(2)) - math.erf(lower / math.sqrt(2))) / 2
    near = min(abs(lower), abs(upper)) if lower * upper > 0 else 0.0
    if near > 1:  # erf has no digits left out here
        ends = sorted((abs(lower), abs(upper)))
        mass = (math.erfc(ends[0] / math.sqrt(2)) - math.erfc(ends[1] / math.sqrt(2))) / 2
    if mass < SMALLEST_MASS:
        raise ValueError(
            f"`lower` and `upper` must enclose a normal probability of at least 2**-30, got {mass:.1e} "
            f"for lower={lower} and upper={upper}; move the bounds toward 0 or apart"
        )


@functools.lru_cache(maxsize=64)
def _interval(lower: float, upper: float) -> tuple[int, int]:
    """The probability of the first half step and the mass of the interval, times 2**64."""
    start, stop = normal_cdf(lower), normal_cdf(upper)
    mass = stop - start >> PRECISION - 64
    return (start >> PRECISION - 64) + (mass >> 33), mass


def normal_cdf(x: float) -> int:
    """Phi(x) * 2**256 in Python integers, so that no machine's libm can change a bit of the weights.

    Phi(x) = 1/2 + phi(0) * sum (-1)**n x**(2 n + 1) / (2**n n! (2 n + 1)).
    """
    x = min(max(x, -FARTHEST), FARTHEST)
    power = int(Fraction(x) * 2**PRECISION)
    square = power * power >> PRECISION
    total, n = 0, 0
    while power:
        total += power // (2 * n + 1)
        n += 1
        power = -(power * square >> PRECISION) // (2 * n)
    return (1 << PRECISION - 1) + (total * INVERSE_SQRT_TWO_PI >> PRECISION)
