"""Adjoints of what picks elements: by index, by size, by window."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._registry import adjoint
from qrjax._adjoint._structure import Found, Given, Wanted, handed_out, shared
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import Known, Value, described
from qrjax._rules._registry import NEAR
from qrjax._signals import _tables
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import COARSE, COARSE_WEIGHTS, WEIGHTS, Floats, phi, phi_inverse
from qrjax._signals._signal import Profiles, Signal
from qrjax._signals._tables import Shape


@adjoint("gather")
def gather(move: Move, given: Given, wanted: Wanted) -> Found:
    """Back to where the elements were taken from."""
    return back_to_rows(move, given, wanted, None)


def back_to_rows(move: Move, given: Given, wanted: Wanted, together: Cotangent | None) -> Found:
    """The same; `together` is the derivative about rows that were one, if it is known."""
    shape, g, numbers = tuple(move.met[0].shape), given[0], move.equation.params["dimension_numbers"]
    indices = move.met[1]
    one = len(numbers.start_index_map) == 1 and numbers.collapsed_slice_dims == numbers.start_index_map
    law = g.law()
    if law is None or not one or len(numbers.operand_batching_dims):
        return [shared(g, shape), *[None] * (len(wanted) - 1)]
    axis = numbers.start_index_map[0]
    rows = [a for a in range(len(g.shape)) if a not in numbers.offset_dims]
    # Rows together along one axis, in the place of the operand's own.
    order = [a for a in range(len(g.shape)) if a not in rows]
    order[axis:axis] = rows
    merged = (*shape[:axis], math.prod(g.shape[a] for a in rows), *shape[axis + 1 :])
    turned = tuple(g.shape[a] for a in order)
    table = _tables.reshaped(law.moments.transpose(order), turned, merged)
    places = indices.array.reshape(-1).clip(0, shape[axis] - 1) if isinstance(indices, Known) else None
    near = np.asarray(together.table.take(1, 0)) if together is not None and rows == [0] and axis == 0 else None
    profiles = law.profiles if rows == [0] and axis == 0 else {}
    merged_g = Cotangent.of_table(merged, table, profiles)
    return [_returned(merged_g, shape, axis, places, near), *[None] * (len(wanted) - 1)]


def _returned(
    g: Cotangent, shape: Shape, axis: int, places: NDArray[Any] | None, near: Floats | None = None
) -> Cotangent:
    """The derivative by an array of which rows were taken, some several times: there these add up.

    Two takings of one row have `near` in common, if that is known, or else what any two have.
    """
    law = g.law()
    taken, size = g.shape[axis], shape[axis]
    if law is None or not taken:
        return Cotangent(shape)
    counts = np.full(size, taken / size) if places is None else np.bincount(places, minlength=size).astype(np.float64)
    strengths = counts
    if places is not None:
        strengths = np.bincount(places, law.profiles.get(axis, np.ones(taken)), size).astype(np.float64)
    # Pairs of takings, and those of one row; where the rows are not known, as many as chance has it.
    pairs = taken * (taken - 1.0)
    alike = pairs / size if places is None else float((counts * (counts - 1)).sum())
    same, other = (np.asarray(law.moments.take(i, axis)) for i in (0, 1))
    near = other if near is None else near
    at_one = taken * same + alike * near
    table = np.stack([at_one / size, (other * pairs - near * alike) / max(1, size * (size - 1))], axis)
    profiles = {a: p for a, p in law.profiles.items() if a != axis}
    # How much a row's takings have in common, by their number.
    common = float(near.flat[0] / same.flat[0]) if same.flat[0] > 0 else 0.0
    profiles |= kept({axis: normalized(strengths * np.maximum(0.0, 1 + (counts - 1) * common))})
    return Cotangent.of_table(shape, table, profiles)


@adjoint("scatter-add", "scatter_add", "scatter-sub")
def scatter_add(move: Move, given: Given, wanted: Wanted) -> Found:
    """Every summand gets the sum's."""
    g, updates = given[0], tuple(move.met[2].shape)
    law = g.law()
    if law is None or not wanted[2]:
        return [g if wanted[0] else None, None, None]
    numbers = move.equation.params["dimension_numbers"]
    own = numbers.update_window_dims
    if tuple(numbers.inserted_window_dims) == tuple(numbers.scatter_dims_to_operand_dims) == (0,) and own:
        return [g if wanted[0] else None, None, _handed(law, updates, own, move.met[1])]
    return [g if wanted[0] else None, None, Cotangent.noise(updates, law.second_moment)]


def by_takings(law: Signal, places: NDArray[Any]) -> tuple[float, Profiles]:
    """How much stronger than on average the rows at these places are, and how they differ in strength."""
    strengths = law.profiles.get(0)
    if strengths is None or not places.size or places.min() < 0 or places.max() >= len(strengths):
        return 1.0, {}
    taken = strengths[places]
    return float(taken.mean()), kept({0: normalized(taken)})


def _handed(law: Signal, shape: Sequence[int], own: Sequence[int], indices: Value) -> Cotangent:
    """The derivative by rows that were added up by index: two that went to the same place have it in common."""
    rows = [a for a in range(len(shape)) if a not in own]
    equal, factor, profiles = 1 / law.shape[0], 1.0, dict[int, Floats]()
    if isinstance(indices, Known):
        n = indices.array.size
        counts = np.unique(indices.array, return_counts=True)[1].astype(np.float64)
        equal = float((counts * (counts - 1)).sum()) / max(1, n * (n - 1))
        if rows == [0]:
            factor, profiles = by_takings(law, indices.array.ravel())
    table = np.zeros((2,) * len(shape))
    for pattern in np.ndindex(table.shape):
        inner = tuple(pattern[a] for a in own)
        differs = any(pattern[a] for a in rows)
        same, other = law.moments[(0, *inner)], law.moments[(1, *inner)]
        table[pattern] = equal * same + (1 - equal) * other if differs else same
    return Cotangent.of_table(tuple(shape), factor * table, profiles)


@adjoint("scatter", "dynamic_update_slice", "scatter-max", "scatter_max", "scatter-min", "scatter_min")
def scatter(move: Move, given: Given, wanted: Wanted) -> Found:
    """To the new elements their own, and nothing to those that they replaced."""
    g, place = given[0], 1 if move.equation.name == "dynamic_update_slice" else 2
    updates, whole = tuple(move.met[place].shape), tuple(move.met[0].shape)
    found: Found = [None] * len(wanted)
    law = g.law()
    if law is None:
        return found
    part = math.prod(updates) / max(1, math.prod(whole))
    picks = move.equation.name.endswith(("max", "min"))
    share = (1 / max(1.0, part)) if picks else 1.0
    axes = [a for a in range(len(whole)) if len(updates) == len(whole) and updates[a] != whole[a]]
    moment = law.second_moment * share
    start = move.met[2 + axes[0]] if place == 1 and len(axes) == 1 else None
    if isinstance(start, Known) and axes[0] in law.profiles:
        first = int(start.array)
        moment *= float(law.profiles[axes[0]][first : first + updates[axes[0]]].mean())
    rho = law.rho if len(updates) == len(whole) else None
    found[place] = Cotangent.noise(updates, moment, None if rho is None else _tables.settled(rho, updates))
    rest = law.second_moment - moment * part
    if wanted[0] and rest > 1e-9 * law.second_moment:
        found[0] = Cotangent.noise(whole, rest, law.rho)
    return found


@adjoint("top_k", "reduce_prod")
def several(move: Move, given: Given, wanted: Wanted) -> Found:
    """To the elements that were taken."""
    del wanted
    return [shared(given[0], tuple(move.met[0].shape))]


@adjoint("reduce_max", "reduce_min")
def extreme(move: Move, given: Given, wanted: Wanted) -> Found:
    """To the elements that were picked."""
    del wanted
    x, axes = described(move.met[0]), move.equation.params["axes"]
    if given[0].cancels:
        return [None]
    factor = picked(x, axes, [x.shape[a] for a in axes], move.equation.name == "reduce_max")
    return [handed_out(given[0], axes, x.shape).times(factor)]


@adjoint("sort")
def sort(move: Move, given: Given, wanted: Wanted) -> Found:
    """Back to the places before."""
    del move
    return [g if w else None for g, w in zip(given, wanted, strict=True)]


@adjoint("reduce_window_max", "reduce_window_min")
def window_extreme(move: Move, given: Given, wanted: Wanted) -> Found:
    """To the largest of each window."""
    del wanted
    x, law = described(move.met[0]), given[0].law()
    if law is None or x.is_constant:
        return [Cotangent(x.shape) if law is None else shared(given[0], x.shape)]
    sizes = move.equation.params["window_dimensions"]
    axes = [a for a, n in enumerate(sizes) if n > 1]
    near = dataclasses.replace(x, rho=x.twins.get(NEAR, x.rho))
    factor = picked(near, axes, [sizes[a] for a in axes], move.equation.name == "reduce_window_max")
    windows = math.prod(sizes) * math.prod(law.shape) / x.size
    # Two elements of which each is one of so many: as often as chance has it, not as their roots say.
    chance = (math.prod(sizes) * factor.mean) ** -2 if factor.mean > 0 else 0.0
    table = law.moments * windows
    apart = [index for index in np.ndindex(table.shape) if any(index[a] for a in axes)]
    for index in apart:
        table[index] *= min(1.0, chance)
    return [Cotangent.of_table(x.shape, table).times(dataclasses.replace(factor, rho=x.rho))]


def picked(x: Signal, axes: Sequence[int], sizes: Sequence[int], largest: bool) -> Signal:
    """The root of the chance that an element is the largest of so many, as a function of itself."""
    n = math.prod(sizes)
    if x.is_constant or n == 1:
        return Signal.constant(1 / math.sqrt(n), x.shape)
    rho = min(max(float(_tables.differing(x.rho, sorted(axes), x.shape).flat[0]), 0.0), 1 - 1e-6)
    ranks = _scores(x.values if largest else -x.values)
    # What the others have in common with it, given itself.
    common = math.sqrt(rho) * ranks[:, None] + math.sqrt(1 - rho) * COARSE[None, :]
    below = phi((ranks[:, None] - math.sqrt(rho) * common) / math.sqrt(1 - rho))
    chance = below ** (n - 1) @ COARSE_WEIGHTS
    chance *= 1 / n / float(chance @ WEIGHTS)
    return x.fresh(values=np.sqrt(chance))


def _scores(values: Floats) -> Floats:
    """The normal score of each value."""
    order = np.argsort(values, kind="stable")
    scores = np.empty_like(values)
    shares = WEIGHTS[order]
    scores[order] = phi_inverse((np.cumsum(shares) - shares / 2) / shares.sum())
    return scores


@adjoint("reduce_window_sum")
def window_sum(move: Move, given: Given, wanted: Wanted) -> Found:
    """The sum over the windows that an element is in."""
    del wanted
    shape, law = tuple(move.met[0].shape), given[0].law()
    if law is None:
        return [Cotangent(shape)]
    table = law.moments
    for axis, n in enumerate(move.equation.params["window_dimensions"]):
        if n > 1:
            times = n * given[0].shape[axis] / shape[axis]
            same, other = table.take(0, axis), table.take(1, axis)
            inside = times * same + max(0.0, times * times - times) * other
            # Neighbours are in the same windows; elements far apart in others.
            near = (n - 1) / max(1, shape[axis] - 1)
            table = np.stack([inside, near * inside + (1 - near) * times * times * other], axis)
    return [Cotangent.of_table(shape, table)]
