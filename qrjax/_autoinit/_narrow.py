"""Heads of one to three units, whose outputs would be the luck of one draw: norms and sums that hold.

With inputs of second moment q, between two of which E[x x'] is c, an output has (q - c) |w|^2 + c (sum w)^2. So a
unit's weights are drawn from their own strata, which fixes their norm and makes them sum to zero, and all get one more
number, of either sign, which makes the sum what its root mean square would be.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._layouts._coordinates import Shape

# Units at most, and inputs at least.
UNITS, INPUTS = 3, 8
# Tells the key of the signs from that of the weights.
SIGNS = 0x51675


def is_narrow(shape: Shape, inputs: tuple[int, ...]) -> bool:
    """Whether a weight of this shape is such a head's."""
    fan = math.prod(shape[a] for a in inputs)
    return fan >= INPUTS and math.prod(shape) <= UNITS * fan and math.prod(shape) > 0


def offsets(key: Array, shape: Shape, inputs: tuple[int, ...]) -> Array:
    """What each unit's weights of variance 1 and sum 0 get more: +- 1 / sqrt(n - 1), float32, with axes of length 1."""
    fan = math.prod(shape[a] for a in inputs)
    units = [1 if a in inputs else n for a, n in enumerate(shape)]
    signs = jax.random.bits(jax.random.fold_in(key, SIGNS), tuple(units), jnp.uint32) >> np.uint32(31)
    step = np.float32(1 / math.sqrt(fan - 1))
    return jnp.where(signs == 0, step, -step)


def shrinkage(shape: Shape, inputs: tuple[int, ...]) -> np.float32:
    """The factor that gives weights with their offsets the variance 1."""
    fan = math.prod(shape[a] for a in inputs)
    return np.float32(math.sqrt((fan - 1) / fan))
