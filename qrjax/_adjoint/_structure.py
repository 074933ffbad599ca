"""Adjoints of what moves elements: they move back, and where one was handed out several times these add up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._registry import adjoint
from qrjax._adjoint._terms import permuted, spread, total
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import Known
from qrjax._signals import _tables
from qrjax._signals._profiles import kept, normalized, renamed
from qrjax._signals._tables import Shape

Wanted = Sequence[bool]
Given = Sequence[Cotangent]
Found = list[Cotangent | None]


# -- sums and copies ----------------------------------------------------------------------------------------------


def summed_over(g: Cotangent, axes: Sequence[int]) -> Cotangent:
    """The sum along axes, without them."""
    if not axes:
        return g
    left = [a for a in range(len(g.shape)) if a not in axes]
    shape = tuple(g.shape[a] for a in left)
    found = g.each(shape, lambda term: total(term, g.fine(axes)))
    if found is not None:
        return found
    table = _tables.pair_sums(g.table, axes, g.shape)
    return Cotangent.of_table(shape, table, renamed(g.profiles, {a: i for i, a in enumerate(left)}))


def unbroadcast(g: Cotangent, shape: Shape) -> Cotangent:
    """The derivative by an operand of this shape, which was broadcast: along axes of length 1, or all of them."""
    if g.shape == shape:
        return g
    axes = [a for a, n in enumerate(g.shape) if len(shape) < len(g.shape) or (shape[a] == 1 and n != 1)]
    return resized(summed_over(g, axes), shape)


def resized(g: Cotangent, shape: Shape) -> Cotangent:
    """The same elements in another shape."""
    if g.shape == shape:
        return g
    return g.reshaped(shape)


def handed_out(g: Cotangent, axes: Sequence[int], shape: Shape) -> Cotangent:
    """The derivative by all elements along axes that it does not have."""
    fine: list[int] = []
    places: list[int] = []
    own = iter(g.runs)
    for axis, size in enumerate(shape):
        sizes = [size] if axis in axes else [g.laid[a] for a in next(own)]
        places += [] if axis in axes else range(len(fine), len(fine) + len(sizes))
        fine += sizes
    return Cotangent(shape, tuple(spread(term, places, tuple(fine)) for term in g.terms))


@adjoint("reduce_sum")
def reduce_sum(move: Move, given: Given, wanted: Wanted) -> Found:
    """Every summand gets the sum's."""
    del wanted
    return [handed_out(given[0], move.equation.params["axes"], tuple(move.met[0].shape))]


@adjoint("broadcast_in_dim")
def broadcast_in_dim(move: Move, given: Given, wanted: Wanted) -> Found:
    """The sum over all copies."""
    dimensions, shape = move.equation.params["broadcast_dimensions"], tuple(move.met[0].shape)
    g = given[0]
    copied = [a for a in range(len(g.shape)) if a not in dimensions]
    copied += [p for a, p in enumerate(dimensions) if shape[a] == 1 and g.shape[p] != 1]
    return [resized(summed_over(g, copied), shape), *[None] * (len(wanted) - 1)]


@adjoint("reshape", "squeeze")
def reshape(move: Move, given: Given, wanted: Wanted) -> Found | None:
    """Back to the old shape."""
    del wanted
    if move.equation.params.get("dimensions") is not None and move.equation.name == "reshape":
        return None
    return [resized(given[0], tuple(move.met[0].shape))]


@adjoint("transpose")
def transpose(move: Move, given: Given, wanted: Wanted) -> Found:
    """Back to the old order."""
    del wanted
    back = tuple(int(a) for a in np.argsort(move.equation.params["permutation"]))
    order = given[0].fine(back)
    return [given[0].each(tuple(move.met[0].shape), lambda term: permuted(term, order))]


@adjoint("name")
def same(move: Move, given: Given, wanted: Wanted) -> Found:
    """Handed on."""
    del move, wanted
    return [given[0]]


@adjoint("rev")
def rev(move: Move, given: Given, wanted: Wanted) -> Found:
    """Each element in another one's place: as far as the two are alike the same array, for the rest one of its own."""
    del wanted
    g, axes = given[0], move.equation.params["dimensions"]
    if not g.second_moment > 0:
        return [g]
    pattern = tuple(int(a in axes and n > 1) for a, n in enumerate(g.shape))
    alike = float(np.clip(g.table[pattern] / g.second_moment, -1.0, 1.0))
    back = {a: p[::-1] if a in axes else p for a, p in g.profiles.items()}
    alike *= math.prod(float(np.sqrt(p * g.profiles[a]).mean()) for a, p in back.items())
    own = Cotangent.of_table(g.shape, g.table, back)
    return [g.times(alike).plus(own.times(math.sqrt(1 - alike**2)))]


# -- parts --------------------------------------------------------------------------------------------------------


def put(g: Cotangent, shape: Shape, axis: int, places: Sequence[int] | None) -> Cotangent:
    """The derivative by an array of which a part along one axis was taken; places None where they are not known."""
    law = g.law()
    if law is None:
        return Cotangent(shape)
    taken, size = g.shape[axis], shape[axis]
    share = taken / max(1, size)
    same_place, other = law.moments.take(0, axis) * share, law.moments.take(1, axis)
    pairs = taken * (taken - 1) / max(1, size * (size - 1))
    profiles = {a: p for a, p in law.profiles.items() if a != axis}
    if places is not None:
        where = np.zeros(size)
        np.add.at(where, np.asarray(places, int), law.profiles.get(axis, np.ones(taken)))
        profiles |= kept({axis: normalized(where)})
    return Cotangent.of_table(shape, np.stack([same_place, other * pairs], axis), profiles)


def piece(g: Cotangent, shape: Shape, axis: int, start: int | None) -> Cotangent:
    """The derivative by one of the arrays that were put together along an axis."""
    law = g.law()
    if law is None:
        return Cotangent(shape)
    profiles, factor = dict(law.profiles), 1.0
    profile = profiles.pop(axis, None)
    if profile is not None and start is not None:
        own = profile[start : start + shape[axis]]
        factor = float(own.mean()) if own.size else 0.0
        profiles |= kept({axis: normalized(own)} if factor > 0 else {})
    return Cotangent.of_table(shape, law.moments * factor, profiles)


@adjoint("slice", "dynamic_slice")
def slice_(move: Move, given: Given, wanted: Wanted) -> Found:
    """Back to the places that the slice was taken from."""
    shape, g = tuple(move.met[0].shape), given[0]
    for axis, size in enumerate(shape):
        if g.shape[axis] != size:
            middle = (*g.shape[:axis], size, *g.shape[axis + 1 :])
            g = put(g, middle, axis, _places(move, axis, g.shape[axis], size))
    return [g, *[None] * (len(wanted) - 1)]


def _places(move: Move, axis: int, length: int, size: int) -> list[int] | None:
    p = move.equation.params
    if move.equation.name == "slice":
        step = 1 if p["strides"] is None else p["strides"][axis]
        return [p["start_indices"][axis] + k * step for k in range(length)]
    start = move.met[1 + axis]
    if not isinstance(start, Known):
        return None
    first = min(max(int(start.array), 0), size - length)
    return list(range(first, first + length))


@adjoint("pad")
def pad(move: Move, given: Given, wanted: Wanted) -> Found:
    """What was not padding."""
    shape, g = tuple(move.met[0].shape), given[0]
    for axis, (low, _, interior) in enumerate(move.equation.params["padding_config"]):
        middle = (*g.shape[:axis], shape[axis], *g.shape[axis + 1 :])
        if middle != g.shape:
            g = piece(g, middle, axis, low if low >= 0 and not interior else None)
    return [g, *[None] * (len(wanted) - 1)]


@adjoint("split")
def split(move: Move, given: Given, wanted: Wanted) -> Found:
    """The parts together."""
    del wanted
    shape, axis, start = tuple(move.met[0].shape), move.equation.params["axis"], 0
    result = Cotangent(shape)
    for g in given:
        result = result.plus(put(g, shape, axis, range(start, start + g.shape[axis])))
        start += g.shape[axis]
    return [result]


@adjoint("stack")
def stack(move: Move, given: Given, wanted: Wanted) -> Found:
    """To each its own slice."""
    axis = move.equation.params["axis"]
    middle = (*given[0].shape[:axis], 1, *given[0].shape[axis + 1 :])
    return [
        resized(piece(given[0], middle, axis, i), tuple(v.shape)) if w else None
        for i, (v, w) in enumerate(zip(move.met, wanted, strict=True))
    ]


@adjoint("unstack")
def unstack(move: Move, given: Given, wanted: Wanted) -> Found:
    """The slices together."""
    del wanted
    shape, axis = tuple(move.met[0].shape), move.equation.params["axis"]
    result = Cotangent(shape)
    for i, g in enumerate(given):
        lifted = resized(g, (*shape[:axis], 1, *shape[axis + 1 :])) if g else Cotangent(shape)
        result = result.plus(put(lifted, shape, axis, [i])) if g else result
    return [result]


def shared(g: Cotangent, shape: Shape) -> Cotangent:
    """The derivative by an array whose elements, none more than others, went into those of the result."""
    law = g.law()
    if law is None:
        return Cotangent(shape)
    ratio = math.prod(g.shape) / max(1, math.prod(shape))
    return Cotangent.noise(shape, law.second_moment * ratio)
