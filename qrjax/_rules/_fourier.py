"""Fourier transforms: each wave is a sum of all elements, whose energy their correlations decide.

Along an axis of n elements with second moment m and cross moment c, the wave of frequency 0 has the energy
n m + n (n - 1) c and each other one n (m - c): a profile along the axis of frequencies. Backwards, the profile that
comes in decides how alike elements are, near ones more than far ones where high frequencies are weak.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._complexes import ComplexSignal, joined
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import Floats
from qrjax._signals._signal import Signal
from qrjax._signals._tables import Shape

FORWARD, BACKWARD, REAL, TO_REAL = range(4)
# The kind of pairs that lie at a distance along an axis; see `Signal.twins`.
LAG = "lag"
# Distances whose correlations differ by less are not told apart.
TOLD = 0.02


class _Signed:
    """A sum or difference, of which normal signals stay normal."""

    def __init__(self, sign: float):
        self.linear = (1.0, sign)

    def __call__(self, x: Any, y: Any) -> Any:
        return x + self.linear[1] * y


def fourier(x: Signal, kind: int, lengths: tuple[int, ...], shape: Shape, dtype: Any) -> Signal:
    """The transform along the last axes of these lengths."""
    axes = tuple(range(x.ndim - len(lengths), x.ndim))
    if kind == TO_REAL:
        return _to_real(_complex(x, axes[:-1], False), lengths[-1], shape, dtype)
    if kind == REAL:
        return joined(*_waves(x, axes, shape, 1.0), dtype)
    return _complex(x, axes, kind == FORWARD)


def _complex(x: Signal, axes: tuple[int, ...], forward: bool) -> Signal:
    """The transform of complex numbers, by that of their parts."""
    if not axes:
        return x
    parts = [x.re, x.im] if isinstance(x, ComplexSignal) else [x, Signal.constant(0.0, x.shape, x.dtype)]
    scale = 1.0 if forward else 1 / math.prod(x.shape[a] for a in axes)
    (a, b), (c, d) = (_waves(part, axes, x.shape, scale) for part in parts)
    # Backward waves turn the other way.
    turn = 1.0 if forward else -1.0
    return joined(_sum(a, d, -turn), _sum(_signed(b, turn), c, 1.0), x.dtype)


def _signed(x: Signal, sign: float) -> Signal:
    return x if sign > 0 or x.is_constant else x.map(np.negative)


def _sum(x: Signal, y: Signal, sign: float) -> Signal:
    return x if y.is_constant else combine(_Signed(sign), [x, y], x.shape, x.dtype)


def spectrum(x: Signal, axis: int) -> Floats:
    """The energies of the waves along an axis, relative to their mean."""
    n = x.shape[axis]
    if n == 1 or x.second_moment <= 0:
        return np.ones(n)
    one = tuple(int(a == axis) for a in range(x.ndim))
    like = np.full(n, float(x.moments[one]) / x.second_moment)
    for kind, table in x.twins.items():
        if isinstance(kind, tuple) and kind[:2] == (LAG, n) and _is_along(table, x.rho, one):
            near = dataclasses.replace(x, rho=table, twins={})
            like[groups(n) == kind[3]] = float(near.moments[one]) / x.second_moment
    like[0] = 1.0
    found = np.maximum(np.real(np.fft.fft(like)), 0.0)
    return np.asarray(found / found.mean())


def still(x: Signal, axes: Sequence[int]) -> float:
    """The share of the energy in the wave of frequency 0 along all axes, 0 where there is none."""
    if x.second_moment <= 0:
        return 0.0
    n = math.prod(x.shape[a] for a in axes)
    return float(_tables.pair_sums(x.moments, axes, x.shape).flat[0]) / (n * n * x.second_moment)


def still_apart(x: Signal, axes: Sequence[int]) -> float:
    """The same, by the spectra along each axis alone."""
    return math.prod(float(s[0]) / len(s) for s in (spectrum(x, a) for a in axes))


def _is_along(table: Floats, rho: Floats, one: tuple[int, ...]) -> bool:
    others = table.take(0, one.index(1))
    return table.shape == rho.shape and bool(np.allclose(others, rho.take(0, one.index(1)), atol=1e-6))


def groups(n: int) -> Any:
    """For each distance around a circle of n places the group of like distances: 1, 2, 3 and 4, 5 to 8, ..."""
    distance = np.minimum(np.arange(n), n - np.arange(n))
    return np.ceil(np.log2(np.maximum(distance, 1))).astype(int)


def _waves(x: Signal, axes: tuple[int, ...], shape: Shape, scale: float) -> tuple[Signal, Signal]:
    """The real and the imaginary parts of a real signal's waves."""
    zero = Signal.constant(0.0, shape, x.dtype)
    if x.is_constant and x.mean == 0:
        return zero, zero
    n = math.prod(x.shape[a] for a in axes)
    full = {a: spectrum(x, a) for a in axes}
    cut = {a: full[a][: shape[a]] for a in axes}
    energy = x.second_moment * n * scale**2 * math.prod(float(s.mean()) for s in cut.values())
    # Waves that are their own mirror images are real.
    own = {a: np.isin(np.arange(shape[a]) * 2, (0, x.shape[a])) for a in axes}
    shares = {a: float(cut[a][own[a]].sum() / cut[a].sum()) for a in axes}
    mirrored = math.prod(shares.values()) + still(x, axes) - still_apart(x, axes)
    mirrored = min(1.0, max(0.0, mirrored))
    likes = {a: _like(x.profiles.get(a, np.ones(x.shape[a]))) for a in axes}
    rho, twins = _likeness([x], likes, shape)
    rest = {a: p for a, p in x.profiles.items() if a not in axes}
    parts = []
    for sign in (1, -1):
        profiles = {
            a: normalized(s * (1 + sign * own[a] * (min(1.0, mirrored / shares[a]) if shares[a] else 0.0)))
            for a, s in cut.items()
        }
        moment = energy * (1 + sign * mirrored) / 2
        made = Signal.normal(shape, 0.0, moment, x.dtype, rho)
        parts.append(dataclasses.replace(made, profiles=kept(profiles) | rest, twins=twins) if moment > 0 else zero)
    return parts[0], parts[1]


def _like(energies: Floats) -> Floats:
    """How alike two waves at each distance are, or two elements of which these are the waves' energies."""
    return np.asarray(np.real(np.fft.fft(energies)) / energies.sum())


def _likeness(
    parts: Sequence[Signal], likes: dict[int, Floats], shape: Shape
) -> tuple[Floats, dict[Any, Floats]]:  # fmt: skip
    """The correlations of waves: at one place as of the elements; and those of pairs at each distance."""
    means = {axis: float(like[1:].mean()) if len(like) > 1 else 1.0 for axis, like in likes.items()}

    def table(kind: Any, numbers: dict[int, float]) -> Floats:
        turned = [dataclasses.replace(p, rho=p.twins.get(kind, p.rho), twins={}) for p in parts]
        found = np.asarray(sum(p.moments for p in turned)) / sum(p.second_moment for p in parts)
        for axis, number in numbers.items():
            same = np.asarray(found.take(0, axis))
            found = np.stack([same, number * same], axis)
        return _tables.settled(np.clip(found, -1.0, 1.0), shape)

    twins = {kind: table(kind, means) for part in parts for kind in part.twins if kind[0] == LAG}
    for axis, like in likes.items():
        n = len(like)
        if n >= 4 and np.ptp(like[1:]) > TOLD and shape[axis] == n:
            which = groups(n)
            for group in np.unique(which[1:]):
                inside = (which == group) & (np.arange(n) > 0)
                twins[LAG, n, axis, int(group)] = table(None, means | {axis: float(like[inside].mean())})
    rho = table(None, means)
    return rho, {kind: found for kind, found in twins.items() if np.abs(found - rho).max() > TOLD / 10}


def _to_real(x: Signal, n: int, shape: Shape, dtype: Any) -> Signal:
    """The real signal of which these are half the waves along the last axis."""
    assert isinstance(x, ComplexSignal)
    half, axis = x.shape[-1], x.ndim - 1
    re, im = (part.second_moment * part.profiles.get(axis, np.ones(half)) for part in (x.re, x.im))
    waves = np.zeros(n)
    for k in range(min(half, n // 2 + 1)):
        # Waves that are their own mirror images are real; the others come twice.
        waves[[k, -k]] = re[k] if 2 * k in (0, n) else re[k] + im[k]
    moment = float(waves.sum()) / n**2
    if moment <= 0:
        return Signal.constant(0.0, shape, dtype)
    rho, twins = _likeness([p for p in (x.re, x.im) if not p.is_constant], {axis: _like(waves)}, shape)
    made = Signal.normal(shape, 0.0, moment, dtype, rho)
    profiles = {a: p for a, p in (x.im if x.re.is_constant else x.re).profiles.items() if a != axis}
    return dataclasses.replace(made, profiles=profiles, twins=twins)
