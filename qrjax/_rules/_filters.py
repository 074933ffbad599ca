"""Linear filters with known coefficients, step by step: recurrences and associative scans."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Value, described
from qrjax._rules._outputs import noted
from qrjax._signals._complexes import array_of, is_zero
from qrjax._signals._responses import Array, Response, identity, lengthened, picked, settled, step_of
from qrjax._signals._signal import Signal

# Sums of parts that lie within so many others are a filter; fewer are a difference, say, or a rotation's two halves.
NESTED = 2
SUMS = {"add": 1.0, "add_any": 1.0, "sub": -1.0}
Rule = Callable[[Equation, Sequence[Value], Response], Response | None]
RULES: dict[str, Rule] = {}


def responding(equation: Equation, values: Sequence[Value], results: list[Value]) -> list[Value]:
    """The results with their responses to parts of one array, and with what follows from these."""
    own = [v.response for v in values if isinstance(v, Signal) and v.response is not None]
    if (not own and equation.name != "slice") or len(results) != 1 or not isinstance(results[0], Signal):
        return [_without(r, values) for r in results]
    rule = RULES.get(equation.name)
    found = None if rule is None or not own else rule(equation, values, own[0])
    if found is None and equation.name == "slice":
        found = _begun(equation, values)
    result = results[0]
    if found is None or (result.is_constant and result.size):
        return [_without(result, values)]
    if result.size and found.sums >= NESTED and (equation.name in SUMS or equation.name in ("concatenate", "pad")):
        result = settled(result, found)
        if equation.context.twin is None:
            noted(equation, found.base, found.axis)
    return [dataclasses.replace(result, response=found)]


def _without(result: Value, values: Sequence[Value]) -> Value:
    if not isinstance(result, Signal) or result.response is None or any(result is v for v in values):
        return result
    return dataclasses.replace(result, response=None)


def _begun(equation: Equation, values: Sequence[Value]) -> Response | None:
    """Of an array of which a part is cut out along one axis."""
    x = values[0]
    if not isinstance(x, Signal) or x.is_constant or x.recipe is not None or x.mask is not None:
        return None
    cut = [a for a, (n, m) in enumerate(zip(x.shape, equation.shape, strict=True)) if n != m]
    if len(cut) != 1 or x.shape[cut[0]] < 2**NESTED or 0 in x.shape:
        return None
    return _slice(equation, values, identity(x, cut[0]))


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


# -- moves --------------------------------------------------------------------------------------------------------


@_rule("slice")
def _slice(equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    p, axis = equation.params, x.own
    cut = [a for a, (n, m) in enumerate(zip(values[0].shape, equation.shape, strict=True)) if n != m]
    if axis is None or cut != [axis]:
        return x if not cut else None
    stride = 1 if p["strides"] is None else p["strides"][axis]
    where = (slice(None),) * (axis + 1) + (slice(p["start_indices"][axis], p["limit_indices"][axis], stride),)
    return x.then(lambda rows: rows[where])


@_rule("rev")
def _rev(equation: Equation, _values: Sequence[Value], x: Response) -> Response:
    axes = tuple(a + 1 for a in equation.params["dimensions"])
    return x.then(lambda rows: np.flip(rows, axes))


@_rule("pad")
def _pad(equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    wide = [a for a, c in enumerate(equation.params["padding_config"]) if tuple(c) != (0, 0, 0)]
    if wide != [x.own] or not _is_nothing(values[1]):
        return None
    low, high, inner = equation.params["padding_config"][wide[0]]

    def padded(rows: Array) -> Array:
        lines = np.moveaxis(rows, wide[0] + 1, -1)
        spread = np.zeros((*lines.shape[:-1], (lines.shape[-1] - 1) * (inner + 1) + 1), rows.dtype)
        spread[..., :: inner + 1] = lines
        room = np.zeros((*lines.shape[:-1], max(0, low) + spread.shape[-1] + max(0, high)), rows.dtype)
        room[..., max(0, low) : max(0, low) + spread.shape[-1]] = spread
        return np.moveaxis(room[..., max(0, -low) : room.shape[-1] - max(0, -high)], -1, wide[0] + 1)

    return x.then(padded)


@_rule("concatenate")
def _concatenate(equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    found = [v.response if isinstance(v, Signal) else None for v in values if math.prod(v.shape)]
    parts = [r for r in found if r is not None and r.meets(x)]
    if not parts or len(parts) < len(found) or equation.params["dimension"] != x.own or x.own is None:
        return None
    axis = x.own + 1

    def joined(_: Array) -> Array | None:
        arrays = [p.array for p in parts]
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            return None
        lengths = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in known))
        full = [np.broadcast_to(a, (*lengths[:axis], a.shape[axis], *lengths[axis + 1 :])) for a in known]
        return np.concatenate(full, axis)

    return x.then(joined, sums=max(p.sums for p in parts))


@_rule("squeeze", "reshape", "broadcast_in_dim", "expand_dims", "transpose")
def _rearranged(equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    old, new = values[0].shape, equation.shape
    if equation.name == "transpose":
        order = equation.params["permutation"]
        return x.then(lambda rows: rows.transpose(0, *(a + 1 for a in order)), places=tuple(x.places[a] for a in order))
    return x if old == new else None


# -- arithmetic ---------------------------------------------------------------------------------------------------


@_rule(*SUMS)
def _sum(equation: Equation, values: Sequence[Value], _x: Response) -> Response | None:
    one, other = (v.response if isinstance(v, Signal) else None for v in values)
    sign = SUMS[equation.name]
    if one is None or other is None:
        held, rest = (one, values[1]) if one is not None else (other, values[0])
        assert held is not None
        if not _is_nothing(rest) or len(held.places) != len(equation.shape):
            return None
        return held if one is not None or sign > 0 else held.then(np.negative)
    if not one.meets(other):
        return None

    def total(rows: Array) -> Array | None:
        return None if other.array is None else rows + sign * other.array

    return one.then(total, sums=max(one.sums, other.sums) + 1)


@_rule("mul", "div")
def _product(equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    held, factors = values if isinstance(values[0], Signal) and values[0].response is x else reversed(values)
    array = factors.array if isinstance(factors, Known) else array_of(described(factors))
    if array is None or (equation.name == "div" and held is not values[0]) or held.shape != equation.shape:
        return None
    some = _thinned(np.asarray(array), x.own, equation.shape)
    if equation.name == "div":
        with np.errstate(all="ignore"):
            some = np.nan_to_num(1 / some)
    return x.then(lambda rows: rows * some)


def _thinned(array: Array, own: int | None, shape: tuple[int, ...]) -> Array:
    """Known factors, by the elements that stand for all along other axes than the filter's."""
    array = np.broadcast_to(array, shape)
    for axis, n in enumerate(shape):
        if axis != own:
            array = array.take([0], axis) if array.strides[axis] == 0 or n == 1 else array.take(picked(n), axis)
    for axis in range(array.ndim):
        if axis != own and array.shape[axis] > 1 and not np.any(array != array.take([0], axis)):
            array = array.take([0], axis)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


@_rule("neg", "conj", "real", "imag", "convert_element_type", "copy", "copy_p", "reduce_precision",
       "optimization_barrier", "stop_gradient", "name")  # fmt: skip
def _linear(equation: Equation, _values: Sequence[Value], x: Response) -> Response | None:
    changes: dict[str, Any] = {"neg": np.negative, "conj": np.conj, "real": np.real, "imag": np.imag}
    if equation.name == "convert_element_type" and equation.dtype.kind not in "fcV":
        return None
    return x.then(changes[equation.name]) if equation.name in changes else x


@_rule("complex")
def _complex(_equation: Equation, values: Sequence[Value], x: Response) -> Response | None:
    first = isinstance(values[0], Signal) and values[0].response is x
    if not _is_nothing(values[1] if first else values[0]):
        return None
    return x if first else x.then(lambda rows: 1j * rows)


def _is_nothing(value: Value) -> bool:
    """Whether it is 0 everywhere."""
    if isinstance(value, Known):
        return not np.any(value.array)
    return isinstance(value, Signal) and is_zero(value)


# -- steps of a scan ----------------------------------------------------------------------------------------------


def step(value: Value, sliced: Value, number: int) -> Value:
    """What a scan's step of this number is given of an array."""
    if not isinstance(value, Signal) or not isinstance(sliced, Signal) or value.recipe is not None:
        return sliced
    if value.shape[0] < 2**NESTED or value.mask is not None or 0 in value.shape:
        return sliced
    return dataclasses.replace(sliced, response=step_of(value, number))


def filtered(made: Signal, parts: Sequence[Value], length: int) -> Signal:
    """What a scan gives back, where its steps are a filter of one array."""
    found = [p.response if isinstance(p, Signal) else None for p in parts]
    known = [r for r in found if r is not None]
    last = known[-1] if known else None
    if last is None or len(known) < len(parts) or last.sums < NESTED or not all(r.meets(last) for r in known):
        return made
    return lengthened(made, known, length)
