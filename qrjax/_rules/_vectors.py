"""Elements that are told apart by their place: vectors of decays and frequencies, of which one draw is at hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._functions import numpy_form
from qrjax._rules._operands import KNOWN_SIZE, Known, Opaque, Value, described
from qrjax._rules._registry import STRUCTURAL
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal, array_of, joined
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import NODES, WEIGHTS, matched, quantiles
from qrjax._signals._signal import Profiles, Signal, related, relation
from qrjax._signals._tables import Shape


def carried(equation: Equation, values: Sequence[Value], results: list[Value]) -> list[Value]:
    """The results with one draw of their elements, where all operands are known or have one themselves."""
    if not any(isinstance(v, Signal) and not v.is_constant and array_of(v) is not None for v in values):
        return results
    if any(isinstance(v, Opaque) for v in values) or sum(math.prod(o.shape) for o in equation.outputs) > KNOWN_SIZE:
        return results
    arrays = [v.array if isinstance(v, Known) else array_of(described(v)) for v in values]
    if any(a is None for a in arrays):
        return results
    return [_held(r, a) for r, a in zip(results, _computed(equation, arrays), strict=True)]


def _computed(equation: Equation, arrays: Sequence[Any]) -> list[Any]:
    """The primitive on arrays, in NumPy where that is possible: JAX would compile each shape."""
    if equation.name in STRUCTURAL:
        found = STRUCTURAL[equation.name](equation, *map(Known, arrays))
        listed = list(found) if isinstance(found, (list, tuple)) else [found]
        if all(isinstance(v, Known) for v in listed):
            return [v.array for v in listed if isinstance(v, Known)]
    function = numpy_form(equation.name, equation.params, [a.dtype for a in arrays], np.dtype(equation.dtype))
    if function is None or len(equation.outputs) > 1:
        return equation.evaluate(*arrays)
    with np.errstate(all="ignore"):
        return [np.broadcast_to(function(*arrays), equation.shape).astype(equation.dtype)]


def _held(result: Value, array: Any) -> Value:
    if isinstance(result, ComplexSignal):
        re, im = (dataclasses.replace(p, array=a) for p, a in ((result.re, array.real), (result.im, array.imag)))
        return joined(re, im, result.dtype, result.modulus)
    if isinstance(result, Signal) and not result.is_constant and not result.drawn:
        return dataclasses.replace(result, array=array)
    return result


def by_place(x: Signal, y: Signal, shape: Shape, dtype: Any) -> Signal | None:
    """A random complex signal times known factors that differ from place to place; None where they are not such."""
    arrays = [array_of(z) for z in (x, y)]
    for z, factors, own in ((x, arrays[1], arrays[0]), (y, arrays[0], arrays[1])):
        if own is None and factors is not None and isinstance(z, ComplexSignal) and not z.is_constant:
            if z.shape != shape or np.ndim(factors) != len(shape):
                return None
            return _scaled(z, np.broadcast_to(factors, shape), dtype)
    return None


def _scaled(z: ComplexSignal, factors: Any, dtype: Any) -> Signal:
    c, d = np.asarray(factors.real, np.float64), np.asarray(factors.imag, np.float64)
    re, im = ((z.re, c), (z.im, -d)), ((z.re, d), (z.im, c))
    return joined(_weight(re, _turned(re)), _weight(im, _turned(im)), dtype)


def _weight(terms: Sequence[tuple[Signal, Any]], result: Signal) -> Signal:
    """A weight stays one, with a factor: its own parts are drawn alike, so turning them changes nothing."""
    held = [(x.weight, float((f**2).mean())) for x, f in terms if x.weight is not None and np.any(f)]
    if len(held) != sum(np.any(f) and not (x.is_constant and x.mean == 0) for x, f in terms) or not held:
        return result
    factor = math.sqrt(sum(weight.factor**2 * square for weight, square in held))
    first, also = held[0][0], [path for weight, _ in held for path in (weight.path, *weight.also)]
    also = [path for path in dict.fromkeys(also) if path != first.path]
    return dataclasses.replace(result, weight=dataclasses.replace(first, factor=factor, also=tuple(also)))


def _turned(terms: Sequence[tuple[Signal, Any]]) -> Signal:
    """The sum of signals times factors by place."""
    shape, dtype = terms[0][0].shape, terms[0][0].dtype
    terms = [(x, f) for x, f in terms if not (x.is_constant and x.mean == 0) and np.any(f)]
    if not terms:
        return Signal.constant(0.0, shape, dtype)
    like = terms[0][0]
    energies, profiles = zip(*(_energy(x, f) for x, f in terms), strict=True)
    moment, mean = sum(energies), sum(float(f.mean()) * x.mean for x, f in terms)
    variance = moment - mean**2
    if not variance > 1e-24 * moment:
        return Signal.constant(mean, like.shape, like.dtype)
    # Of two independent terms the sum is normal; one alone keeps the law that it has.
    line = (like.values - like.mean) / math.sqrt(like.variance) if len(terms) == 1 and like.variance > 0 else NODES
    rho = sum(e * x.rho for (x, _), e in zip(terms, energies, strict=True)) / moment
    kin = [(x.source, _tie(x, f, variance)) for x, f in terms if x.source is not None]
    axes = {axis for found in profiles for axis in found}
    mixed = {
        a: normalized(
            np.asarray(sum(e * p.get(a, np.ones(like.shape[a])) for e, p in zip(energies, profiles, strict=True)))
        )
        for a in axes
    }
    table = _tables.settled(rho, like.shape)
    return Signal(like.shape, like.dtype, mean + math.sqrt(variance) * line, related(kin), table, profiles=kept(mixed))


def _energy(x: Signal, factors: Any) -> tuple[float, Profiles]:
    """E (f x)^2 over all places, and along the axes."""
    squares = factors**2
    whole = float(squares.mean())
    ratio, found = whole, {}
    for axis in range(x.ndim):
        others = tuple(a for a in range(x.ndim) if a != axis)
        along = squares.mean(others) / whole
        profile = x.profiles.get(axis)
        if profile is not None and profile.size == along.size:
            ratio *= float((profile * along).mean())
            along = profile * along
        if along.size > 1 and np.ptp(along) > 1e-3 * along.mean():
            found[axis] = along / along.mean()
    return x.second_moment * ratio, found


def _tie(x: Signal, factors: Any, variance: float) -> float:
    return float(factors.mean()) * math.sqrt(x.variance / variance)


def interlaced(x: Signal, y: Signal, shape: Shape, dtype: Any) -> Signal | None:
    """The sum of two signals of which each is zero where the other is not; None if they are not such.

    So `associative_scan` puts even and odd places together, and so parts are written into zeros.
    """
    if x.is_constant or y.is_constant or x.shape != shape or y.shape != shape:
        return None
    shared = [a for a in x.profiles if a in y.profiles and not np.any(x.profiles[a] * y.profiles[a])]
    if not shared:
        return None
    axis = shared[0]
    moment = x.second_moment + y.second_moment
    shares = [z.second_moment / moment for z in (x, y)]
    places = [float((z.profiles[axis] > 0).mean()) for z in (x, y)]
    values = _without_gaps((x, y), places)
    mixed = {
        a: normalized(shares[0] * x.profiles.get(a, np.ones(n)) + shares[1] * y.profiles.get(a, np.ones(n)))
        for a, n in enumerate(shape)
        if a in x.profiles or a in y.profiles
    }
    assert x.source is not None
    assert y.source is not None
    one = tuple(int(a == axis) for a in range(len(shape)))
    rho = shares[0] * x.rho + shares[1] * y.rho
    # Of two places along the axis some lie in the same part, the others one in each.
    apart = 2 * places[0] * places[1]
    across = np.clip(relation(x.source, y.source), -1.0, 1.0)
    ratio = (1 - apart) + apart * across / rho[one] if abs(rho[one]) > 1e-9 else 1.0
    rho = np.stack([rho.take(0, axis), np.clip(rho.take(1, axis) * ratio, -1, 1)], axis)
    source = related([(z.source, math.sqrt(s)) for z, s in zip((x, y), shares, strict=True) if z.source is not None])
    return Signal(shape, np.dtype(dtype), values, source, _tables.settled(rho, shape), profiles=kept(mixed))


def _without_gaps(parts: Sequence[Signal], places: Sequence[float]) -> Any:
    """The law of the elements of two parts, without the zeros that stand where the other part is."""
    values, weights = [], []
    for part, share in zip(parts, places, strict=True):
        zero = part.values == 0
        gap = 1 - share
        held = float(WEIGHTS[zero].sum())
        values.append(part.values)
        weights.append(np.where(zero, WEIGHTS * max(0.0, 1 - gap / held) if held > 0 else 0.0, WEIGHTS))
    law = quantiles(np.concatenate(values), np.concatenate(weights))
    mean = sum(p.mean for p in parts)
    return matched(law, mean, sum(p.second_moment for p in parts) - mean**2)
