"""What a walk is told of a model's inputs: their own numbers, what is said of them, or what their type suggests."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from qrjax._interpreter._processes import gathered
from qrjax._interpreter._walk import from_array
from qrjax._rules._operands import Opaque, Value, as_data, described
from qrjax._signals._complexes import ComplexSignal, joined
from qrjax._signals._quadrature import CDF
from qrjax._signals._signal import Signal, Source
from qrjax._terminal._received import is_key


def input_value(array: Any, mean: float | None, variance: float | None) -> Value:
    """The law of an input: as given, or its own, or standard normal; what the type of an integer suggests."""
    shape, dtype = tuple(array.shape), np.dtype(array.dtype) if not is_key(array) else None
    if dtype is None:
        return Opaque(shape)
    if is_abstract(array) and jax.numpy.issubdtype(dtype, np.inexact):
        mean, variance = 0.0 if mean is None else mean, 1.0 if variance is None else variance
    if mean is None or variance is None:
        own = _guess(shape, dtype) if is_abstract(array) else as_data(from_array(gathered(array)))
        if mean is None and variance is None:
            return own
        own_mean, own_variance = _moments(own)
        mean, variance = own_mean if mean is None else mean, own_variance if variance is None else variance
    return _normal(shape, mean, variance, dtype)


def is_abstract(array: Any) -> bool:
    """Whether the shape and the dtype alone are known."""
    return isinstance(array, (jax.ShapeDtypeStruct, jax.core.Tracer))


def _normal(shape: tuple[int, ...], mean: float, variance: float, dtype: np.dtype[Any]) -> Signal:
    """Of complex numbers with independent parts, of which the real one has the mean and each half of the variance."""
    if dtype.kind != "c":
        return Signal.normal(shape, mean, variance, dtype)
    real, imaginary = (Signal.normal(shape, part, variance / 2, np.float32) for part in (mean, 0.0))
    return joined(real, imaginary, dtype)


def _moments(value: Value) -> tuple[float, float]:
    law = described(value)
    if isinstance(law, ComplexSignal):
        return law.re.mean, law.re.variance + law.im.variance
    return law.mean, law.variance


def _guess(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Signal:
    """Integers of unknown range."""
    spread, top = Signal.normal(shape, dtype=dtype), largest_guess(shape, dtype)
    return Signal(shape, dtype, np.minimum(np.floor(CDF * (top + 1)), top), Source(), spread.rho)


def largest_guess(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The largest integer, from 0, that an input may hold of which only the shape is known."""
    if dtype.kind == "b":
        return 1
    # Ids are spread over a few, which every table has.
    return 255 if is_image(shape, dtype) else 15


def is_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether bytes are pixels, rather than ids: where they have three axes or more."""
    return dtype == np.uint8 and len(shape) > 2
