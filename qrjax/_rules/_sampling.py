"""An equation without a rule: computed on actual arrays drawn from its inputs' laws, and noted in the report."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._registry import Equation, Known, Opaque, Value, described
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._quadrature import NODES
from qrjax._signals._signal import Signal, Source

# Elements of the largest array that is drawn.
BOUND = 1 << 22


def sample(equation: Equation, *values: Value) -> list[Value]:
    """The outputs' laws from one draw of the inputs; exactly repeatable."""
    sizes = [math.prod(v.shape) for v in values] + [math.prod(o.shape) for o in equation.outputs]
    if any(isinstance(v, Opaque) for v in values):
        return [Opaque(tuple(o.shape)) for o in equation.outputs]
    if max(sizes, default=0) > BOUND:
        equation.context.note(f"{equation.name} has no rule and is too large to sample: taken as standard normal")
        return [Signal.normal(tuple(o.shape), dtype=o.dtype) for o in equation.outputs]
    equation.context.note(f"{equation.name} by sampling")
    draws: dict[Source, NDArray[np.float64]] = {}
    arrays = [v.array if isinstance(v, Known) else drawn(described(v), draws) for v in values]
    return [Known(np.asarray(array)) for array in equation.evaluate(*arrays)]


def drawn(x: Signal, draws: dict[Source, NDArray[np.float64]]) -> NDArray[Any]:
    """An actual array with the signal's law and correlations; one draw for each source."""
    if isinstance(x, ComplexSignal):
        return (drawn(x.re, draws) + 1j * drawn(x.im, draws)).astype(x.dtype)
    if x.array is not None:
        return x.array
    if x.source is None:
        return np.full(x.shape, _typed(np.asarray(x.mean), x.dtype))
    z = draws.get(x.source)
    if z is None or z.shape != x.shape:
        z = draws[x.source] = field(x.rho, x.shape, len(draws))
    return _typed(np.interp(z, NODES, x.values), x.dtype)


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
