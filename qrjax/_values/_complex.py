"""Complex values of a given modulus distribution and uniform angle, in integers."""

from __future__ import annotations

from jax import Array, lax

from qrjax._values import _coefficients as table
from qrjax._values._fixed import NARROW, polynomial
from qrjax._values._quantiles import Draw, log2_of_mantissa
from qrjax._words._pairs import mulhi, where, word

INVERSE_SQRT_TWO = 0xB504F333  # * 2**32
LOG_TWO = 0xB17217F7  # * 2**32
MASS_WITHIN_TWO = 0xFB4FAA91  # (1 - exp(-4)) * 2**32


def disk(modulus_bits: Array, angle_bits: Array) -> tuple[Draw, Draw]:
    """Real and imaginary parts of values uniform on the unit disk."""
    return _polar(square_root(modulus_bits), angle_bits, 31)


def truncated_normal_disk(modulus_bits: Array, angle_bits: Array) -> tuple[Draw, Draw]:
    """Parts of a standard complex normal (E|z|**2 = 1) truncated to modulus 2.

    |z|**2 = -log(1 - (1 - exp(-4)) u), as `jax.nn.initializers.variance_scaling` has it.
    """
    outside = ~mulhi(modulus_bits, word(MASS_WITHIN_TWO))
    zeros = lax.clz(outside)
    log2 = (zeros << 26) + log2_of_mantissa(outside << zeros)
    quarter_square = mulhi(log2, word(LOG_TWO)) << 4  # |z|**2 / 4 * 2**32
    return _polar(square_root(quarter_square), angle_bits, 30)


def square_root(x: Array) -> Array:
    """sqrt(x / 2**32) * 2**32."""
    x = x | 1
    zeros = lax.clz(x)
    s = ~(x << zeros)
    root = ~(mulhi(polynomial(NARROW, table.SQRT[0], s), s) << 1)
    root = where(zeros & 1 == 1, mulhi(root, word(INVERSE_SQRT_TWO)), root)
    return root >> (zeros >> 1)


def _polar(modulus: Array, angle_bits: Array, fraction: int) -> tuple[Draw, Draw]:
    """modulus * exp(2 pi i angle / 2**32); the quadrant is the top two bits of the angle."""
    quadrant, x = angle_bits >> 30, angle_bits << 2 | 2
    s = ~mulhi(x, x)
    cosine = mulhi(modulus, polynomial(NARROW, table.COSINE[0], s))
    sine = mulhi(modulus, mulhi(x, polynomial(NARROW, table.SINE[0], s)))
    swapped = quadrant & 1 == 1
    real, imaginary = where(swapped, sine, cosine), where(swapped, cosine, sine)
    left = (quadrant == 1) | (quadrant == 2)
    return Draw(left, real, fraction), Draw(quadrant >= 2, imaginary, fraction)
