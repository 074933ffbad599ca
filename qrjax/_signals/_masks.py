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
from qrjax._signals._fibers import pair_covariance
from qrjax._signals._gates import gated
from qrjax._signals._quadrature import Floats, correlation, hermite_squares, quantiles
from qrjax._signals._signal import HUGE, Mask, Signal, Source, relation
from qrjax._signals._tables import Shape

# Numbers down from this are put in by masks; -1e4 is less in half precision.
LEVEL = -9e3
# And these are masks before they are subtracted; scales and frequencies are less.
HIGH = 1e8
# Elements stay absent as long as nothing of them would be left by an exponential.
FAR = 80.0
# Truth values that were computed miss 0 and 1 by this.
ROUNDING = 1e-3
# Arrays of truth values up to this size are kept.
KEPT = 1 << 22


def gate(present: NDArray[np.bool_], shape: Shape) -> Signal:
    """The signal of known truth values; the array may have length 1 along axes where nothing differs."""
    first = bool(present.flat[0]) if present.size else True
    made = _gate(np.ascontiguousarray(present == first).tobytes(), present.shape, tuple(shape))
    return made if first else inverted(made)


@functools.lru_cache(maxsize=64)
def _gate(data: bytes, compact: Shape, shape: Shape) -> Signal:
    """One source for one mask, and for its opposite: it comes back in every layer."""
    present = np.frombuffer(data, np.bool_).reshape(compact)
    share = float(present.mean()) if present.size else 1.0
    values = quantiles(np.array([0.0, 1.0]), np.array([1 - share, share]))
    if share in (0.0, 1.0):
        return dataclasses.replace(Signal.constant(share, shape, np.bool_), array=present)
    moments = _tables.empirical(np.asarray(present, np.float64) - share)
    rho = correlation(hermite_squares(values), moments)
    rho.flat[0] = 1.0
    rho = _tables.settled(rho, compact)
    return Signal(shape, np.dtype(np.bool_), values, Source(), rho, array=present)


def inverted(which: Signal) -> Signal:
    """The truth values that are true where these are not."""
    array = None if which.array is None else ~np.asarray(which.array, bool)
    return dataclasses.replace(which, values=1.0 - which.values, array=array, at=None)


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
    if array.size and array.dtype.kind not in "iucO" and is_truths(array):
        truths = gate(compacted(array.astype(bool)), array.shape)
        return dataclasses.replace(truths, dtype=array.dtype, array=array)
    whole = Signal.known(array)
    if array.dtype.kind in "biuc" or array.dtype.kind == "O" or array.size == 0 or whole.is_constant:
        return whole
    numbers = np.nan_to_num(np.asarray(array, np.float64), nan=0.0, posinf=HUGE, neginf=-HUGE)
    absent = _absent(numbers)
    if not absent.any() or absent.all():
        return whole
    found = gate(compacted(~absent), array.shape)
    bare = dataclasses.replace(_of_present(numbers, ~absent, array.dtype), array=array)
    return dataclasses.replace(bare, mask=Mask(float(numbers[absent].mean()), (found,), whole=True))


def is_truths(array: NDArray[Any]) -> bool:
    """Whether an array holds zeros and ones alone."""
    return array.dtype.kind == "b" or bool(((array == 0) | (array == 1)).all())


def _absent(numbers: Floats) -> NDArray[np.bool_]:
    """Where an array holds a mask's numbers: far from all others; or what a mask is made of, by being subtracted."""
    for sign, level in ((-1, -LEVEL), (1, HIGH)):
        found = sign * numbers >= level
        if found.any() and not found.all() and (sign * numbers[~found]).max() < (sign * numbers[found]).min() / 2:
            return found
    return np.zeros(numbers.shape, bool)


def _of_present(numbers: Floats, present: NDArray[np.bool_], dtype: Any) -> Signal:
    """The law of those elements alone, and of the pairs among them."""
    held = numbers[present]
    if np.ptp(held) == 0:
        return Signal.constant(float(held[0]), numbers.shape, dtype)
    values = quantiles(held)
    both = _tables.empirical(present.astype(np.float64))
    moments = _tables.empirical(np.where(present, numbers - held.mean(), 0.0)) / np.maximum(both, 1e-300)
    rho = correlation(hermite_squares(values), np.where(both > 0, moments, 0.0))
    rho.flat[0] = 1.0
    return Signal(numbers.shape, np.dtype(dtype), values, Source(), _tables.settled(rho, numbers.shape))


def masked_choice(operands: Sequence[Signal]) -> Signal | None:
    """What a choice between a number and something else makes, where it is a mask's; else None."""
    which, off, on = operands
    if which.array is not None and which.array.shape == which.shape and which.dtype.kind == "b":
        which = gate(compacted(which.array), which.shape)
    if which.source is None or which.mask is not None or np.abs(which.values - 0.5).max() > 0.5 + ROUNDING:
        return None
    for case, other, present in ((off, on, which), (on, off, inverted(which))):
        if case.is_constant and case.mask is None and _is_mask(case.mean, other, present):
            return _left_out(other, Mask(case.mean, (present,), whole=not LEVEL < case.mean < HIGH))
    return None


def masked_product(operands: Sequence[Signal]) -> Signal | None:
    """What a product with known zeros and ones makes; None where it is none."""
    for truths, other in (operands, operands[::-1]):
        if truths.array is None or truths.drawn or truths.source is None or truths.mask is not None:
            continue
        if is_truths(truths.array) and _is_mask(0.0, other, truths):
            which = gate(compacted(np.asarray(truths.array, bool)), truths.shape)
            return _left_out(other, Mask(0.0, (which,)))
    return None


def _is_mask(number: float, other: Signal, present: Signal) -> bool:
    """Whether a number says that elements are absent, or else whether it is known which of them hold it."""
    if LEVEL < number < HIGH:
        apart = other.source is not None and other.source is not present.source
        return apart and other.mask is None and present.array is not None
    # Which elements are absent may depend on their values.
    tied = other.source is not None and abs(relation(present.source or Source(), other.source)) >= 1e-2
    return not tied and bool((np.sign(number) * other.values).max() <= abs(number) / 2)


def _left_out(x: Signal, mask: Mask) -> Signal:
    """The signal with more elements absent, on its own sample of rows where that knows them."""
    fiber, sample = x.fiber, x.sample
    if sample is not None and (fiber.shape != x.shape or sample.shape[1] == 1):
        fiber = sample = None
    if sample is not None:
        sample = np.where(fiber.present(mask), sample, mask.value)
    return dataclasses.replace(x, mask=joint([x.mask, mask]), fiber=fiber, sample=sample, array=None, weight=None)


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
    value = max((mask.value for mask in given), key=abs)
    return Mask(value, (*actual, *others), any(mask.whole for mask in given))


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


def unveiled(x: Signal) -> Signal:
    """The signal with as many elements absent as are known to be."""
    return x if x.bare is None or x.bare.shape != x.shape else dataclasses.replace(x.bare, dtype=x.dtype)


def presented(x: Signal) -> Signal:
    """The signal of all elements, unless the number of those that are absent has no part in any moment."""
    if x.mask is None:
        return x
    made = settled(x)
    return x if made is x else dataclasses.replace(made, bare=x if known_gates(x) else None)


def known_gates(x: Signal) -> bool:
    """Whether it is known which elements are absent."""
    return x.mask is not None and all(g.array is not None for g in x.mask.gates)


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
    return dataclasses.replace(_on_rows(mixed, x, which), profiles=x.profiles)


def _on_rows(mixed: Signal, x: Signal, which: Signal) -> Signal:
    """The mixture with the law of its sample of rows, and what that says of two elements of a row, or of two rows."""
    fiber, sample = x.fiber, x.sample
    if sample is None or sample.shape[1] == 1 or fiber.shape != x.shape:
        return dataclasses.replace(mixed, fiber=fiber, sample=sample)
    values = quantiles(sample)
    squares = hermite_squares(values)
    rho = mixed.rho.copy()
    varying = [] if which.array is None else fiber.varying(which.array)
    between = fiber.pairs(sample, varying) if varying else {}
    for index in np.ndindex(rho.shape):
        outer = tuple(a for a, p in enumerate(index) if p and a not in fiber.axes)
        inside = any(index[a] for a in fiber.axes)
        place = tuple(a for a in outer if a in varying)
        if inside and not outer:
            rho[index] = correlation(squares, np.array([pair_covariance(sample, fiber.n)]))[0]
        elif outer and place in between:
            # What rows at these places have in common, and what their sources do.
            likeness = float(which.moments[index] * x.covariances[index])
            moment = between[place][int(inside)] + likeness
            rho[index] = correlation(squares, np.array([moment - float(sample.mean()) ** 2]))[0]
    return dataclasses.replace(mixed, values=values, rho=_tables.settled(rho, x.shape), fiber=fiber, sample=sample)
