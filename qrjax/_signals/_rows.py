"""Functions of elements and of aggregates of their rows, on a fiber."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._families import family_of
from qrjax._signals._fibers import Fiber, pair_covariance
from qrjax._signals._joint import ONE, Function, finite, ties
from qrjax._signals._masks import joint, valid
from qrjax._signals._quadrature import Floats, correlation, hermite_squares, ordered, quantiles
from qrjax._signals._scores import at_scores
from qrjax._signals._signal import Signal, related
from qrjax._signals._tables import Shape

Present = NDArray[np.bool_] | None


def shared_fiber(operands: list[Signal]) -> Fiber | None:
    """The fiber on which every operand that is not constant has values."""
    fibers = list(dict.fromkeys(o.fiber for o in operands if o.fiber is not None))
    for fiber in fibers:
        others = [o for o in operands if not o.is_constant and o.fiber is not fiber and not _stems(o, fiber)]
        if not others:
            return fiber
        # Known numbers, one for each aggregate.
        aggregates = all(o.sample is None or o.sample.shape[1] == 1 for o in operands if o.fiber is fiber)
        apart = any(_stems(o, fiber) for o in operands)
        if aggregates and not apart and all(fiber.known_rows(o) is not None for o in others):
            return fiber
    return None


def _stems(operand: Signal, fiber: Fiber) -> bool:
    """Whether the operand is a function of the fiber's source and of its places."""
    if operand.source is fiber.parent:
        return True
    base = summand(operand)
    # Only a fiber that is laid over the array knows which of the known numbers are added where.
    return base is not None and base.source is fiber.parent and base.shape == fiber.shape


def summand(x: Signal) -> Signal | None:
    """Of a sum with a known array, and of a function of one, the other summand."""
    if x.shift is not None:
        base: Signal = x.shift[0]
        return base
    found = None if x.source is None or x.mask is not None else x.source.summands
    # In other places, as behind a reshape, the array is not the one that was added.
    return found[0] if found is not None and found[0].shape == x.shape else None


def at_rows(x: Signal, fiber: Fiber, z: Floats | None = None) -> Floats:
    """Its values on rows of the fiber's array: the fiber's own, or where its source has these numbers."""
    base = summand(x)
    law = x.values if base is None else base.values
    found = fiber.values(law) if z is None else at_scores(law, z)
    if base is None:
        return found
    if x.shift is not None:
        return found + np.asarray(fiber.taken(x.shift[1]))
    assert x.source is not None
    _, array, sums = x.source.summands
    return np.interp(found + fiber.taken(array), sums, x.values)


def sampled(operand: Signal, fiber: Fiber) -> Floats:
    if operand.fiber is fiber and operand.sample is not None:
        return operand.sample
    if operand.is_constant:
        bare: Floats | None = operand.values[:1].reshape(1, 1)
    elif operand.source is fiber.parent:
        family = family_of(operand) if operand.shape == fiber.shape else None
        bare = fiber.values(operand.values) if family is None else family.sampled(fiber)
    elif _stems(operand, fiber):
        bare = at_rows(operand, fiber)
    else:
        bare = fiber.known_rows(operand)
    assert bare is not None
    mask = valid(operand)
    return bare if mask is None else np.where(fiber.present(mask), bare, mask.value)


def on_fiber(function: Function, operands: list[Signal], fiber: Fiber, shape: Shape, dtype: Any) -> Signal:
    parts = [sampled(o, fiber) for o in operands]
    sample = finite(function(*parts))
    mask = joint([valid(o) for o in operands])
    present = None if mask is None else fiber.present(mask)
    if fiber.valid is not None and sample.shape[1] > 1:
        present = fiber.valid if present is None else fiber.valid & present
    # Moments are of what is present.
    seen = sample if present is None else sample[present]
    order = ordered(seen)
    values = quantiles(seen, order=order)
    if np.ptp(values) <= 1e-12 * max(1e-300, np.abs(values).max()):
        return Signal.constant(values[0], shape, dtype)
    elements = [(o, part) for o, part in zip(operands, parts, strict=True) if part.shape[1] > 1]
    aggregates = [o for o, part in zip(operands, parts, strict=True) if part.shape[1] == 1 and not o.is_constant]
    if not elements:
        rho = functools.reduce(np.minimum, (o.rho for o in aggregates if o.fiber is fiber))
    else:
        main, before = elements[0]
        if len(elements) > 1:
            main, before = max(elements, key=lambda element: _likeness(element[1], sample))
        rho = main.rho
        if fiber.valid is None and (aggregates or fiber.rho < 0):
            axes = _row_axes(aggregates, main, shape)
            rho = _with_rows(main, before, values, sample, fiber.n, axes, present)
    z = fiber.z if present is None else fiber.z[present]
    source = related(ties(seen, None, [(fiber.parent, z)] if elements else [], order))
    return Signal(shape, np.dtype(dtype), values, source, _tables.settled(rho, shape), fiber=fiber, sample=sample)


def _likeness(a: Floats, b: Floats) -> float:
    a, b = np.nan_to_num(a - a.mean()), np.nan_to_num(b - b.mean())
    return float(abs((a * b).sum()) / math.sqrt((a * a).sum() * (b * b).sum() + 1e-300))


def _row_axes(aggregates: list[Signal], main: Signal, shape: Shape) -> list[int]:
    """The axes along which the aggregates are constant and the elements are not."""
    found = []
    for axis, size in enumerate(shape):
        one = tuple(int(a == axis) for a in range(len(shape)))
        if size > 1 and all(o.rho[one] >= ONE for o in aggregates) and main.rho[one] < ONE:
            found.append(axis)
    return found


def _within(values: Floats, sample: Floats, n: int, present: Present) -> float:
    """The correlation of the sources of two elements of a row, by the sample."""
    return float(correlation(hermite_squares(values), np.array([pair_covariance(sample, n, present)]))[0])


def _with_rows(
    main: Signal, before: Floats, values: Floats, sample: Floats, n: int, axes: list[int], present: Present
) -> Floats:
    """The main operand's table with the sample's own correlation between two elements of one row.

    The sample knows one correlation for all pairs of a row. What sets pairs along some of the row's axes apart from
    others, as the pixels of one channel from those of its group, is kept beside it.
    """
    rho = main.rho
    if not axes or sample.shape[1] == 1:
        return rho
    within, average = _within(values, sample, n, present), _within(main.values, before, n, present)
    means = _tables.differing(rho, axes, main.shape)
    if math.prod(main.shape[axis] for axis in axes) == n:
        average = float(means.flat[0])
    else:
        # Part of the row lies along an axis that others share with it: the sample alone knows its mean.
        means = average * _tables.dropped(rho, axes)
    result = rho.copy()
    for index in np.ndindex(rho.shape):
        if any(index[axis] for axis in axes):
            outside = tuple(i for axis, i in enumerate(index) if axis not in axes)
            same_row = tuple(0 if axis in axes else i for axis, i in enumerate(index))
            apart = (rho[index] - means[outside]) / max(1e-6, 1 - average)
            result[index] = within * rho[same_row] + (1 - within) * apart
    return np.clip(result, -1.0, 1.0)
