"""Slices: parts of an array, by places that are known or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._parts import Positions, at_places, moved, part, without
from qrjax._rules._registry import structural
from qrjax._rules._stacks import part_at
from qrjax._signals import _tables
from qrjax._signals._mixtures import concatenated


@structural("slice")
def slice_(equation: Equation, x: Value) -> Value:
    """A static slice."""
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    if isinstance(x, Known):
        return Known(x.array[tuple(slice(*s) for s in zip(starts, limits, strides, strict=True))])
    if isinstance(x, Opaque):
        return Opaque(equation.shape)
    found = part_at(x, equation.shape, starts)
    if found is not None:
        return found
    cut = tuple(a for a, n in enumerate(x.shape) if n != equation.shape[a])
    which = ("slice", tuple((a, starts[a], limits[a], strides[a]) for a in cut))
    positions = {a: range(starts[a], limits[a], strides[a]) for a in cut}
    return at_places(x, part(x, equation.shape, which, cut, positions), positions)


@structural("split")
def split(equation: Equation, x: Value) -> list[Value]:
    """Consecutive slices."""
    axis, start = equation.params["axis"], 0
    results: list[Value] = []
    for output in equation.outputs:
        shape = tuple(output.shape)
        stop = start + shape[axis]
        if isinstance(x, Known):
            results.append(Known(x.array[(slice(None),) * axis + (slice(start, stop),)]))
        elif isinstance(x, Opaque):
            results.append(Opaque(shape))
        else:
            found = part_at(x, shape, [start if a == axis else 0 for a in range(x.ndim)])
            cut = (axis,) if shape != x.shape else ()
            positions = {axis: range(start, stop)}
            taken = part(x, shape, ("slice", ((axis, start, stop, 1),)), cut, positions)
            results.append(at_places(x, taken, positions) if found is None else found)
        start = stop
    return results


@structural("unstack")
def unstack(equation: Equation, x: Value) -> list[Value]:
    """The slices along an axis, without it."""
    axis = equation.params["axis"]
    return [_across(x, axis, i, tuple(output.shape)) for i, output in enumerate(equation.outputs)]


def _across(x: Value, axis: int, i: int, shape: tuple[int, ...]) -> Value:
    if isinstance(x, Opaque):
        return Opaque(shape)
    if isinstance(x, Known):
        return Known(x.array.take(i, axis))
    one = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    found = part_at(x, one, [i if a == axis else 0 for a in range(x.ndim)])
    which = ("slice", ((axis, i, i + 1, 1),))
    taken = part(x, one, which, (axis,), {axis: (i,)}) if found is None else described(found)
    rest = tuple(a for a in range(x.ndim) if a != axis)
    return without(taken, [axis], moved(taken, shape, _tables.dropped(taken.rho, [axis]), rest))


@structural("dynamic_slice")
def dynamic_slice(equation: Equation, x: Value, *starts: Value) -> Value:
    """A slice at a place that may not be known: some other part of x."""
    if isinstance(x, Opaque):
        return Opaque(equation.shape)
    if all(isinstance(s, Known) for s in starts):
        at = [int(s.array) for s in starts if isinstance(s, Known)]
        at = [min(max(0, s), n - m) for s, n, m in zip(at, x.shape, equation.shape, strict=True)]
        if isinstance(x, Known):
            return Known(x.array[tuple(slice(s, s + m) for s, m in zip(at, equation.shape, strict=True))])
        which: Any = tuple(
            (a, s, s + m, 1) for a, (s, m) in enumerate(zip(at, equation.shape, strict=True)) if m != x.shape[a]
        )
        positions: dict[int, Positions] = {
            a: range(s, s + m) for a, (s, m) in enumerate(zip(at, equation.shape, strict=True)) if m != x.shape[a]
        }
    else:
        which, positions = equation.key, {}
    x = described(x)
    cut = tuple(a for a, n in enumerate(x.shape) if n != equation.shape[a])
    return at_places(x, part(x, equation.shape, ("slice", which), cut, positions), positions)


@structural("dynamic_update_slice")
def dynamic_update_slice(equation: Equation, x: Value, update: Value, *starts: Value) -> Value:
    """An array with a part replaced: by shares, a mixture."""
    if isinstance(x, Opaque) or isinstance(update, Opaque):
        return Opaque(equation.shape)
    if isinstance(x, Known) and isinstance(update, Known) and all(isinstance(s, Known) for s in starts):
        return Known(np.asarray(equation.evaluate(x.array, update.array, *(s.array for s in starts))[0]))  # type: ignore[union-attr]
    x, update = described(x), described(update)
    if update.shape == x.shape:
        return update
    result = x
    axes = [a for a, n in enumerate(x.shape) if n != update.shape[a]]
    if len(axes) == 1:
        rest = list(x.shape)
        rest[axes[0]] -= update.shape[axes[0]]
        remainder = moved(x, tuple(rest), x.rho)
        return concatenated([update, remainder], axes[0], x.shape, x.dtype)
    equation.context.note("a part was overwritten: taken as unchanged")
    return result
