"""Profiles: how the second moment varies along an axis, as at the borders of images or over a graph's nodes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qrjax._signals._quadrature import Floats, expectation, numbers
from qrjax._signals._signal import Profiles, Signal
from qrjax._signals._tables import Shape, groups

# Profiles flatter than this are dropped.
FLAT = 1e-3
# Kinds of places that are worked on one by one, each by an evaluation on its nodes; of more a power law is taken, which
# for tanh, gelu, swish and softplus is within .1 octaves at half the mean's strength, within .35 at a quarter.
KINDS = 16
# Axes of so many places, together, are followed when a reshape merges or splits them.
LARGE = 1 << 16


def normalized(profile: Floats) -> Floats | None:
    """The profile with mean 1; None if it is flat or empty."""
    mean = float(profile.mean())
    if not mean > 0 or np.ptp(profile) <= FLAT * mean:
        return None
    return profile / mean


def kept(profiles: Mapping[int, Floats | None]) -> Profiles:
    """The profiles that are not flat."""
    return {axis: p for axis, p in profiles.items() if p is not None}


def renamed(profiles: Profiles, places: Mapping[int, int]) -> Profiles:
    """The profiles with their axes in other places; axes without a place lose theirs."""
    return {places[axis]: p for axis, p in profiles.items() if axis in places}


def regrouped(profiles: Profiles, old: Shape, new: Shape) -> Profiles:
    """The profiles after a reshape: those of merged axes together, of split ones the mean over the others' places."""
    found: dict[int, Floats | None] = {}
    start = place = 0
    for left, right in groups(old, new):
        own = [profiles.get(start + i) for i in range(len(left))]
        if left == right:
            found |= {place + i: p for i, p in enumerate(own)}
        elif math.prod(left) <= LARGE and any(p is not None for p in own):
            lines = [np.ones(n) if p is None else p for n, p in zip(left, own, strict=True)]
            together = functools.reduce(np.multiply.outer, lines).reshape(right)
            for i in range(len(right)):
                others = tuple(a for a in range(len(right)) if a != i)
                found[place + i] = normalized(together.mean(others))
        start, place = start + len(left), place + len(right)
    return kept(found)


def combined(function: Callable[..., Floats], operands: Sequence[Signal], result: Signal, linear: bool) -> Profiles:
    """The profiles of an elementwise function's result."""
    if not any(o.profiles for o in operands) or result.is_constant:
        return {}
    axes = {axis for o in operands for axis in o.profiles}
    if linear:
        return kept({axis: normalized(_summed(operands, axis)) for axis in axes})
    exponents = [_exponent(function, operands, i) if o.profiles else 0.0 for i, o in enumerate(operands)]
    found = {}
    for axis in axes:
        at_places = _at_places(function, operands, axis)
        found[axis] = normalized(_powers(operands, exponents, axis) if at_places is None else at_places)
    return kept(found)


def _at_places(function: Callable[..., Floats], operands: Sequence[Signal], axis: int) -> Floats | None:
    """E[f^2] at each place, where there are few kinds of places; else None."""
    given = [o.profiles.get(axis, np.ones(1)) for o in operands]
    held = [p for p in given if p.size > 1]
    # Along one line numbers sort sooner than rows do.
    line = held[0] if all(p is held[0] for p in held) else np.stack(np.broadcast_arrays(*given), 1)
    _, first, which = np.unique(line, True, True, axis=0 if line.ndim > 1 else None)
    if len(first) > KINDS:
        return None
    kinds = np.stack(np.broadcast_arrays(*given), 1)[first]
    varied = max((o for o in operands if not o.is_constant), key=lambda o: o.variance / max(1e-300, o.second_moment))
    parts = [_typical(o, varied) for o in operands]

    with np.errstate(all="ignore"):
        moments = [_moment(function, [v * r for v, r in zip(parts, np.sqrt(kind), strict=True)]) for kind in kinds]
    return np.array(moments)[which.ravel()]


def _summed(operands: Sequence[Signal], axis: int) -> Floats:
    shares = [o.second_moment for o in operands]
    parts = [share * o.profiles.get(axis, np.ones(1)) for share, o in zip(shares, operands, strict=True)]
    return np.asarray(sum(parts), np.float64) / max(sum(shares), 1e-300)


def _powers(operands: Sequence[Signal], exponents: Sequence[float], axis: int) -> Floats:
    profile = np.ones(1)
    for operand, exponent in zip(operands, exponents, strict=True):
        if axis in operand.profiles:
            profile = profile * operand.profiles[axis] ** exponent
    return np.asarray(profile)


def _exponent(function: Callable[..., Floats], operands: Sequence[Signal], which: int) -> float:
    """d log E[f^2] / d log E[x^2] as one operand is scaled, the others at their means' values."""
    step = 1.2

    def moment(scale: float) -> float:
        parts = [o.values * scale if i == which else _typical(o, operands[which]) for i, o in enumerate(operands)]
        return _moment(function, parts)

    with np.errstate(all="ignore"):
        low, high = moment(1 / step), moment(step)
    if not (low > 0 and high > 0 and math.isfinite(low) and math.isfinite(high)):
        return 0.0
    return min(4.0, max(-4.0, math.log(high / low) / (4 * math.log(step))))


def _moment(function: Callable[..., Floats], parts: Sequence[Floats]) -> float:
    """E[f^2] on the nodes, or of numbers."""
    values = numbers(np.asarray(function(*parts), np.float64))
    return float((values**2).mean()) if values.ndim == 0 else expectation(values**2)


def _typical(operand: Signal, varied: Signal) -> Floats:
    """An operand's values: its own where it shares the source, else a number of its size."""
    if operand.source is varied.source or operand.is_constant:
        return operand.values
    return np.asarray(math.sqrt(operand.second_moment))
