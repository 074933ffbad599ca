"""Gathers and segment sums: which elements meet is decided by the indices."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._registry import KNOWN_SIZE, Equation, Known, Opaque, Value, described, structural
from qrjax._rules._sampling import sample
from qrjax._rules._structure import moved, part
from qrjax._signals import _tables
from qrjax._signals._mixtures import surrounded
from qrjax._signals._signal import Signal

PAIRS = 4096


@structural("gather")
def gather(equation: Equation, operand: Value, indices: Value) -> Value:
    """Elements at indices: those that differ in the index differ along the indexed axes."""
    if isinstance(operand, Opaque) or isinstance(indices, Opaque):
        return Opaque(equation.shape)
    if isinstance(operand, Known) and isinstance(indices, Known) and math.prod(equation.shape) <= KNOWN_SIZE:
        return Known(np.asarray(equation.evaluate(operand.array, indices.array)[0]))
    x = described(operand)
    numbers = equation.params["dimension_numbers"]
    if x.is_constant and x.weight is None:
        return Signal.constant(x.mean, equation.shape, equation.dtype)
    indexed = tuple(a for a in numbers.start_index_map if equation.params["slice_sizes"][a] != x.shape[a])
    table = _gathered_table(equation, x, indices, indexed, numbers)
    result = moved(x, equation.shape, table)
    one_place = math.prod(indices.shape[:-1]) == 1
    if x.weight is not None and x.ndim > 1 and not one_place and indexed:
        return equation.context.embed(
            equation, x, lambda w: dataclasses.replace(moved(w, equation.shape, table), weight=None)
        )
    if not indexed or x.source is None:
        return result
    differ = tuple(int(a in indexed) for a in range(x.ndim))
    source = x.source.part(("gather", equation.key), float(x.rho[differ]))
    if source is x.source:
        return result
    return dataclasses.replace(result, source=source, fiber=None, sample=None)


def _gathered_table(equation: Equation, x: Signal, indices: Value, indexed: tuple[int, ...], numbers: Any) -> Any:
    ndim = len(equation.shape)
    offsets = [a for a in range(x.ndim) if a not in numbers.collapsed_slice_dims and a not in numbers.operand_batching_dims]
    operand_axis = dict(zip(numbers.offset_dims, offsets, strict=True))
    batch_axes = [a for a in range(ndim) if a not in operand_axis]
    batching = {
        batch_axes[i]: a
        for i, a in zip(numbers.start_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    }
    table = np.empty((2,) * ndim)
    for pattern in itertools.product((0, 1), repeat=ndim):
        own = [0] * x.ndim
        for place, axis in (operand_axis | batching).items():
            own[axis] = pattern[place]
        other = list(own)
        for axis in indexed:
            other[axis] = 1
        same = _same_index(indices, tuple(pattern[a] for a in batch_axes))
        table[pattern] = same * x.rho[tuple(own)] + (1 - same) * x.rho[tuple(other)]
    return table


def _same_index(indices: Value, pattern: tuple[int, ...]) -> float:
    """How often two indices that differ in place along these axes are the same index."""
    if not any(pattern):
        return 1.0
    if isinstance(indices, Known):
        return _collisions(indices.array, pattern)
    if isinstance(indices, Opaque) or indices.is_constant:
        return 1.0
    if indices.rho[(*pattern, 0)] >= 1.0:
        return 1.0
    return float(1 / max(1.0, np.ptp(indices.values) + 1))


def _collisions(indices: NDArray[Any], pattern: tuple[int, ...]) -> float:
    """The share of equal indices among a fixed sample of pairs of places."""
    generator = np.random.Generator(np.random.PCG64(1009))
    first, second = [], []
    for n, differs in zip(indices.shape[:-1], pattern, strict=True):
        place = generator.integers(n, size=PAIRS)
        first.append(place)
        second.append((place + generator.integers(1, n, size=PAIRS)) % n if differs and n > 1 else place)
    return float((indices[tuple(first)] == indices[tuple(second)]).all(-1).mean())


@structural("scatter-add", "scatter_add")
def scatter_add(equation: Equation, operand: Value, indices: Value, updates: Value) -> Value:
    """Sums over segments, by the number of updates that each place receives; others are sampled."""
    numbers = equation.params["dimension_numbers"]
    base, added = described(operand), described(updates)
    simple = (
        isinstance(indices, Known)
        and len(indices.shape) == 2
        and indices.shape[-1] == 1
        and tuple(numbers.scatter_dims_to_operand_dims) == (0,)
        and tuple(numbers.inserted_window_dims) == (0,)
        and tuple(numbers.update_window_dims) == tuple(range(1, added.ndim))
        and base.is_constant
        and base.mean == 0
    )
    if not simple:
        return sample(equation, operand, indices, updates)[0]
    assert isinstance(indices, Known)
    n = equation.shape[0]
    flat = indices.array.ravel()
    counts = np.bincount(flat[(flat >= 0) & (flat < n)].astype(np.int64), minlength=n)[:n].astype(np.float64)
    return _segments(added, counts, equation)


def _segments(x: Signal, counts: NDArray[np.float64], equation: Equation) -> Value:
    n = len(counts)
    mean = float(counts.mean()) * x.mean
    same, other = x.moments.take(0, 0), x.moments.take(1, 0)
    one, two = float(counts.mean()), float((counts * (counts - 1)).mean())
    apart = (float(counts.sum()) ** 2 - float((counts**2).sum())) / max(1, n * (n - 1))
    table = np.stack([one * same + two * other, apart * other], 0) - mean**2
    variance = float(table.flat[0])
    if variance <= 0:
        return Signal.constant(mean, equation.shape, equation.dtype)
    rho = _tables.settled(np.clip(table / variance, -1, 1), equation.shape)
    if x.values.min() >= 0 and mean > 0:
        width = math.sqrt(math.log1p(variance / mean**2))
        made = Signal.normal(equation.shape, math.log(mean) - width**2 / 2, width**2, equation.dtype, rho)
        return dataclasses.replace(made, values=np.exp(made.values))
    return Signal.normal(equation.shape, mean, variance, equation.dtype, rho)


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

