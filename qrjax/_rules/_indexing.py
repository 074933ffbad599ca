"""Gathers and segment sums: which elements meet is decided by the indices."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._places import interlaced
from qrjax._rules._registry import KNOWN_SIZE, STRUCTURAL, Equation, Known, Opaque, Value, described, structural
from qrjax._rules._sampling import sample
from qrjax._rules._structure import moved, part
from qrjax._signals import _tables
from qrjax._signals._complexes import is_zero
from qrjax._signals._mixtures import surrounded
from qrjax._signals._profiles import kept, normalized
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
    result = _by_strength(x, moved(x, equation.shape, table), indices, indexed, numbers)
    if isinstance(indices, Known) and len(indices.shape) == 2 and indexed and len(indices.array) > 1:
        together = _gathered_table(equation, x, Known(np.zeros_like(indices.array)), indexed, numbers)
        result = dataclasses.replace(result, twins=result.twins | {same_place(indices): together})
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


def same_place(indices: Known) -> tuple[str, int]:
    """The kind of pairs that these indices bring together: entries that hold one index."""
    return "same place", hash(indices.array.astype(np.int64).tobytes())


def _by_strength(x: Signal, result: Signal, indices: Value, indexed: tuple[int, ...], numbers: Any) -> Signal:
    """Where places differ in strength and the indices are known, some are met more often than others."""
    known = isinstance(indices, Known) and len(indices.shape) == 2 and len(indexed) == 1 and indices.shape[-1] == 1
    if not known or indexed[0] not in x.profiles or 0 in numbers.offset_dims:
        return result
    assert isinstance(indices, Known)
    profile = x.profiles[indexed[0]]
    taken = profile[np.clip(indices.array[:, 0], 0, len(profile) - 1)]
    values = result.values * math.sqrt(float(taken.mean()))
    return dataclasses.replace(result, values=values, at=None, profiles=kept({0: normalized(taken)}))


def _gathered_table(equation: Equation, x: Signal, indices: Value, indexed: tuple[int, ...], numbers: Any) -> Any:
    ndim = len(equation.shape)
    offsets = [
        a for a in range(x.ndim) if a not in numbers.collapsed_slice_dims and a not in numbers.operand_batching_dims
    ]
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
    inside = (flat >= 0) & (flat < n)
    roots = np.sqrt(added.profiles.get(0, np.ones(len(flat))))[inside]
    places = flat[inside].astype(np.int64)
    # The sums of strengths and of their roots take the place of the number of updates.
    ones = np.asarray(np.bincount(places, weights=roots**2, minlength=n)[:n], np.float64)
    return _segments(
        added,
        ones,
        np.asarray(np.bincount(places, weights=roots, minlength=n)[:n], np.float64) ** 2 - ones,
        same_place(indices),
        equation,
    )


def _segments(x: Signal, ones: NDArray[np.float64], twos: NDArray[np.float64], kind: Any, equation: Equation) -> Value:
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
