"""Moves of masked signals: of what is present, and of which elements are."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Equation, Rule
from qrjax._rules._operands import Known, Value, described
from qrjax._signals import _tables
from qrjax._signals._masks import (
    HIGH,
    KEPT,
    LEVEL,
    compacted,
    gate,
    joint,
    presence,
    presented,
    unveiled,
    valid,
)
from qrjax._signals._signal import Mask, Signal

# What moves elements, and takes along which of them are absent.
MOVES = frozenset({
    "transpose", "reshape", "squeeze", "broadcast_in_dim", "stack", "tile", "rev", "slice", "split", "dynamic_slice",
    "dynamic_update_slice", "concatenate", "pad", "gather",
})  # fmt: skip


def moving(rule: Rule) -> Rule:
    """The rule on what is present, and on which elements are."""

    @functools.wraps(rule)
    def call(equation: Equation, *values: Value) -> Any:
        values = tuple(_movable(v) for v in values)
        if _pads_a_mask(equation, values):
            return _padded(equation, described(values[0]), described(values[1]).mean)
        if not any(isinstance(v, Signal) and v.mask is not None for v in values):
            return rule(equation, *values)
        values = tuple(_numbers(v) for v in values)
        bare = [dataclasses.replace(v, mask=None) if isinstance(v, Signal) else v for v in values]
        made = _listed(rule(equation, *bare))
        masks = _moved_masks(rule, equation, values)
        results = [
            presented(dataclasses.replace(r, mask=m)) if isinstance(r, Signal) and m is not None else r
            for r, m in zip(made, masks, strict=True)
        ]
        return results if len(results) > 1 else results[0]

    return call


def _pads_a_mask(equation: Equation, values: Sequence[Value]) -> bool:
    """Whether an array is padded with elements that are absent."""
    if equation.name != "pad" or not isinstance(values[0], Signal) or math.prod(equation.shape) > KEPT:
        return False
    return not LEVEL < described(values[1]).mean < HIGH


def _padded(equation: Equation, x: Signal, number: float) -> Signal:
    """The same elements among absent ones."""

    def placed(present: NDArray[Any]) -> Signal:
        found = equation.evaluate(np.broadcast_to(present, x.shape), np.zeros((), bool))[0]
        return gate(compacted(np.asarray(found)), equation.shape)

    gates = [placed(np.ones(x.shape, bool))]
    for own in () if x.mask is None else x.mask.gates:
        wider = dataclasses.replace(own, shape=equation.shape, rho=_tables.settled(own.rho, equation.shape))
        gates.append(wider if own.array is None else placed(np.asarray(own.array, bool)))
    made = x.fresh(shape=equation.shape, rho=_tables.settled(x.rho, equation.shape))
    return dataclasses.replace(made, mask=joint([Mask(number, tuple(gates), whole=True)]))


def _movable(value: Value) -> Value:
    """The value without what belongs to the places that its elements have."""
    if not isinstance(value, Signal) or (value.shift is None and value.bare is None):
        return value
    return dataclasses.replace(unveiled(value), shift=None)


def _listed(result: Any) -> list[Value]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _numbers(value: Value) -> Value:
    """A known array of numbers as a signal, where some of them are absent."""
    if isinstance(value, Known) and value.array.dtype.kind not in "biu" and value.array.ndim:
        return value.signal if value.signal.mask is not None else value
    return value


def _moved_masks(rule: Rule, equation: Equation, values: Sequence[Value]) -> list[Mask | None]:
    """The masks of the outputs."""
    masks = [valid(v) if isinstance(v, Signal) else None for v in values]
    given = [(place, mask) for place, mask in enumerate(masks) if mask is not None]
    if not given:
        return [None] * len(equation.outputs)
    # Each gate by itself where one operand has them; several operands have one gate each.
    layers = [{given[0][0]: g} for g in given[0][1].gates] if len(given) == 1 else [{p: presence(m) for p, m in given}]
    columns = [_moved_gates(rule, equation, values, layer) for layer in layers]
    value, whole = max((mask.value for _, mask in given), key=abs), any(mask.whole for _, mask in given)
    kept = [tuple(g for g in column if not (g.is_constant and g.mean == 1)) for column in zip(*columns, strict=True)]
    return [Mask(value, gates, whole) if gates else None for gates in kept]


def _moved_gates(rule: Rule, equation: Equation, values: Sequence[Value], gates: Mapping[int, Signal]) -> list[Signal]:
    """A gate of each output; what has none is present."""
    first = next(iter(gates.values()))
    if equation.name == "broadcast_in_dim" and first.array is not None:
        shape = [1] * len(equation.shape)
        for axis, place in enumerate(equation.params["broadcast_dimensions"]):
            shape[place] = first.array.shape[axis]
        return [gate(np.asarray(first.array, bool).reshape(shape), equation.shape)]
    small = max(math.prod(o.shape) for o in (*values, *equation.outputs)) <= KEPT
    if small and all(g.array is not None for g in gates.values()):
        arrays = [_truths(v, gates.get(place)) for place, v in enumerate(values)]
        moved = _listed(rule(equation, *arrays))
        if all(isinstance(m, Known) for m in moved):
            return [gate(compacted(np.asarray(m.array, bool)), m.shape) for m in moved if isinstance(m, Known)]
    laws = [gates.get(place) or _present(v) for place, v in enumerate(values)]
    moved = _listed(rule(equation, *(dataclasses.replace(v, array=None) if isinstance(v, Signal) else v for v in laws)))
    return [described(m) for m in moved]


def _truths(value: Value, own: Signal | None) -> Value:
    """Which elements of an operand are present, as an array; indices stay what they are."""
    if own is not None:
        return Known(np.broadcast_to(np.asarray(own.array, bool), own.shape))
    return value if _is_index(value) else Known(np.broadcast_to(np.asarray(True), value.shape))


def _present(value: Value) -> Value:
    """All elements of an operand are present."""
    return value if _is_index(value) else Signal.constant(1.0, value.shape, np.bool_)


def _is_index(value: Value) -> bool:
    dtype = value.array.dtype if isinstance(value, Known) else getattr(value, "dtype", np.dtype(bool))
    return dtype.kind in "iu"
