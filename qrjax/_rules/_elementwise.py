"""Elementwise primitives: themselves, at the quadrature nodes."""

from __future__ import annotations

import dataclasses
import math
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
from qrjax._signals._families import PLACES, beyond, family_of
from qrjax._signals._overlaps import of_product
from qrjax._signals._places import is_entangled
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._segments import Segments
from qrjax._signals._signal import COMMON, Signal
from qrjax._signals._strengths import own_strengths

NAMES = frozenset(SIMPLE) | frozenset(BITS) | BY_JAX | {
    "integer_pow", "convert_element_type", "round", "bitcast_convert_type",
}  # fmt: skip
# What a note says of functions that are told apart at too many places.
FOLLOWED = f"known places, of which no more than {PLACES} are followed"
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
    if count := beyond(operands, equation.shape):
        equation.context.note(f"approximate: functions of one number at {count:,} {FOLLOWED}")
    if equation.name == "eq":
        same = coincidence(operands[0], operands[1], equation.shape, equation.dtype)
        if same is not None:
            return same
    dtypes = [operand.dtype for operand in operands]
    function = numpy_form(equation.name, equation.params, dtypes, equation.dtype) or _by_jax(equation, dtypes)
    result = combine(function, operands, equation.shape, equation.dtype)
    if equation.name in ("mul", "div") and not isinstance(result.fiber, Segments) and not result.is_constant:
        result = _where_both_are_strong(equation.name, operands, result)
        result = _where_rows_are_nothing(equation.name, operands, result)
        result = of_product(operands[0], operands[1], result) if equation.name == "mul" else result
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


def _where_both_are_strong(name: str, operands: tuple[Signal, ...], result: Signal) -> Signal:
    """A product of two arrays, or a quotient by a known one, which are strong at the same places or at others.

    A sum over a window at a border is of few elements and is divided by a small count; a state is strong where what
    it is multiplied by at every step decays slowly.
    """
    x, y = operands
    first, second = own_strengths(x), own_strengths(y, 1 if name == "mul" else -1, beside=bool(x.profiles))
    if not (first or second) or any(o.ndim != result.ndim for o in operands) or (name == "div" and y.array is None):
        return result
    sources = list(dict.fromkeys(o.source for o in operands if o.source is not None))
    if family_of(result) is not None or len(sources) < 2 or is_entangled(sources):
        return result
    if result.fiber is not None and x.array is None and y.array is None:
        return result  # computed on rows, as the elements of a norm and the size of these, which are not independent
    both = [axis for axis in first.keys() & second.keys() if first[axis].size == second[axis].size]
    ratio = math.prod(float((first[a] * second[a]).mean()) for a in both)
    if not (ratio > 0 and np.isfinite(ratio)):
        return result
    profiles = {a: p for a, p in (first | second).items() if a not in both}
    profiles |= kept({a: normalized(first[a] * second[a]) for a in both})
    values = result.mean + (result.values - result.mean) * _stretch(result, ratio)
    return dataclasses.replace(result, values=values, at=None, profiles=profiles)


def _where_rows_are_nothing(name: str, operands: tuple[Signal, ...], result: Signal) -> Signal:
    """Rows over their own sizes, as a layer norm makes them, where those at some places are nothing: they stay so.

    Computed is a typical row, and its size is the smaller, or one over it the larger, where there is nothing.
    """
    if result.fiber is None:
        return result
    for x, size in (operands, operands[::-1]) if name == "mul" else (operands,):
        for axis in x.profiles.keys() & size.profiles.keys():
            there, other = x.profiles[axis] > 0, size.profiles[axis] if name == "mul" else -size.profiles[axis]
            if there.size == other.size and not there.all() and other[~there].min() > other[there].max():
                profiles = result.profiles | kept({axis: normalized(there.astype(np.float64))})
                values = result.values * math.sqrt(there.mean())
                return dataclasses.replace(result, values=values, profiles=profiles, at=None, fiber=None, sample=None)
    return result


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
