"""Segment sums, extremes and products: which elements meet is decided by the indices."""

from __future__ import annotations

import dataclasses
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._functions import SIMPLE
from qrjax._rules._registry import Context, Equation, Known, Opaque, Value, described, structural
from qrjax._rules._sampling import sample
from qrjax._rules._structure import moved, part
from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._masks import gate, resolved
from qrjax._signals._mixtures import surrounded
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import quantiles
from qrjax._signals._segments import EMPTY, REDUCTIONS, Segments, element_sample, reduced, segments_of, shared
from qrjax._signals._signal import Mask, Signal, related

# Indices up to so many are made up where they are not known.
ASSUMED = 1 << 22
_assumptions: weakref.WeakKeyDictionary[Context, int] = weakref.WeakKeyDictionary()


def same_place(indices: Known) -> tuple[str, int]:
    """The kind of pairs that these indices bring together: entries that hold one index."""
    return "same place", hash(indices.array.astype(np.int64).tobytes())


def assumed(equation: Equation, indices: Value, count: int) -> Value:
    """Indices as an array: those that are not known are taken as uniformly random, each array on its own."""
    if not isinstance(indices, Signal) or indices.source is None or indices.size > ASSUMED:
        return indices
    key = ("assumed", count, indices.size)
    if key not in indices.source.fibers:
        number = _assumptions.get(equation.context, 0)
        _assumptions[equation.context] = number + 1
        generator = np.random.Generator(np.random.PCG64([number, 577]))
        indices.source.fibers[key] = generator.integers(count, size=indices.size, dtype=np.int32)
    equation.context.note(f"indices into {count} places are not known: taken as uniformly random")
    return Known(indices.source.fibers[key].reshape(indices.shape))


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
    inside = (places >= 0) & (places < equation.shape[0])
    places = np.where(inside, places, equation.shape[0])
    if how == "add":
        total = _sum(equation, added, places, same_place(found))
        nothing = base.is_constant and base.mean == 0
        return total if nothing else combine(SIMPLE["add"], [base, total], equation.shape, equation.dtype)
    return _aggregate(equation, added, places, same_place(found), how, base.mean)


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
    return reduced(x, fiber, how, base, equation.shape, equation.dtype)


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
    inside = places < n
    roots = np.sqrt(x.profiles.get(0, np.ones(len(places))))[inside]
    # The sums of strengths and of their roots take the place of the number of updates.
    ones = np.asarray(np.bincount(places[inside], weights=roots**2, minlength=n), np.float64)
    twos = np.asarray(np.bincount(places[inside], weights=roots, minlength=n), np.float64) ** 2 - ones
    made = _segments(x, ones, twos, kind, equation)
    if x.is_constant or made.is_constant:
        return made
    fiber = shared(x, kind, n) or segments_of(x, kind, places, n)
    rows = np.where(fiber.valid, element_sample(x, fiber), 0.0).sum(1, keepdims=True)
    values = quantiles(rows, np.ones_like(rows)) if x.fiber is fiber else made.values
    source = related([(fiber.parent, _tie(fiber, rows))])
    return dataclasses.replace(made, values=values, source=source, at=None, fiber=fiber, sample=rows)


def _tie(fiber: Segments, rows: Any) -> float:
    """The correlation of an element's source with the sum of its segment."""
    seen, spread = fiber.valid, float(np.std(np.broadcast_to(rows, fiber.valid.shape)[fiber.valid]))
    if spread == 0:
        return 0.0
    mean = float(np.broadcast_to(rows, seen.shape)[seen].mean())
    return float((fiber.z * (rows - mean))[seen].mean()) / spread


def _segments(x: Signal, ones: NDArray[np.float64], twos: NDArray[np.float64], kind: Any, equation: Equation) -> Signal:
    n = len(ones)
    roots = np.sqrt(ones + twos)
    mean = float(roots.mean()) * x.mean
    same, other = x.moments.take(0, 0), x.moments.take(1, 0)
    together = dataclasses.replace(x, rho=x.twins[kind]).moments.take(1, 0) if kind in x.twins else other
    apart = (float(roots.sum()) ** 2 - float((roots**2).sum())) / max(1, n * (n - 1))
    near = ones * float(same.flat[0]) + twos * float(together.flat[0])
    profile = normalized(near)
    unlike = 1.0 if profile is None else float(np.sqrt(profile).mean() ** 2)
    table = np.stack([float(ones.mean()) * same + float(twos.mean()) * together, apart * other / unlike], 0) - mean**2
    variance = float(table.flat[0])
    if variance <= 0:
        return Signal.constant(mean, equation.shape, equation.dtype)
    rho = _tables.settled(np.clip(table / variance, -1, 1), equation.shape)
    if x.values.min() >= 0 and mean > 0:
        width = math.sqrt(math.log1p(variance / mean**2))
        made = Signal.normal(equation.shape, math.log(mean) - width**2 / 2, width**2, equation.dtype, rho)
        return dataclasses.replace(made, values=np.exp(made.values), at=None, profiles=kept({0: profile}))
    made = Signal.normal(equation.shape, mean, variance, equation.dtype, rho)
    return dataclasses.replace(made, profiles=kept({0: profile}))


@structural("scatter")
def scatter(equation: Equation, operand: Value, indices: Value, updates: Value) -> Value:
    """Elements replaced at indices: by shares, a mixture."""
    if isinstance(operand, Known) and isinstance(indices, Known) and isinstance(updates, Known):
        return Known(np.asarray(equation.evaluate(operand.array, indices.array, updates.array)[0]))
    if isinstance(operand, Opaque) or isinstance(updates, Opaque):
        return Opaque(equation.shape)
    x, update = described(operand), described(updates)
    share = min(1.0, update.size / max(1, x.size))
    if share == 1.0 and update.ndim == x.ndim:
        return moved(update, equation.shape, update.rho)
    if update.is_constant:
        inside = [(round((1 - share) * x.shape[0]), x.shape[0])] + [(n, n) for n in x.shape[1:]]
        return surrounded(part(x, x.shape, ("scatter", equation.key), ()), update, inside, x.shape)
    return sample(equation, operand, indices, updates)[0]
