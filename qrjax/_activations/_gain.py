"""The gain of any activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from qrjax._activations._function import Activation
from qrjax._activations._target import positive


def gain(activation: Callable[[Any], Any], *, target: float = 1.0) -> float:
    """The factor that weights need behind an activation, so that every layer's output has one second moment.

    Weights of standard deviation gain / sqrt(fan_in) give the sums of `fan_in` activations the second moment
    `target`, if what the activation was applied to has it too, is normal and has the mean 0: the square root of
    target / E[activation(x)^2]. For ReLU that is sqrt(2), whatever the target. PyTorch's `calculate_gain` has six
    activations by name, some of them by tradition: 5/3 for tanh, where 1.5925 keeps a second moment of 1.

    Args:
      activation: a function of an array that acts on each element by itself, such as jax.nn.gelu, or one of NumPy
        arrays.
      target: the second moment of the layers' outputs; positive.

    Returns:
      A positive number, to 1e-9 of itself for functions of finitely many kinks and steps; of one that rounds to fewer
      digits than float64, to about those.

    Raises:
      TypeError: if `activation` is no function, or `target` no number.
      ValueError: if `activation` does not act on each element by itself, is not finite, is zero or bends everywhere, or
        `target` is not positive and finite.

    Example:
      >>> import jax, qrjax
      >>> round(qrjax.gain(jax.nn.relu), 6), round(qrjax.gain(jax.numpy.tanh), 4)
      (1.414214, 1.5925)

    Reference:
      He et al., Delving deep into rectifiers, ICCV 2015, arXiv 1502.01852, equation 10, for any activation.
    """
    function, size = Activation(activation), positive("target", target)
    moment = float(function.expectations(size, lambda value, _slope, _x: np.stack([value**2]))[0])
    if not moment > 0 or not math.isfinite(moment):
        raise ValueError(
            f"`activation` {function.name} has the second moment {moment} for inputs of second moment {size}; "
            "no weights behind it give their outputs another"
        )
    return math.sqrt(size / moment)
