"""Operations over named axes, whose shards are taken as independent, but for what is known or a weight."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._parts import moved, part
from qrjax._rules._registry import RULES, structural
from qrjax._rules._stacks import by_parts, rearranged
from qrjax._signals import _tables
from qrjax._signals._mixtures import chosen
from qrjax._signals._quadrature import CDF, NODES, expectation
from qrjax._signals._reduce import extreme, summed, summed_rows
from qrjax._signals._signal import Signal, Source, related


def shards(equation: Equation) -> int:
    """How many shards take part."""
    groups = equation.params.get("axis_index_groups")
    if groups is not None:
        return len(groups[0])
    names = equation.params.get("axes", equation.params.get("axis_name"))
    names = names if isinstance(names, (tuple, list)) else (names,)
    return math.prod(_size(equation, name) for name in names if not isinstance(name, int))


# What `vmap` with a name makes of these: reductions along an axis of the arrays themselves.
ALONG = {"psum": "reduce_sum", "psum_invariant": "reduce_sum", "unreduced_psum": "reduce_sum", "pmax": "reduce_max",
         "pmin": "reduce_min"}  # fmt: skip


def _after(axes: tuple[int, ...]) -> Callable[[int], int | None]:
    """Where an axis is when these are gone."""
    return lambda axis: None if axis in axes else axis - sum(a < axis for a in axes)


def _along_axes(equation: Equation, values: tuple[Value, ...]) -> list[Value]:
    """The operands of a reduction over names, after that over axes by their numbers."""
    axes = tuple(a for a in equation.params.get("axes", ()) if isinstance(a, int))
    if not axes or any(isinstance(v, Opaque) for v in values):
        return list(values)
    name = ALONG[equation.name]
    arrays: dict[str, Any] = {"reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min}
    results: list[Value] = []
    for value, output in zip(values, equation.outputs, strict=True):
        inner = dataclasses.replace(equation, name=name, params={"axes": axes}, outputs=[output])
        if isinstance(value, Known):
            found: Value = dataclasses.replace(value, array=arrays[name](value.array, axes).astype(value.array.dtype))
        else:
            found = RULES[name](inner, value)  # type: ignore[assignment]
            rearranged(value, found, _after(axes), functools.partial(RULES[name], inner))  # type: ignore[arg-type]
        results.append(found)
    return results


def _size(equation: Equation, name: Any) -> int:
    """The size of an axis of the model's own, or of one that the caller is within."""
    own = equation.context.axes.get(name)
    if own is not None:
        return own
    try:
        return int(jax.lax.axis_size(name))
    except NameError:  # of a part of the program that maps by itself
        equation.context.note(f"the named axis {name!r} was taken to have size 1")
        return 1


def _replicated(value: Value) -> bool:
    """Whether every shard has the same: constants, what is computed from them alone, and weights."""
    return not isinstance(value, Signal) or value.is_constant or value.weight is not None


def _all(x: Signal, n: int) -> Signal:
    """The values of all shards, along a new first axis."""
    rho = np.stack([x.rho, np.zeros_like(x.rho)])
    return x.fresh(shape=(n, *x.shape), rho=_tables.settled(rho, (n, *x.shape)), source=Source())


def _kin(result: Signal, x: Signal, n: int) -> Signal:
    """A result over n shards, tied to the own element that went in."""
    if result.is_constant or x.source is None:
        return result
    tie = expectation(x.values * NODES) / math.sqrt(x.variance * n) if x.variance > 0 else 0.0
    return dataclasses.replace(result, source=related([(x.source, tie)]), fiber=None, sample=None)


@structural("psum", "psum_invariant", "unreduced_psum")
def psum(equation: Equation, *values: Value) -> list[Value]:
    """The sum over the shards."""
    n, values = shards(equation), tuple(_along_axes(equation, values))
    results = [value if n == 1 else _sum(value, n) for value in values]
    for value, result in zip(values, results, strict=True):
        if n > 1 and isinstance(value, Signal):
            by_parts(lambda _, part: _sum(part, n), equation, [value], result)
    return results


def _sum(value: Value, n: int) -> Value:
    if isinstance(value, Known):
        return Known((value.array * np.asarray(n, value.array.dtype)).astype(value.array.dtype))
    if isinstance(value, Opaque):
        return value
    if _replicated(value):
        weight = None if value.weight is None else dataclasses.replace(value.weight, factor=value.weight.factor * n)
        return value.fresh(values=value.values * n, weight=weight)
    if value.is_normal:
        return _normal_sum(value, n)
    result = _kin(summed(_all(value, n), (0,)), value, n)
    if value.sample is None or result.is_constant:
        return result
    return dataclasses.replace(result, fiber=value.fiber, sample=summed_rows(value.sample, n))


def _normal_sum(x: Signal, n: int) -> Signal:
    """The sum of normal signals: of two that are functions of one source, sums are of one source too."""
    assert x.source is not None
    which = ("sum over shards", n)
    if which not in x.source.parts:
        x.source.parts[which] = related([(x.source, 1 / math.sqrt(n))])
    values = n * x.mean + math.sqrt(n) * (x.values - x.mean)
    sample = None if x.sample is None else summed_rows(x.sample, n)
    return x.fresh(values=values, source=x.source.parts[which], fiber=x.fiber, sample=sample, profiles=x.profiles)


@structural("pmax", "pmin")
def pmax(equation: Equation, *values: Value) -> list[Value]:
    """The largest, or smallest, of the shards' values."""
    n, largest = shards(equation), equation.name == "pmax"
    values = tuple(_along_axes(equation, values))
    return [
        v if n == 1 or _replicated(v) else _kin(extreme(_all(described(v), n), (0,), largest), described(v), n)
        for v in values
    ]


@structural("ppermute")
def ppermute(equation: Equation, *values: Value) -> list[Value]:
    """The values of another shard; zeros where none sends any."""
    n = shards(equation)
    share = len(equation.params["perm"]) / n
    return [v if _stays(equation, n) or isinstance(v, Opaque) else _sent(v, share) for v in values]


def _stays(equation: Equation, n: int) -> bool:
    return n == 1 and len(equation.params["perm"]) == 1


def _sent(value: Value, share: float) -> Value:
    if _replicated(value) and share == 1:
        return value
    x = described(value)
    other = x if _replicated(value) else x.fresh(source=Source())
    if share == 1:
        return other
    return chosen([other, Signal.constant(0.0, x.shape, x.dtype)], [share, 1 - share])


@structural("all_gather", "all_gather_invariant", "all_gather_reduced")
def all_gather(equation: Equation, *values: Value) -> list[Value]:
    """The shards' values along an axis, a new one or tiled."""
    n, axis = shards(equation), equation.params["all_gather_dimension"]
    return [_gathered(v, n, axis, tuple(o.shape)) for v, o in zip(values, equation.outputs, strict=True)]


def _gathered(value: Value, n: int, axis: int, shape: tuple[int, ...]) -> Value:
    if isinstance(value, Opaque):
        return Opaque(shape)
    if isinstance(value, Known):
        return Known(np.repeat(np.expand_dims(value.array, axis), n, axis).reshape(shape))
    if n == 1 and shape == value.shape:
        return value
    every = _all(value, n) if not _replicated(value) else _copies(value, n)
    order = (*range(1, axis + 1), 0, *range(axis + 1, value.ndim + 1))
    placed = tuple(every.shape[a] for a in order)
    result = moved(every, placed, every.rho.transpose(order))
    return moved(result, shape, _tables.reshaped(result.rho, placed, shape))


def _copies(x: Signal, n: int) -> Signal:
    rho = _tables.broadcast(x.rho, range(1, x.ndim + 1), x.ndim + 1)
    return moved(x, (n, *x.shape), rho)


@structural("reduce_scatter", "unreduced_reduce_scatter")
def reduce_scatter(equation: Equation, *values: Value) -> list[Value]:
    """A part of the sum over the shards."""
    n, axis = shards(equation), equation.params["scatter_dimension"]
    return [
        _part(_sum(v, n) if n > 1 else v, axis, tuple(o.shape)) for v, o in zip(values, equation.outputs, strict=True)
    ]


def _part(value: Value, axis: int, shape: tuple[int, ...]) -> Value:
    """The first of the parts along an axis, which may end there."""
    if isinstance(value, Opaque):
        return Opaque(shape)
    length = shape[axis] if len(shape) == len(value.shape) else 1
    if isinstance(value, Known):
        return Known(value.array[(slice(None),) * axis + (slice(0, length),)].reshape(shape))
    cut = (*value.shape[:axis], length, *value.shape[axis + 1 :])
    taken = part(value, cut, ("slice", ((axis, 0, length, 1),)), (axis,) if cut != value.shape else ())
    return taken if cut == shape else moved(taken, shape, _tables.dropped(taken.rho, [axis]))


@structural("all_to_all")
def all_to_all(equation: Equation, *values: Value) -> list[Value]:
    """From each shard the own part along one axis, laid along another."""
    p, n = equation.params, shards(equation)
    split, joined, results = p["split_axis"], p["concat_axis"], []
    for value, output in zip(values, equation.outputs, strict=True):
        shape = tuple(output.shape)
        length = value.shape[split] // n
        cut = tuple(length if a == split else m for a, m in enumerate(value.shape))
        if not p["tiled"]:
            cut = (*cut[:split], *cut[split + 1 :])
        results.append(_gathered(_part(value, split, cut), n, joined, shape))
    return results


@structural("axis_index")
def axis_index(equation: Equation) -> Value:
    """The shard's own number, any of them."""
    n = shards(equation)
    if n == 1:
        return Known(np.zeros((), equation.dtype))
    values = np.minimum(np.floor(CDF * n), n - 1.0)
    return Signal((), np.dtype(equation.dtype), values, Source(), _tables.constant(0))


@structural("pbroadcast")
def pbroadcast(equation: Equation, *values: Value) -> list[Value]:
    """The values of one shard."""
    n = shards(equation)
    return [v if n == 1 or isinstance(v, Opaque) else _sent(v, 1.0) for v in values]


@structural("pvary", "pcast", "preduced", "vary_unreduced_cast_p", "vary_unreduced_cast")
def the_same(_equation: Equation, *values: Value) -> list[Value]:
    """Values of which only what JAX knows of their shards changes."""
    return list(values)
