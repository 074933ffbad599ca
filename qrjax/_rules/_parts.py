"""Elements in other places, and parts of arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._profiles import kept, normalized, renamed
from qrjax._signals._signal import Signal

Positions = Sequence[int] | None


def moved(x: Signal, shape: tuple[int, ...], rho: Any, order: tuple[int, ...] | None = None) -> Signal:
    """The same elements in other places; `order` names the old axes, where each is still one axis."""
    weight = None if x.weight is None else x.weight.ordered(order)
    profiles = {} if order is None else renamed(x.profiles, {a: i for i, a in enumerate(order)})
    profiles = {a: p for a, p in profiles.items() if len(p) == shape[a]}
    return dataclasses.replace(
        x,
        shape=shape,
        rho=_tables.settled(rho, shape),
        array=None,
        weight=weight,
        profiles=profiles,
        twins={},
        family=None,
        input_axes=frozenset(i for i, a in enumerate(order or ()) if a in x.input_axes),
    )


def without(x: Signal, axes: Sequence[int], result: Signal) -> Signal:
    """The result of dropping axes of length 1, which may make a weight one layer of a stack."""
    weight = x.weight
    for axis in sorted(axes, reverse=True):
        weight = None if weight is None else weight.dropped(axis)
    return dataclasses.replace(result, weight=weight)


def part(
    x: Signal,
    shape: tuple[int, ...],
    which: Any,
    axes: tuple[int, ...],
    positions: Mapping[int, Positions] | None = None,
) -> Signal:
    """A part of x, whose elements differ from those of x in the same places along the axes.

    `positions`: along each axis the places of x that the part has; None where they are not known.
    """
    result = moved(x, shape, x.rho, tuple(range(x.ndim)))
    if result.weight is not None:
        weight = result.weight
        for axis in axes:
            weight = weight.taken(axis, x.shape[axis], (positions or {}).get(axis))
        result = dataclasses.replace(result, weight=weight)
    if x.source is None or not axes:
        return result
    differ = tuple(int(axis in axes) for axis in range(x.ndim))
    source = x.source.part(which, float(x.rho[differ]))
    if source is x.source:
        return result
    return dataclasses.replace(result, source=source, fiber=None, sample=None)


def in_reverse(x: Signal, axes: Sequence[int]) -> Signal:
    """The signal with its places along some axes in reverse order, as far as they differ in strength."""
    return dataclasses.replace(x, profiles={a: p[::-1] if a in axes else p for a, p in x.profiles.items()})


def at_places(x: Signal, result: Signal, places: Mapping[int, Positions]) -> Signal:
    """A part as strong as the places are that it was cut from."""
    for axis, where in places.items():
        if axis in x.profiles and not result.is_constant and where is not None:
            taken = x.profiles[axis][np.asarray(where)]
            profiles = result.profiles | {axis: normalized(taken)}
            factor = math.sqrt(float(taken.mean()))
            result = dataclasses.replace(result, values=result.values * factor, at=None, profiles=kept(profiles))
    return result
