"""Gathers: which elements meet is decided by the indices."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules import _scatters  # noqa: F401 - registers its rules
from qrjax._rules._equations import Equation
from qrjax._rules._operands import KNOWN_SIZE, Known, Opaque, Value, described
from qrjax._rules._parts import moved
from qrjax._rules._places import agreement, assumed, kind_of, kinds
from qrjax._rules._registry import structural
from qrjax._rules._sampling import actual
from qrjax._signals._families import family_of
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import WEIGHTS, quantiles
from qrjax._signals._segments import returned, shared
from qrjax._signals._signal import Signal

PAIRS = 4096


@structural("gather")
def gather(equation: Equation, operand: Value, indices: Value) -> Value:
    """Elements at indices: those that differ in the index differ along the indexed axes."""
    if isinstance(operand, Opaque) or isinstance(indices, Opaque):
        return Opaque(equation.shape)
    rows = _takes_rows(equation.params["dimension_numbers"], indices)
    if rows and (isinstance(operand, Known) or operand.weight is None):
        indices = assumed(equation, indices, operand.shape[0])
        assert not isinstance(indices, Opaque)
    if isinstance(operand, Known) and isinstance(indices, Known) and math.prod(equation.shape) <= KNOWN_SIZE:
        return _of_known(equation, operand, indices, rows)
    x = described(operand)
    numbers = equation.params["dimension_numbers"]
    embeds = equation.context.sizes(x, described(indices))
    if x.is_constant and not embeds:
        return Signal.constant(x.mean, equation.shape, equation.dtype)
    indexed = tuple(a for a in numbers.start_index_map if equation.params["slice_sizes"][a] != x.shape[a])
    table = _gathered_table(equation, x, indices, indexed, numbers)
    result = _by_strength(x, moved(x, equation.shape, table), indices, indexed, numbers)
    result = _by_place(x, result, indices, numbers)
    if isinstance(indices, Known) and len(indices.shape) == 2 and indexed and len(indices.array) > 1:
        result = dataclasses.replace(result, twins=result.twins | _met(equation, x, indices, indexed, numbers))
    one_place = math.prod(indices.shape[:-1]) == 1
    if embeds and x.ndim > 1 and not one_place and indexed:
        return equation.context.embed(
            equation, x, lambda w: dataclasses.replace(moved(w, equation.shape, table), weight=None)
        )
    if not indexed or x.source is None:
        return result
    return _elsewhere(equation, x, indices, result, tuple(int(a in indexed) for a in range(x.ndim)), rows)


def _of_known(equation: Equation, operand: Known, indices: Known, rows: bool) -> Value:
    """Known elements; rows of numbers that come back are pairs to be told from others."""
    found = np.asarray(equation.evaluate(operand.array, indices.array)[0])
    if not rows or found.dtype.kind in "biu":
        return Known(found)
    kind_of(equation.context, indices.array)
    return actual(equation.context, found) if _collisions(indices.array, (1,)) > 0 else Known(found)


def _elsewhere(
    equation: Equation, x: Signal, indices: Value, result: Signal, differ: tuple[int, ...], rows: bool
) -> Signal:
    """The elements in other places: aggregates of segments at what they came from, others as a part of their array."""
    assert x.source is not None
    if rows and isinstance(indices, Known) and x.sample is not None and x.sample.shape[1] == 1:
        fiber = shared(x, kind_of(equation.context, indices.array), x.shape[0])
        if fiber is not None:
            return returned(result, fiber, x.sample)
    source = x.source.part(("gather", equation.key), float(x.rho[differ]))
    return result if source is x.source else dataclasses.replace(result, source=source, fiber=None, sample=None)


def _met(equation: Equation, x: Signal, indices: Known, indexed: tuple[int, ...], numbers: Any) -> dict[Any, Any]:
    """The tables of pairs that these indices bring together, and of those that others did before."""
    together = _gathered_table(equation, x, Known(np.zeros_like(indices.array)), indexed, numbers)
    if indices.shape[-1] != 1:
        return {}
    own, places = kind_of(equation.context, indices.array), indices.array[:, 0].astype(np.int64)
    apart = _gathered_table(equation, x, Known(np.arange(len(places))[:, None]), indexed, numbers)
    found = {own: together}
    for kind, others in kinds(equation.context, len(places)):
        if kind != own:
            share = agreement(others, places)
            found[kind] = share * together + (1 - share) * apart
    return found


def _takes_rows(numbers: Any, indices: Value) -> bool:
    """Whether every index names one row."""
    return (
        len(indices.shape) == 2
        and indices.shape[-1] == 1
        and tuple(numbers.start_index_map) == tuple(numbers.collapsed_slice_dims) == (0,)
        and 0 not in numbers.offset_dims
        and not numbers.operand_batching_dims
    )


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


def _by_place(x: Signal, result: Signal, indices: Value, numbers: Any) -> Signal:
    """Where it is known what the array is at each place, as on a Gram matrix's diagonal, the law at those taken."""
    family = family_of(x)
    if family is None or not isinstance(indices, Known) or numbers.operand_batching_dims or result.is_constant:
        return result
    if tuple(numbers.collapsed_slice_dims) != tuple(sorted(numbers.start_index_map)):
        return result
    order = np.moveaxis(indices.array, -1, 0).reshape(indices.shape[-1], -1)
    taken = np.zeros(family.places)
    where: list[Any] = [slice(None)] * x.ndim
    for axis, index in zip(numbers.start_index_map, order, strict=True):
        where[axis] = np.clip(index, 0, family.places[axis] - 1)
    np.add.at(taken, tuple(where), 1.0)
    some = taken > 0
    weights = WEIGHTS[:, None] * (taken[some] / taken.sum())
    return dataclasses.replace(result, values=quantiles(family.table[:, some], weights), at=None)


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
