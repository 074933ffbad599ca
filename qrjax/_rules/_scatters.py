"""Segment sums, extremes and products: which elements meet is decided by the indices."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Equation
from qrjax._rules._functions import SIMPLE
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._parts import moved, part
from qrjax._rules._places import assumed, induced, kind_of, places_of, together
from qrjax._rules._registry import STRUCTURAL, structural
from qrjax._rules._sampling import sample
from qrjax._rules._vectors import interlaced
from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._complexes import is_zero
from qrjax._signals._masks import gate, resolved
from qrjax._signals._mixtures import surrounded
from qrjax._signals._quadrature import matched, quantiles
from qrjax._signals._segments import EMPTY, REDUCTIONS, element_sample, reduced, segments_of, shared, totals
from qrjax._signals._signal import Mask, Signal, related


@structural(
    "scatter-add", "scatter_add", "scatter-max", "scatter_max", "scatter-min", "scatter_min", "scatter-mul",
    "scatter_mul",
)  # fmt: skip
def by_segments(equation: Equation, operand: Value, indices: Value, updates: Value) -> Value:
    """Aggregates of segments, by the elements that each place receives; other scatters are sampled."""
    values = (operand, indices, updates)
    if all(isinstance(v, Known) for v in values):
        return Known(np.asarray(equation.evaluate(*(v.array for v in values if isinstance(v, Known)))[0]))
    if any(isinstance(v, Opaque) for v in values):
        return Opaque(equation.shape)
    how, base = equation.name.replace("_", "-").rpartition("-")[2], resolved(described(operand))
    if not _by_rows(equation, indices, updates) or not (base.is_constant or how == "add"):
        return sample(equation, *values)[0]
    found = assumed(equation, indices, equation.shape[0])
    if not isinstance(found, Known):
        return sample(equation, *values)[0]
    added, places = _in_line(resolved(described(updates)), found)
    kind = kind_of(equation.context, places)
    inside = (places >= 0) & (places < equation.shape[0])
    places = np.where(inside, places, equation.shape[0])
    if how == "add":
        total = _sum(equation, added, places, kind)
        nothing = base.is_constant and base.mean == 0
        return total if nothing else combine(SIMPLE["add"], [base, total], equation.shape, equation.dtype)
    return _aggregate(equation, added, places, kind, how, base.mean)


def _by_rows(equation: Equation, indices: Value, updates: Value) -> bool:
    """Whether each index names one row of the operand."""
    numbers, leading = equation.params["dimension_numbers"], len(indices.shape) - 1
    return (
        indices.shape[-1] == 1
        and leading >= 1
        and math.prod(indices.shape) > 0
        and tuple(numbers.scatter_dims_to_operand_dims) == (0,)
        and tuple(numbers.inserted_window_dims) == (0,)
        and not numbers.operand_batching_dims
        and tuple(numbers.update_window_dims) == tuple(range(leading, len(updates.shape)))
        and tuple(updates.shape[leading:]) == equation.shape[1:]
    )


def _in_line(x: Signal, indices: Known) -> tuple[Signal, NDArray[np.int64]]:
    """The updates along one axis, and their places."""
    places = indices.array.astype(np.int64).ravel()
    if len(indices.shape) == 2:
        return x, places
    shape = (places.size, *x.shape[len(indices.shape) - 1 :])
    return x.fresh(shape=shape, rho=_tables.reshaped(x.rho, x.shape, shape)), places


def _aggregate(equation: Equation, x: Signal, places: Any, kind: Any, how: str, base: float) -> Value:
    n = equation.shape[0]
    if x.is_constant:
        return _of_equals(equation, x, np.bincount(places, minlength=n)[:n], how, base)
    fiber = segments_of(x, kind, places, n)
    made = reduced(x, fiber, how, base, equation.shape, equation.dtype)
    if how != "mul" or fiber.rho != 0:
        return made
    # Of independent factors the moments are products of theirs; a sample has too few of a product's largest.
    degrees = np.bincount(places, minlength=n)[:n]
    mean, moment = (float((m**degrees).mean()) for m in (x.mean, x.second_moment))
    values = matched(made.values, base * mean, base**2 * max(0.0, moment - mean**2))
    return dataclasses.replace(made, values=values)


def _of_equals(equation: Equation, x: Signal, degrees: NDArray[np.int64], how: str, base: float) -> Value:
    """Aggregates of equal numbers."""
    function, _ = REDUCTIONS[how]
    full = (degrees > 0).reshape(-1, *[1] * (len(equation.shape) - 1))
    if how == "mul":
        powers = base * float(x.mean) ** degrees.reshape(full.shape)
        return Known(np.broadcast_to(powers, equation.shape).astype(equation.dtype))
    one = Signal.constant(float(function([x.mean, base])), equation.shape, equation.dtype)
    if full.all() or one.mean == base:
        return one
    masked = dataclasses.replace(one, mask=Mask(base, (gate(full, equation.shape),)))
    return masked if abs(base) >= EMPTY else resolved(masked)


def _sum(equation: Equation, x: Signal, places: Any, kind: Any) -> Signal:
    """Sums over segments; those of elements that a sample of the segments has are the sample's."""
    n = equation.shape[0]
    x = dataclasses.replace(x, twins=x.twins | {kind: together(equation.context, x, kind)})
    sums = totals(x, places, n, kind, _kindred(equation, x, places, n))
    made = sums.signal(equation.shape, equation.dtype)
    if x.is_constant or made.is_constant:
        return made
    fiber = shared(x, kind, n) or segments_of(x, kind, places, n)
    rows = np.where(fiber.valid, element_sample(x, fiber), 0.0).sum(1, keepdims=True)
    values = quantiles(rows) if x.fiber is fiber else made.values
    source = related([(fiber.parent, fiber.tie(rows))])
    return dataclasses.replace(made, values=values, source=source, at=None, fiber=fiber, sample=rows)


def _kindred(equation: Equation, x: Signal, places: NDArray[np.int64], count: int) -> dict[Any, Any]:
    """For kinds of pairs of segments whose elements are all of one kind, as nodes of one graph, that kind."""
    found = {}
    for kind in x.twins:
        other = places_of(equation.context, kind)
        if other is None or other.size != places.size:
            continue
        groups = induced(places, count, other)
        if groups is not None and 1 < np.unique(groups[groups >= 0]).size < (groups >= 0).sum():
            found[kind_of(equation.context, groups)] = kind
    return found


@structural("scatter")
def scatter(equation: Equation, operand: Value, indices: Value, updates: Value) -> Value:
    """Elements replaced at indices: by shares, a mixture."""
    if isinstance(operand, Known) and isinstance(indices, Known) and isinstance(updates, Known):
        return Known(np.asarray(equation.evaluate(operand.array, indices.array, updates.array)[0]))
    if isinstance(operand, Opaque) or isinstance(updates, Opaque):
        return Opaque(equation.shape)
    x, update = described(operand), described(updates)
    window = _window(equation, x, indices, update)
    if window is not None:
        return window
    share = min(1.0, update.size / max(1, x.size))
    if share == 1.0 and update.ndim == x.ndim:
        return moved(update, equation.shape, update.rho)
    if update.is_constant:
        inside = [(round((1 - share) * x.shape[0]), x.shape[0])] + [(n, n) for n in x.shape[1:]]
        return surrounded(part(x, x.shape, ("scatter", equation.key), ()), update, inside, x.shape)
    return sample(equation, operand, indices, updates)[0]


def _window(equation: Equation, x: Signal, indices: Value, update: Signal) -> Value | None:
    """One block written at a known place into zeros, as by `zeros.at[:, :n].set(block)`; None for other updates."""
    numbers = equation.params["dimension_numbers"]
    axes = tuple(numbers.scatter_dims_to_operand_dims)
    whole = update.ndim == x.ndim and isinstance(indices, Known) and indices.array.size == len(axes)
    if not whole or update.is_constant or not (is_zero(x) or x.profiles):
        return None
    assert isinstance(indices, Known)
    starts = dict(zip(axes, indices.array.ravel().tolist(), strict=True))
    config = tuple((starts.get(a, 0), x.shape[a] - n - starts.get(a, 0), 0) for a, n in enumerate(update.shape))
    if any(low < 0 or high < 0 for low, high, _ in config):
        return None
    around = Signal.constant(0.0, (), update.dtype)
    inner = dataclasses.replace(equation, name="pad", params={"padding_config": config})
    block = described(STRUCTURAL["pad"](inner, update, around))  # type: ignore[arg-type]
    return block if is_zero(x) else interlaced(x, block, equation.shape, equation.dtype)
