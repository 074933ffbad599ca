"""Random arrays of complex numbers: a signal each for the real and the imaginary part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._signal import Signal


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ComplexSignal(Signal):
    """Two signals as one complex one; its second moment is E|z|^2, and its mean the size of E z.

    Attributes:
      re, im: the parts.
      modulus: |z| itself, where it is known better than from the parts.
      unit: the second moment that a signal of second moment 1 has in this form: as waves of n places, n.
    """

    re: Signal = dataclasses.field(kw_only=True)
    im: Signal = dataclasses.field(kw_only=True)
    modulus: Signal | None = dataclasses.field(kw_only=True, default=None)
    unit: float = dataclasses.field(kw_only=True, default=1.0)

    @property
    def is_constant(self) -> bool:
        return self.re.is_constant and self.im.is_constant

    @property
    def mean(self) -> float:
        return float(np.hypot(self.re.mean, self.im.mean))

    @property
    def variance(self) -> float:
        return self.re.variance + self.im.variance

    @property
    def covariances(self) -> Any:
        """Re Cov(z, z') of two elements, by the axes along which they differ."""
        return self.re.covariances + self.im.covariances

    def each(self, function: Callable[[Signal], Signal]) -> ComplexSignal:
        """A linear function of both parts."""
        return dataclasses.replace(joined(function(self.re), function(self.im), self.dtype), unit=self.unit)


def joined(re: Signal, im: Signal, dtype: Any, modulus: Signal | None = None) -> ComplexSignal:
    """The complex signal with these parts."""
    values = np.hypot(re.values, im.values)
    table = _tables.constant(re.ndim)
    return ComplexSignal(re.shape, np.dtype(dtype), values, None, table, re=re, im=im, modulus=modulus)


def known(array: Any) -> ComplexSignal:
    """The law of an actual array."""
    return joined(Signal.known(np.real(array)), Signal.known(np.imag(array)), array.dtype)


def array_of(x: Signal) -> Any:
    """The elements themselves, where they are known or one draw speaks for them; else None."""
    if isinstance(x, ComplexSignal):
        re, im = array_of(x.re), array_of(x.im)
        return None if re is None or im is None else (re + 1j * im).astype(x.dtype)
    if x.array is None and x.source is None:
        return np.broadcast_to(np.float64(x.mean), x.shape)  # of any size, without memory
    return x.array


def is_zero(x: Signal) -> bool:
    """Whether it is 0 everywhere."""
    return x.is_constant and x.mean == 0


def halves(x: Signal) -> tuple[Signal, Signal]:
    """The parts; of a real signal itself and zero."""
    if isinstance(x, ComplexSignal):
        return x.re, x.im
    return x, Signal.constant(0.0, x.shape, x.dtype)


def unit_of(x: Any) -> float:
    """The second moment that a signal of second moment 1 has in this form."""
    return x.unit if isinstance(x, ComplexSignal) else 1.0
