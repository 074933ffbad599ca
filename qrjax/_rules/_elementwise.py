"""Elementwise primitives: themselves, at the quadrature nodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._functions import BITS, BY_JAX, SIMPLE, numpy_form
from qrjax._rules._registry import signals
from qrjax._rules._stacks import by_parts, carried
from qrjax._rules._vectors import interlaced
from qrjax._signals._coincidences import coincidence
from qrjax._signals._combine import combine
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._segments import Segments
from qrjax._signals._signal import COMMON, Signal

NAMES = frozenset(SIMPLE) | frozenset(BITS) | BY_JAX | {
    "integer_pow", "convert_element_type", "round", "bitcast_convert_type",
}  # fmt: skip
# What leaves a weight a weight.
TRANSPARENT = {"convert_element_type", "stop_gradient", "copy", "copy_p", "reduce_precision", "optimization_barrier",
               "sharding_constraint", "device_put", "pvary"}  # fmt: skip


@signals(*NAMES, masked=True)
def elementwise(equation: Equation, *operands: Signal) -> Signal | list[Signal]:
    """The function at the nodes of its operands' sources."""
    if equation.name in TRANSPARENT and _same_kind(equation.dtype, operands[0].dtype):
        # A barrier or a transfer takes several arrays through as they are.
        kept = [
            carried(x, dataclasses.replace(x, dtype=np.dtype(o.dtype)))
            for x, o in zip(operands, equation.outputs, strict=True)
        ]
        return kept if len(kept) > 1 else kept[0]
    if equation.name in ("add", "add_any") and operands[0].profiles and operands[1].profiles:
        found = interlaced(operands[0], operands[1], equation.shape, equation.dtype)
        if found is not None:
            return found
    if equation.name in ("add", "add_any") and _share_a_common_part(*operands):
        equation.context.note("approximate: sums over parts of one array are added, alike by what its elements share")
    if equation.name == "eq":
        same = coincidence(operands[0], operands[1], equation.shape, equation.dtype)
        if same is not None:
            return same
    dtypes = [operand.dtype for operand in operands]
    function = numpy_form(equation.name, equation.params, dtypes, equation.dtype) or _by_jax(equation, dtypes)
    result = combine(function, operands, equation.shape, equation.dtype)
    if equation.name in ("mul", "div") and any(x.profiles for x in operands) and not isinstance(result.fiber, Segments):
        result = _by_place(equation.name, operands, result)
    result = _weighted(equation, operands, result)
    by_parts(elementwise, equation, operands, result)
    return result


def _share_a_common_part(x: Signal, y: Signal) -> bool:
    """Whether both are sums of elements of one array, of other parts of it."""
    if x.source is None or y.source is None or x.source is y.source:
        return False
    return any(older.whole().which == COMMON and older in y.source.kin for older in x.source.kin)


@signals("select_if_vmap")
def select_if_vmap(equation: Equation, which: Signal, on: Signal, off: Signal) -> Signal:
    """Equinox's choice between two states, in all its loops: `select_n` with the cases the other way round."""
    chosen = elementwise(dataclasses.replace(equation, name="select_n", params={}), which, off, on)
    assert isinstance(chosen, Signal)
    return chosen


def _by_place(name: str, operands: tuple[Signal, ...], result: Signal) -> Signal:
    """A signal whose strength depends on the place, times known numbers that do too, such as the counts of a pool."""
    x, y = operands
    if y.array is None or not x.profiles or result.is_constant or y.array.ndim != x.ndim:
        return result
    factors = np.asarray(y.array, np.float64) ** (2 if name == "mul" else -2)
    profiles, ratio = {}, 1.0
    for axis, profile in x.profiles.items():
        others = tuple(a for a in range(x.ndim) if a != axis)
        along = factors.mean(others) / factors.mean()
        if along.size == profile.size:
            ratio *= float((profile * along).mean())
            profiles[axis] = normalized(profile * along)
    if not (ratio > 0 and np.isfinite(ratio)):
        return result
    scaled = result.mean + (result.values - result.mean) * _stretch(result, ratio)
    return dataclasses.replace(result, values=scaled, at=None, profiles=kept(profiles))


def _stretch(x: Signal, ratio: float) -> float:
    """The factor of the deviations with which the second moment grows by the ratio."""
    wanted = x.second_moment * ratio - x.mean**2
    return float(np.sqrt(max(wanted, 0.0) / x.variance)) if x.variance > 0 else 1.0


def _same_kind(a: Any, b: Any) -> bool:
    floating = [bool(jax.numpy.issubdtype(dtype, np.floating)) for dtype in (a, b)]
    return all(floating) or np.dtype(a) == np.dtype(b)


def _by_jax(equation: Equation, dtypes: list[Any]) -> Any:
    def call(*arrays: Any) -> Any:
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        typed = [np.broadcast_to(np.asarray(a), shape).astype(t) for a, t in zip(arrays, dtypes, strict=True)]
        return np.asarray(equation.evaluate(*typed)[0], np.float64)

    return call


def _weighted(equation: Equation, operands: tuple[Signal, ...], result: Signal) -> Signal:
    """A weight times a constant is that weight with a factor."""
    held = [x for x in operands if x.weight is not None]
    if len(held) != 1 or held[0].shape != equation.shape or not all(x.is_constant or x is held[0] for x in operands):
        return result
    factor = None
    if equation.name == "neg":
        factor = -1.0
    elif equation.name == "mul" and len(operands) == 2:
        factor = next(x.mean for x in operands if x is not held[0])
    elif equation.name == "div" and operands[0] is held[0]:
        factor = 1 / operands[1].mean if operands[1].mean else None
    if not factor:
        return result
    weight = held[0].weight
    assert weight is not None
    return dataclasses.replace(result, weight=dataclasses.replace(weight, factor=weight.factor * factor))
