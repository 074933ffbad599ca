"""Comparisons of floating-point numbers by their bits alone.

Hardware takes the smallest numbers for zero where it is told to, as XLA does. Compilers do not know, and where they
find a comparison of bits beside one of the same floats, they may join the two into one of floats.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def is_finite(x: Array) -> Array:
    """Whether a number is neither NaN nor infinite."""
    if jnp.iscomplexobj(x):
        return is_finite(jnp.real(x)) & is_finite(jnp.imag(x))
    infinity = np.array(np.inf, x.dtype).view(f"uint{8 * x.dtype.itemsize}")
    return _bits(x) << 1 < infinity << 1


def differ(x: Array, y: Array) -> Array:
    """Whether two numbers are not the same; 0 and -0 are."""
    if jnp.iscomplexobj(x):
        return differ(jnp.real(x), jnp.real(y)) | differ(jnp.imag(x), jnp.imag(y))
    a, b = _bits(x), _bits(y)
    return (a != b) & ~_is_zero(a | b)


def opposite(x: Array, y: Array) -> Array:
    """Whether one of two real numbers is positive and the other negative."""
    a, b = _bits(x), _bits(y)
    sign = a.dtype.type(1 << (8 * a.dtype.itemsize - 1))
    return (a ^ b >= sign) & ~_is_zero(a) & ~_is_zero(b)


def is_zero(x: Array) -> Array:
    """Whether a number is 0 or -0; the smallest others are not."""
    if jnp.iscomplexobj(x):
        return is_zero(jnp.real(x)) & is_zero(jnp.imag(x))
    return _is_zero(_bits(x))


@jax.jit
def ordered(x: Array) -> Array:
    """Float32 as uint32 in the same order; 0 and -0 are one."""
    bits = _bits(x)
    bits = jnp.where(_is_zero(bits), np.uint32(0), bits)
    sign = np.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _bits(x: Array) -> Array:
    return lax.bitcast_convert_type(x, np.dtype(f"uint{8 * x.dtype.itemsize}"))


def _is_zero(bits: Array) -> Array:
    return bits << 1 == 0
