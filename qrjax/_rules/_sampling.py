"""An equation without a rule: computed on actual arrays drawn from its inputs' laws, and noted in the report.

A source is drawn once in a walk, so what is computed from it, here or by a rule, stays related to it: f(x) known by a
draw of x meets x again as that draw.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Context, Equation
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._outputs import noted
from qrjax._rules._places import kinds, pair_moment
from qrjax._rules._registry import FIRST
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._masks import known_gates, resolved, unveiled
from qrjax._signals._quadrature import NODES, Floats, correlation, phi_inverse
from qrjax._signals._signal import Signal, Source, related, relation

# Elements of the largest array that is drawn, and of all that a walk keeps.
BOUND = 1 << 22
KEPT = 1 << 24
# Elements by which a result is tied to its inputs.
TIED = 1 << 14

Draws = dict[Source, NDArray[np.float64]]
_draws: weakref.WeakKeyDictionary[Context, Draws] = weakref.WeakKeyDictionary()


def sample(equation: Equation, *values: Value) -> list[Value]:
    """The outputs' laws from one draw of the inputs; exactly repeatable."""
    sizes = [math.prod(v.shape) for v in values] + [math.prod(o.shape) for o in equation.outputs]
    if any(isinstance(v, Opaque) for v in values):
        return [Opaque(tuple(o.shape)) for o in equation.outputs]
    if max(sizes, default=0) > BOUND:
        equation.context.note(f"{equation.name} has no rule and is too large to sample: taken as standard normal")
        return [Signal.normal(tuple(o.shape), dtype=o.dtype) for o in equation.outputs]
    equation.context.note(f"{equation.name} by sampling")
    if equation.name == "cumsum":
        noted(equation, described(values[0]), equation.params["axis"])
    draws = _draws.setdefault(equation.context, {})
    arrays = [v.array if isinstance(v, Known) else drawn(_drawable(described(v)), draws) for v in values]
    return _results(equation, values, arrays)


def draws_of(context: Context) -> Draws:
    """What a walk has drawn of sources so far."""
    return _draws.get(context, {})


def _drawable(x: Signal) -> Signal:
    """The signal with its mask, where that is known, else as a mixture."""
    return x if x.mask is None else dataclasses.replace(resolved(x), bare=x if known_gates(x) else None)


def _results(equation: Equation, values: Sequence[Value], arrays: Sequence[NDArray[Any]]) -> list[Value]:
    """The outputs for actual inputs, tied to those of their shape."""
    draws = _draws.get(equation.context, {})
    parents: list[tuple[Source, NDArray[Any]]] = []
    for value in values:
        if isinstance(value, Signal) and value.source is not None:
            z = draws.get(value.source, value.array)
            parents += [] if z is None else [(value.source, z)]
            parents += [(kin, draws[kin]) for kin in value.source.kin if kin in draws]
    made = [actual(equation.context, np.asarray(array), parents) for array in equation.evaluate(*arrays)]
    random = any(v.random if isinstance(v, Known) else not described(v).is_constant for v in values)
    return [dataclasses.replace(m, random=True) if random and isinstance(m, Known) else m for m in made]


def actual(context: Context, array: NDArray[Any], parents: Sequence[tuple[Any, NDArray[Any]]] = ()) -> Value:
    """An array that came of a draw, or of known arrays, as a signal that rules go on to compute with."""
    if array.dtype.kind == "c" or (not parents and array.dtype.kind in "biu"):
        return Known(array)
    made = Signal.known(array)
    if made.source is None:
        return Known(array)
    kin = [(source, _score_tie(array, z)) for source, z in parents if z.shape == array.shape]
    twins = dict(_twins(context, made, array))
    return dataclasses.replace(made, source=related(kin), drawn=True, twins=twins)


def _score_tie(array: NDArray[Any], z: NDArray[Any]) -> float:
    """The correlation of the normal scores of two arrays, by evenly spaced elements."""
    step = max(1, array.size // TIED) | 1
    first, second = (_scores(np.asarray(a, np.float64).ravel()[::step]) for a in (array, z))
    size = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0


def _scores(values: Floats) -> Floats:
    ranks = np.empty(values.size)
    ranks[np.argsort(values, kind="stable")] = np.arange(values.size)
    return phi_inverse((ranks + 0.5) / values.size)


def _twins(context: Context, made: Signal, array: NDArray[Any]) -> list[tuple[Any, Floats]]:
    """The tables of the kinds of pairs that the walk has met, by the array's own pairs."""
    found = []
    for kind, places in kinds(context, array.shape[0]) if array.ndim and array.dtype.kind not in "biu" else ():
        table = made.rho.copy()
        moment = pair_moment(array, places)
        if moment is not None:
            table[(1, *[0] * (array.ndim - 1))] = correlation(made.squares, np.array([moment - made.mean**2]))[0]
            found.append((kind, _tables.settled(table, made.shape)))
    return found


# -- rules for what was drawn -------------------------------------------------------------------------------------


def exact(equation: Equation, values: Sequence[Value]) -> list[Value] | None:
    """The outputs computed on the draws, where all inputs have one."""
    if not any(isinstance(v, Signal) and v.drawn for v in values):
        return None
    if max(math.prod(o.shape) for o in (*values, *equation.outputs)) > BOUND:
        return None
    arrays = []
    for value in values:
        array = _array_of(equation.context, value)
        if array is None:
            return None
        arrays.append(array)
    return _results(equation, values, arrays)


def _array_of(context: Context, value: Value) -> NDArray[Any] | None:
    """The array of a value that has one; a function of a source that was drawn has its function's."""
    if isinstance(value, Known):
        return value.array
    if isinstance(value, Opaque) or value.mask is not None:
        return None
    if value.weight is not None or (value.recipe is not None and value.recipe.leaves):
        return None  # what is made of weights is sized where it meets a signal
    if value.source is None:
        return np.full(value.shape, _typed(np.asarray(value.mean), value.dtype))
    if value.array is not None and value.array.shape == value.shape:
        return value.array
    z = _draws.get(context, {}).get(value.source)
    if z is None or z.shape != value.shape:
        return None
    return _typed(np.interp(z, NODES, value.values), value.dtype)


FIRST.append(exact)


# -- draws --------------------------------------------------------------------------------------------------------


def drawn(x: Signal, draws: Draws) -> NDArray[Any]:
    """An actual array with the signal's law and correlations; one draw for each source."""
    if isinstance(x, ComplexSignal):
        return (drawn(x.re, draws) + 1j * drawn(x.im, draws)).astype(x.dtype)
    if x.array is not None and x.array.shape == x.shape:
        return x.array
    bare = unveiled(x)
    if bare.mask is not None:
        # Where a known mask is, and what it left.
        present = [np.broadcast_to(np.asarray(g.array, bool), x.shape) for g in bare.mask.gates]
        inside = drawn(dataclasses.replace(bare, mask=None, bare=None), draws)
        return np.where(np.logical_and.reduce(present), inside, _typed(np.asarray(bare.mask.value), x.dtype))
    if x.source is None:
        return np.full(x.shape, _typed(np.asarray(x.mean), x.dtype))
    z = draws.get(x.source)
    if z is None or z.shape != x.shape:
        z = _drawn_source(x, x.source, draws)
        while sum(other.size for other in draws.values()) > KEPT:
            draws.pop(next(iter(draws)))
        draws[x.source] = z
    return _typed(np.interp(z, NODES, x.values), x.dtype)


def _drawn_source(x: Signal, source: Source, draws: Draws) -> NDArray[np.float64]:
    """A draw that is as like that of the nearest relative as the sources are."""
    own = field(x.rho, x.shape, len(draws))
    kin = {s: relation(source, s) for s, z in draws.items() if z.shape == x.shape}
    nearest = max(kin, key=lambda s: abs(kin[s]), default=None)
    if nearest is None or abs(kin[nearest]) < 1e-2:
        return own
    r = kin[nearest]
    return np.asarray(r * draws[nearest] + math.sqrt(max(0.0, 1 - r * r)) * own)


def _typed(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    if np.dtype(dtype).kind == "b":
        return values > 0.5
    if np.dtype(dtype).kind in "iu":
        bounds = np.iinfo(dtype)
        return np.clip(np.round(values), bounds.min, bounds.max).astype(dtype)
    return values.astype(dtype)


def field(rho: Any, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Standard normals with these correlations: a sum of effects, one for each subset of axes."""
    generator = np.random.Generator(np.random.PCG64(7919 + seed))
    shares = _tables.variance_shares(rho, shape)
    shares = shares / shares.sum()
    total = np.zeros(shape)
    for pattern in itertools.product((0, 1), repeat=len(shape)):
        if shares[pattern] > 1e-9:
            part = tuple(n if p else 1 for n, p in zip(shape, pattern, strict=True))
            total = total + math.sqrt(shares[pattern]) * generator.standard_normal(part)
    return total
