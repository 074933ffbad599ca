"""Elementwise functions of signals: exact on the quadrature for one source, elsewhere as their sources require."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._families import begun, jointly, widened
from qrjax._signals._gates import gated, is_independent_gate
from qrjax._signals._joint import Function, finite
from qrjax._signals._many import of_many
from qrjax._signals._masks import (
    KEPT,
    compacted,
    joint,
    masked_choice,
    masked_product,
    presented,
    settled,
    unveiled,
    valid,
)
from qrjax._signals._places import is_entangled, of_places
from qrjax._signals._profiles import combined
from qrjax._signals._quadrature import NODES, Floats, expectation
from qrjax._signals._rows import on_fiber, shared_fiber
from qrjax._signals._rows import sampled as sampled_on
from qrjax._signals._segments import Segments, by_length
from qrjax._signals._signal import Mask, Signal, Source
from qrjax._signals._tables import Shape
from qrjax._signals._two import of_two


def combine(function: Function, operands: Sequence[Signal], shape: Shape, dtype: Any) -> Signal:
    """The signal function(*operands), elementwise; operands of lower rank are scalars."""
    operands = [fitted(unveiled(operand), shape) for operand in operands]
    by_place = jointly(function, operands, shape, dtype)
    if by_place is not None:
        return by_place
    if getattr(function, "gate", False) or getattr(function, "product", False):
        chosen = masked_choice(operands) if len(operands) == 3 else masked_product(operands)
        if chosen is not None:
            return presented(dataclasses.replace(chosen, dtype=np.dtype(dtype)))
    if all(o.mask is None for o in operands):
        result = _present(function, operands, shape, dtype)
    else:
        result = _masked(function, operands, shape, dtype)
    shift = shifted(function, operands, result)
    if shift is not None and result.mask is None and result.source is not shift[0].source:
        assert result.source is not None
        result.source.summands = (*shift, result.values)
    result = presented(dataclasses.replace(result, shift=shift))
    return begun(function, operands, result)


def _masked(function: Function, operands: list[Signal], shape: Shape, dtype: Any) -> Signal:
    """The law of what is present in all operands, and what becomes of the number of what is not."""
    mask = joint([valid(o) for o in operands])
    if mask is None:
        return _present(function, operands, shape, dtype)
    result = _present(function, [_told(o, mask, True) for o in operands], shape, dtype)
    told = [_told(o, mask, False) for o in operands]
    numbers = [o.values if o.mask is None else np.full(1, o.mask.value) for o in told]
    with np.errstate(all="ignore"):
        value = finite(np.asarray(function(*numbers), np.float64)).ravel()
    typical = float(value[value.size // 2])
    masked = dataclasses.replace(result, mask=dataclasses.replace(mask, value=typical))
    fixed = bool(np.ptp(value) <= 1e-9 * abs(typical)) and all(g.array is not None for g in mask.gates)
    if not fixed:
        return settled(masked)
    fiber, sample = masked.fiber, masked.sample
    if sample is not None and sample.shape[1] > 1 and fiber.shape == shape:
        masked = dataclasses.replace(masked, sample=np.where(fiber.present(mask), sample, typical))
    return masked


def _told(operand: Signal, mask: Mask, present: bool) -> Signal:
    """What is known of a function of the mask's own gate where elements are present, or where they are absent."""
    if operand.mask is not None or len(mask.gates) > 1 or operand.source is not mask.gates[0].source:
        return operand
    gate = mask.gates[0].values
    return Signal.constant(
        operand.values[int(gate.argmax() if present else gate.argmin())], operand.shape, operand.dtype
    )


def shifted(function: Function, operands: list[Signal], result: Signal) -> tuple[Signal, Any] | None:
    """Of a sum with a known array or with a number, the other summand and the array."""
    linear = getattr(function, "linear", None)
    if linear is None or len(operands) != 2 or result.is_constant or result.sample is not None:
        return None
    for x, y, (own, sign) in ((*operands, linear), (*operands[::-1], linear[::-1])):
        if own != 1.0 or x.source is None or x.array is not None or x.sample is not None:
            continue
        base, array = x.shift or (dataclasses.replace(x, mask=None), np.zeros((1,) * x.ndim))
        if y.array is not None and not y.drawn and y.array.ndim == x.ndim and y.size <= KEPT:
            return base, array + sign * finite(np.nan_to_num(np.asarray(compacted(y.array), np.float64)))
        if x.shift is not None and y.is_constant and y.mask is None:
            return base, array + sign * y.mean
    return None


def _present(function: Function, operands: list[Signal], shape: Shape, dtype: Any) -> Signal:
    sources = list(dict.fromkeys(o.source for o in operands if o.source is not None))
    if not sources:
        with np.errstate(all="ignore"):
            value = float(finite(function(*(o.values[:1] for o in operands)))[0])
        return _rounded(function, operands, Signal.constant(value, shape, dtype))
    with np.errstate(all="ignore"):
        result = _rounded(function, operands, _combined(function, operands, sources, shape, dtype))
    if isinstance(result.fiber, Segments):
        return by_length(result)
    if not any(o.profiles for o in operands):
        return result
    linear = getattr(function, "linear", None) is not None
    return dataclasses.replace(result, profiles=combined(function, operands, result, linear))


def _rounded(function: Function, operands: list[Signal], result: Signal) -> Signal:
    """A sum whose terms cancel is a number, where what is left of them is the rounding of floats."""
    if getattr(function, "linear", None) is None:
        return result
    rounding = 4 * float(np.finfo(np.float64 if result.dtype == np.float64 else np.float32).eps)
    least = rounding**2 * max(o.second_moment for o in operands)
    # By the nodes alone: a rule that is refined until it agrees with itself never does on rounding.
    mean = expectation(result.values) if result.source is not None else result.mean
    if result.source is not None and expectation((result.values - mean) ** 2) > least:
        return result
    return Signal.constant(mean if mean**2 > least else 0.0, result.shape, result.dtype)


def _combined(function: Function, operands: list[Signal], sources: list[Source], shape: Shape, dtype: Any) -> Signal:
    if len(sources) == 1:
        return _of_one(function, operands, sources[0], shape, dtype)
    fiber = shared_fiber(operands)
    if fiber is not None:
        return on_fiber(function, operands, fiber, shape, dtype)
    if getattr(function, "gate", False) and is_independent_gate(operands):
        return gated(operands, shape, dtype)
    if is_entangled(sources):
        return of_places(function, operands, sources, shape, dtype)
    if len(sources) == 2:
        return of_two(function, operands, sources[0], sources[1], shape, dtype)
    return of_many(function, operands, sources, shape, dtype)


def fitted(operand: Signal, shape: Shape) -> Signal:
    """The operand with the rank of the result; along axes of length 1 it is constant."""
    if operand.shape == shape:
        return operand
    table = operand.rho if operand.ndim == len(shape) else _tables.constant(len(shape))
    profiles = operand.profiles if operand.ndim == len(shape) else {}
    mask = valid(operand)
    if mask is not None:
        mask = dataclasses.replace(mask, gates=tuple(_fitted_gate(g, shape) for g in mask.gates))
    return operand.fresh(
        shape=shape,
        rho=table,
        fiber=operand.fiber,
        sample=operand.sample,
        profiles=profiles,
        at=operand.at,
        mask=mask,
        family=widened(operand, shape),
        recipe=operand.recipe,
        # Of length 1 where it is the same all along an axis.
        array=operand.array if operand.ndim == len(shape) and not operand.drawn else None,
    )


def _fitted_gate(gate: Signal, shape: Shape) -> Signal:
    """A gate with the rank of the result; its array may have length 1 where nothing differs."""
    if gate.ndim == len(shape):
        return dataclasses.replace(gate, shape=shape)
    array = None if gate.array is None else gate.array.reshape((1,) * len(shape))
    return dataclasses.replace(gate, shape=shape, rho=_tables.constant(len(shape)), array=array)


def _at_nodes(operand: Signal) -> Floats:
    return operand.values


def _of_one(function: Function, operands: list[Signal], source: Source, shape: Shape, dtype: Any) -> Signal:
    values = finite(np.broadcast_to(function(*map(_at_nodes, operands)), NODES.shape))
    rho = functools.reduce(np.minimum, (o.rho for o in operands if o.source is source))
    if values[0] == values[-1] and np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    sampled = next((o for o in operands if o.sample is not None), None)
    changes: dict[str, Any] = {}
    if sampled is not None and all(o.is_constant or o.sample is not None for o in operands):
        parts = [sampled_on(o, sampled.fiber) for o in operands]
        changes = {"fiber": sampled.fiber, "sample": finite(function(*parts))}
    at = _composed(function, operands)
    input_axes = {o.input_axes for o in operands if o.source is source and o.shape == shape}
    changes["input_axes"] = input_axes.pop() if len(input_axes) == 1 else frozenset()
    return Signal(shape, np.dtype(dtype), values, source, rho, at=at, **changes)


# Functions of functions of ... are followed so far; beyond, the values at the nodes must do.
DEPTH = 48


class Composed:
    """A function of functions of z; each is evaluated once for each z, however often the formula uses it."""

    def __init__(self, function: Function, operands: list[Signal], depth: int):
        self.function, self.operands, self.depth = function, operands, depth
        self.point: Floats | None = None
        self.value: Floats | None = None

    def __call__(self, z: Floats) -> Floats:
        if self.point is not z or self.value is None:
            parts = [o.values[:1] if o.at is None else o.at(z) for o in self.operands]
            self.point, self.value = z, finite(np.broadcast_to(self.function(*parts), z.shape))
        return self.value


def _composed(function: Function, operands: list[Signal]) -> Composed | None:
    if not all(o.at is not None or o.is_constant for o in operands):
        return None
    depth = 1 + max(getattr(o.at, "depth", 0) for o in operands)
    return Composed(function, operands, depth) if depth <= DEPTH else None
