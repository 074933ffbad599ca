"""Absent elements: the huge negative numbers that take elements out of a softmax.

Between a mask and the exponential that makes zeros of it, a signal describes the elements that are present, and its
mask says which are not. The number itself has no part in any moment, so -1e4 and the least float are one case.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._gates import gated
from qrjax._signals._quadrature import Floats, correlation, hermite_squares, quantiles
from qrjax._signals._signal import HUGE, Mask, Signal, Source, relation
from qrjax._signals._tables import Shape

# Numbers down from this are put in by masks; -1e4 is less in half precision.
LEVEL = -9e3
# Elements stay absent as long as nothing of them would be left by an exponential.
FAR = 80.0
# Arrays of truth values up to this size are kept.
KEPT = 1 << 22


def gate(present: NDArray[np.bool_], shape: Shape) -> Signal:
    """The signal of known truth values; the array may have length 1 along axes where nothing differs."""
    return _gate(np.ascontiguousarray(present).tobytes(), present.shape, tuple(shape))


@functools.lru_cache(maxsize=64)
def _gate(data: bytes, compact: Shape, shape: Shape) -> Signal:
    """One source for one mask: it comes back in every layer."""
    present = np.frombuffer(data, np.bool_).reshape(compact)
    share = float(present.mean())
    values = quantiles(np.array([0.0, 1.0]), np.array([1 - share, share]))
    if share in (0.0, 1.0):
        return dataclasses.replace(Signal.constant(share, shape, np.bool_), array=present)
    moments = _tables.empirical(present - share)
    rho = correlation(hermite_squares(values), moments)
    rho.flat[0] = 1.0
    rho = _tables.settled(rho, compact)
    return Signal(shape, np.dtype(np.bool_), values, Source(), rho, array=present)


def compacted(array: NDArray[Any]) -> NDArray[Any]:
    """The array with length 1 along axes where nothing differs."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] else array
        if array.shape[axis] > 1 and (array.strides[axis] == 0 or bool((array == first).all())):
            array = first
    return array


# -- where masks come from ----------------------------------------------------------------------------------------


def known(array: NDArray[Any]) -> Signal:
    """The signal of an actual array; numbers that only a mask puts in are absent."""
    whole = Signal.known(array)
    if array.dtype.kind in "biuc" or array.dtype.kind == "O" or array.size == 0 or whole.is_constant:
        return whole
    numbers = np.nan_to_num(np.asarray(array, np.float64), nan=0.0, posinf=HUGE, neginf=-HUGE)
    absent = numbers <= LEVEL
    if not absent.any() or numbers[~absent].min() < numbers[absent].max() / 2:
        return whole
    found = gate(compacted(~absent), array.shape)
    bare = dataclasses.replace(_of_present(numbers, ~absent, array.dtype), array=array)
    return dataclasses.replace(bare, mask=Mask(float(numbers[absent].mean()), (found,)))


def _of_present(numbers: Floats, present: NDArray[np.bool_], dtype: Any) -> Signal:
    """The law of those elements alone, and of the pairs among them."""
    held = numbers[present]
    if np.ptp(held) == 0:
        return Signal.constant(float(held[0]), numbers.shape, dtype)
    values = quantiles(held, np.ones_like(held))
    both = _tables.empirical(present.astype(np.float64))
    moments = _tables.empirical(np.where(present, numbers - held.mean(), 0.0)) / np.maximum(both, 1e-300)
    rho = correlation(hermite_squares(values), np.where(both > 0, moments, 0.0))
    rho.flat[0] = 1.0
    return Signal(numbers.shape, np.dtype(dtype), values, Source(), _tables.settled(rho, numbers.shape))


def masked_choice(operands: Sequence[Signal]) -> Signal | None:
    """What a choice between a mask's number and something else makes; None where it is none."""
    if len(operands) != 3:
        return None
    which, off, on = operands
    if which.array is not None and which.array.shape == which.shape and which.dtype.kind == "b":
        which = gate(compacted(which.array), which.shape)
    if which.source is None or which.mask is not None or not ((which.values >= 0) & (which.values <= 1)).all():
        return None
    for case, other, present in ((off, on, which), (on, off, inverted(which))):
        if not case.is_constant or case.mask is not None or case.mean > LEVEL or other.values.min() < case.mean / 2:
            continue
        if other.source is not None and abs(relation(which.source, other.source)) >= 1e-2:
            return None  # which elements are absent depends on their values
        mask = Mask(case.mean, (present,))
        return dataclasses.replace(other, mask=joint([other.mask, mask]), array=None, weight=None)
    return None


def inverted(which: Signal) -> Signal:
    """The truth values that are true where these are not."""
    array = None if which.array is None else ~np.asarray(which.array, bool)
    return dataclasses.replace(which, values=1.0 - which.values, array=array, at=None)


# -- several masks ------------------------------------------------------------------------------------------------


def joint(masks: Sequence[Mask | None]) -> Mask | None:
    """The mask of an element that is present where all say so."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    gates: dict[Any, Signal] = {g.source or id(g): g for mask in given for g in mask.gates}
    actual = [g for g in gates.values() if g.array is not None]
    others = [g for g in gates.values() if g.array is None]
    if len(actual) > 1:
        arrays = [np.asarray(g.array, bool) for g in actual]
        actual = [gate(compacted(functools.reduce(np.logical_and, arrays)), actual[0].shape)]
    return Mask(min(mask.value for mask in given), (*actual, *others))


def presence(mask: Mask) -> Signal:
    """One signal of truth values for all gates."""
    if len(mask.gates) == 1:
        return mask.gates[0]
    share = math.prod(g.mean for g in mask.gates)
    table = functools.reduce(np.multiply, [g.moments for g in mask.gates])
    values = quantiles(np.array([0.0, 1.0]), np.array([1 - share, share]))
    rho = correlation(hermite_squares(values), table - share**2)
    rho.flat[0] = 1.0
    shape = mask.gates[0].shape
    return Signal(shape, np.dtype(np.bool_), values, Source(), _tables.settled(rho, shape))


def valid(x: Signal) -> Mask | None:
    """The signal's mask, if it belongs to its present shape."""
    return x.mask if x.mask is not None and all(g.shape == x.shape for g in x.mask.gates) else None


# -- and where they go --------------------------------------------------------------------------------------------


def settled(x: Signal) -> Signal:
    """The signal with its mask as long as the absent elements are far below all others; else a mixture."""
    assert x.mask is not None
    low, high = float(x.values.min()) - FAR, float(x.values.max()) + FAR
    return resolved(x) if low <= x.mask.value <= high else x


def resolved(x: Signal) -> Signal:
    """The signal of all elements, where absent ones are the number that they hold."""
    if x.mask is None:
        return x
    bare, value = dataclasses.replace(x, mask=None), x.mask.value
    if valid(x) is None:
        return bare
    which = presence(x.mask)
    if which.is_constant:
        return bare if which.mean > 0 else Signal.constant(value, x.shape, x.dtype)
    if bare.is_constant:
        made = which.map(lambda g: value + (bare.mean - value) * g)
        array = None
        if which.array is not None:
            array = np.where(np.asarray(which.array, bool), bare.mean, value)
        return dataclasses.replace(made, dtype=x.dtype, array=array, profiles=x.profiles)
    mixed = gated([which, Signal.constant(value, x.shape, x.dtype), bare], x.shape, x.dtype)
    return dataclasses.replace(mixed, fiber=x.fiber, sample=x.sample, profiles=x.profiles)
