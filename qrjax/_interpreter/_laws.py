"""Laws that the walk makes of others: at unit variance, scaled, without relations, about special pairs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._rules._equations import Context
from qrjax._rules._operands import Value
from qrjax._rules._places import together
from qrjax._rules._stacks import carried
from qrjax._signals import _tables
from qrjax._signals._blocks import TOLD, Blocks, remaining
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._signal import Signal, Source

# The square of a mean over the second moment: of a weight less, as of that of a hundred draws around 0.
CENTRED = 0.01


def is_centred(mean: float, second_moment: float) -> bool:
    """Whether numbers of these moments lie around 0, as those of weights do."""
    return mean**2 < CENTRED * second_moment


def alone(x: Signal) -> Signal:
    """The signal with independent elements and no relations."""
    if isinstance(x, ComplexSignal):
        return x.each(alone)
    return x if x.is_constant else dataclasses.replace(x.fresh(weight=x.weight), rho=_tables.independent(x.shape))


def replace_source(x: Signal, source: Source) -> Signal:
    """The same law on another source."""
    return dataclasses.replace(x, source=source, fiber=None, sample=None)


def in_case(context: Context, value: Value, kind: Any) -> Value:
    """The value with the tables of the pairs of a kind, without others."""
    if not isinstance(value, Signal) or not value.twins:
        return value
    table = together(context, value, kind)
    return value if table is value.rho or table.ndim != value.ndim else dataclasses.replace(value, rho=table, twins={})


def paired(result: Value, other: Value, kind: Any) -> Value:
    if not isinstance(result, Signal) or not isinstance(other, Signal) or result.is_constant or other.is_constant:
        return result
    if kind in result.twins or other.rho.shape != result.rho.shape or np.abs(result.rho - other.rho).max() < TOLD:
        return result
    if isinstance(kind, Blocks):
        kind = remaining(kind, other.rho, result.rho, result.shape)
        if kind is None or kind in result.twins:
            return result
    return carried(result, dataclasses.replace(result, twins=result.twins | {kind: other.rho}))


def unit(weight: Signal, axes: Sequence[int], zero_sum: bool) -> Signal:
    """The weight with unit variance: independent elements but along axes that it was broadcast over.

    Those of a neuron sum to zero together, also where a place at the border of an image sees some of them only.
    """
    assert weight.weight is not None
    if weight.weight.equal:
        return Signal.constant(1.0, weight.shape, weight.dtype)
    rho = weight.rho if weight.source is not None else _tables.independent(weight.shape)
    rho = np.where(rho >= 1.0, 1.0, 0.0)
    size = math.prod(weight.shape[a] for a in axes)
    if zero_sum and size > 1:
        for pattern in np.ndindex(rho.shape):
            inside = any(pattern[a] for a in axes)
            if inside and not any(p for a, p in enumerate(pattern) if a not in axes):
                rho[pattern] = -1 / (size - 1)
    return Signal.normal(weight.shape, dtype=weight.dtype, rho=rho)


def scaled(x: Signal, gain: float) -> Signal:
    if isinstance(x, ComplexSignal):
        return x.each(lambda part: scaled(part, gain))
    if x.is_constant or gain == 0:
        return Signal.constant(x.mean * gain, x.shape, x.dtype)
    inner = x.at
    at = None if inner is None else lambda z: gain * inner(z)
    return x.fresh(values=x.values * gain, profiles=x.profiles, at=at)
