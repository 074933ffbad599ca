"""Primitives that move elements without changing them. Known arrays stay known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import KNOWN_SIZE, Known, Opaque, Value, described
from qrjax._rules._parts import in_reverse, moved, part, without
from qrjax._rules._registry import structural
from qrjax._rules._stacks import rearranged, remembered
from qrjax._signals import _tables
from qrjax._signals._blocks import reshaped
from qrjax._signals._mixtures import concatenated, surrounded
from qrjax._signals._profiles import kept, normalized, regrouped, renamed
from qrjax._signals._signal import Signal


@structural("transpose")
def transpose(equation: Equation, x: Value) -> Value:
    """Permuted axes."""
    order = tuple(equation.params["permutation"])
    result = _permuted(x, order)
    rearranged(x, result, order.index, lambda part: _permuted(part, order))
    return result


def _permuted(x: Value, order: tuple[int, ...]) -> Value:
    shape = tuple(x.shape[a] for a in order)
    if isinstance(x, Known):
        return Known(x.array.transpose(order))
    if isinstance(x, Opaque):
        return Opaque(shape)
    result = moved(x, shape, x.rho.transpose(order), order)
    turned = tuple(axis for axis, place in enumerate(order) if axis != place)
    if x.source is None or not turned or shape != x.shape:
        return result
    # Where axes of one length change places, other elements stand where x has its own.
    source = x.source.part(("transpose", order), float(x.rho[tuple(int(a in turned) for a in range(x.ndim))]))
    source.parts.setdefault(("transpose", tuple(np.argsort(order).tolist())), x.source)
    return dataclasses.replace(result, source=source, fiber=None, sample=None)


@structural("reshape")
def reshape(equation: Equation, x: Value) -> Value:
    """Merged axes mix their correlations by their shares of pairs, split ones share theirs."""
    order = equation.params.get("dimensions")
    x = x if order is None else _permuted(x, tuple(order))  # as JAX batches convolutions
    if isinstance(x, Known):
        return Known(x.array.reshape(equation.shape))
    if isinstance(x, Opaque) or 0 in equation.shape:
        return Opaque(equation.shape) if isinstance(x, Opaque) else Signal.constant(0.0, equation.shape, x.dtype)
    rho, twins = reshaped(x, equation.shape)
    result = moved(x, equation.shape, rho)
    if equation.context.twin is None and not x.is_constant:
        result = dataclasses.replace(result, twins=twins)
    if x.weight is not None:
        result = dataclasses.replace(result, weight=x.weight.reshaped(x.shape, equation.shape))
    if not x.profiles and not x.input_axes:
        return result
    places = _tables.whole(x.shape, equation.shape)
    kept_axes = frozenset(places[a] for a in x.input_axes) if x.input_axes <= places.keys() else frozenset[int]()
    return dataclasses.replace(result, profiles=regrouped(x.profiles, x.shape, equation.shape), input_axes=kept_axes)


@structural("squeeze")
def squeeze(equation: Equation, x: Value) -> Value:
    """Axes of length 1 removed."""
    axes = [d % len(x.shape) for d in equation.params["dimensions"]]
    if isinstance(x, Known):
        return Known(x.array.squeeze(tuple(axes)))
    if isinstance(x, Opaque):
        return Opaque(equation.shape)
    kept = tuple(a for a in range(len(x.shape)) if a not in axes)
    return without(x, axes, moved(x, equation.shape, _tables.dropped(x.rho, axes), kept))


@structural("broadcast_in_dim")
def broadcast_in_dim(equation: Equation, x: Value, *_: Value) -> Value:
    """New axes, along which nothing differs."""
    dimensions, shape = equation.params["broadcast_dimensions"], equation.shape
    if isinstance(x, Opaque):
        return Opaque(shape)
    if isinstance(x, Known):
        if math.prod(shape) <= KNOWN_SIZE:
            middle = [1] * len(shape)
            for axis, place in enumerate(dimensions):
                middle[place] = x.shape[axis]
            return Known(np.broadcast_to(x.array.reshape(middle), shape))
        x = x.signal
    result = moved(x, shape, _tables.broadcast(x.rho, dimensions, len(shape)))
    places = {axis: place for axis, place in enumerate(dimensions) if shape[place] == x.shape[axis]}
    inputs = frozenset(places[a] for a in x.input_axes if a in places)
    return dataclasses.replace(result, profiles=renamed(x.profiles, places), input_axes=inputs)


@structural("stack")
def stack(equation: Equation, *parts: Value) -> Value:
    """Parts along a new axis."""
    axis, shape = equation.params["axis"], equation.shape
    if any(isinstance(p, Opaque) for p in parts):
        return Opaque(shape)
    if all(isinstance(p, Known) for p in parts):
        return Known(np.stack([p.array for p in parts if isinstance(p, Known)], axis))
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    places = [a for a in range(len(shape)) if a != axis]
    lifted = [moved(x, one, _tables.broadcast(x.rho, places, len(shape))) for x in map(described, parts)]
    return remembered(concatenated(lifted, axis, shape, equation.dtype), axis, lifted)


@structural("tile")
def tile(equation: Equation, x: Value) -> Value:
    """Copies along axes: two places of an axis hold the same element as often as copies meet."""
    reps, shape = tuple(equation.params["reps"]), equation.shape
    if isinstance(x, Opaque):
        return Opaque(shape)
    if isinstance(x, Known) and math.prod(shape) <= KNOWN_SIZE:
        return Known(np.tile(x.array, reps))
    x = described(x)
    middle = tuple(n for pair in zip(reps, x.shape, strict=True) for n in pair)
    places = [2 * a + 1 for a in range(x.ndim)]
    table = _tables.settled(_tables.broadcast(x.rho, places, 2 * x.ndim), middle)
    return moved(x, shape, _tables.reshaped(table, middle, shape))


@structural("rev")
def rev(equation: Equation, x: Value) -> Value:
    """Reversed axes: other elements in the same places."""
    axes = tuple(equation.params["dimensions"])
    if isinstance(x, Known):
        return Known(np.flip(x.array, axes))
    if isinstance(x, Opaque):
        return x
    return in_reverse(part(x, equation.shape, ("rev", axes), axes, {a: range(x.shape[a])[::-1] for a in axes}), axes)


@structural("concatenate")
def concatenate(equation: Equation, *parts: Value) -> Value:
    """Parts one after another: by their lengths, a mixture."""
    axis = equation.params["dimension"]
    if any(isinstance(p, Opaque) for p in parts):
        return Opaque(equation.shape)
    if all(isinstance(p, Known) for p in parts):
        return Known(np.concatenate([p.array for p in parts if isinstance(p, Known)], axis))
    signals = [described(p) for p in parts]
    return remembered(_joint(signals, concatenated(signals, axis, equation.shape, equation.dtype)), axis, signals)


def _joint(parts: list[Signal], result: Signal) -> Signal:
    """Weights side by side are one weight: recurrent cells lay the kernels of their gates together."""
    weights = [p.weight for p in parts if p.weight is not None]
    if len(weights) != len(parts) or len({(w.layer, w.factor, w.equal) for w in weights}) != 1:
        return result
    first, *rest = weights
    also = tuple(path for w in rest for path in (w.path, *w.also) if path != first.path)
    axes = first.axes if all(w.axes == first.axes for w in rest) else None
    return dataclasses.replace(
        result, weight=dataclasses.replace(first, also=first.also + also, axes=axes, places=(None,) * len(axes or ()))
    )


@structural("pad")
def pad(equation: Equation, x: Value, filler: Value) -> Value:
    """Elements around, between, or cut away."""
    config = equation.params["padding_config"]
    if isinstance(x, Known) and isinstance(filler, Known) and math.prod(equation.shape) <= KNOWN_SIZE:
        return Known(_padded(x.array, filler.array, config, equation.shape))
    if isinstance(x, Opaque):
        return Opaque(equation.shape)
    inside = []
    for n, total, (low, high, _) in zip(x.shape, equation.shape, config, strict=True):
        remain = n - (max(0, -low) + max(0, -high))
        inside.append((min(remain, total), total))
    if all(own == total for own, total in inside):
        return part(described(x), equation.shape, ("pad", tuple(config)), tuple(range(len(config))))
    if 0 in equation.shape:
        return Signal.constant(0.0, equation.shape, equation.dtype)
    x, filler = described(x), described(filler)
    made = surrounded(x, filler, inside, equation.shape)
    if filler.mean != 0 or made.is_constant:
        return made
    # Where the zeros are is known: as places without strength, among which the others correlate as before.
    profiles = {a: _placed(x, a, config[a], equation.shape[a]) for a in range(x.ndim) if inside[a][0] != inside[a][1]}
    rest = {a: p for a, p in x.profiles.items() if a not in profiles}
    return dataclasses.replace(made, rho=_tables.settled(x.rho, equation.shape), profiles=kept(profiles) | rest)


def _padded(x: Any, filler: Any, config: Any, shape: tuple[int, ...]) -> Any:
    """`lax.pad` in NumPy."""
    result = np.full(shape, filler, x.dtype)
    to, which = [], []
    for n, total, (low, _, gap) in zip(x.shape, shape, config, strict=True):
        places = low + np.arange(n) * (gap + 1)
        inside = (places >= 0) & (places < total)
        to.append(places[inside])
        which.append(np.flatnonzero(inside))
    result[np.ix_(*to)] = x[np.ix_(*which)]
    return result


def _placed(x: Signal, axis: int, config: tuple[int, int, int], total: int) -> Any:
    """The profile along a padded axis."""
    low, _, gap = config
    result = np.zeros(total)
    places = low + np.arange(x.shape[axis]) * (gap + 1)
    inside = (places >= 0) & (places < total)
    result[places[inside]] = x.profiles.get(axis, np.ones(x.shape[axis]))[inside]
    return normalized(result)


@structural("iota")
def iota(equation: Equation) -> Value:
    """Counting along one axis."""
    shape, axis, dtype = equation.shape, equation.params["dimension"], equation.dtype
    count = np.arange(shape[axis]).astype(dtype)
    if math.prod(shape) <= KNOWN_SIZE:
        middle = [1] * len(shape)
        middle[axis] = shape[axis]
        return Known(np.broadcast_to(count.reshape(middle), shape))
    line = Signal.known(count)
    return moved(line, shape, _tables.broadcast(line.rho, (axis,), len(shape)))
