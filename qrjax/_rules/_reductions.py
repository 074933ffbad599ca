"""Reductions along axes and over windows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._registry import NEAR, signals
from qrjax._signals import _tables
from qrjax._signals._lags import STEP
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import CDF, NODES, correlation, hermite_squares, matched
from qrjax._signals._reduce import extreme, extreme_values, shrunk, summed, window_rho
from qrjax._signals._signal import Profiles, Signal, Source

# Places that correlate by less, over all pairs, are none to speak of.
ALIKE = 1e-3


@signals("reduce_sum", masked=True)
def reduce_sum(equation: Equation, x: Signal) -> Signal:
    """n * variance + n (n - 1) * covariance along the axes."""
    axes = equation.params["axes"]
    steps = [a for a in axes if (STEP, x.shape[a]) in x.twins]
    places = [a for a in axes if a not in steps and ALIKE < x.rho[tuple(int(b == a) for b in range(x.ndim))] < 1.0]
    if steps and places:
        equation.context.note(
            "approximate: a sum over steps and places; how a place is like others at earlier steps is not followed"
        )
    return summed(x, axes)


@signals("reduce_max", "reduce_or", masked=True)
def reduce_max(equation: Equation, x: Signal) -> Signal:
    """The law of the largest of n elements with their correlation."""
    return extreme(x, equation.params["axes"])


@signals("reduce_min", "reduce_and", masked=True)
def reduce_min(equation: Equation, x: Signal) -> Signal:
    """The law of the smallest of n elements with their correlation."""
    return extreme(x, equation.params["axes"], largest=False)


@signals("argmax", "argmin")
def argmax(equation: Equation, x: Signal) -> Signal:
    """Any position is as likely as another; two rows agree as far as their elements do."""
    axes = equation.params["axes"]
    n = math.prod(x.shape[axis] for axis in axes)
    values = np.minimum(np.floor(CDF * n), n - 1.0)
    shape = shrunk(x.shape, axes)
    if n == 1 or x.is_constant:
        return Signal.constant(0.0, shape, equation.dtype)
    rho = _tables.settled(_tables.dropped(x.rho, axes), shape)
    return Signal(shape, equation.dtype, values, Source(), rho)


# -- windows ------------------------------------------------------------------------------------------------------


def taps(size: int, window: int, stride: int, padding: tuple[int, int], holes: int = 1, dilation: int = 1) -> Any:
    """Which taps of a window see an element: booleans of shape (positions of the output, taps).

    `holes` is the spacing of the input's elements (a transposed convolution), `dilation` that of the taps.
    """
    length = (size - 1) * holes + 1 if size else 0
    reach = (window - 1) * dilation + 1
    positions = max(0, (length + sum(padding) - reach) // stride + 1)
    places = np.arange(positions)[:, None] * stride - padding[0] + np.arange(window)[None, :] * dilation
    return (places >= 0) & (places < length) & (places % holes == 0)


def strengths(valid: Any, size: int, profile: Any, stride: int, padding: int, holes: int, dilation: int) -> Any:
    """The taps that see an element, each with the root of that element's relative second moment."""
    if profile is None:
        return valid.astype(np.float64)
    return valid * np.sqrt(profile[places(valid, size, stride, padding, holes, dilation)])


def places(valid: Any, size: int, stride: int, padding: int, holes: int, dilation: int) -> Any:
    """The elements that the taps see, of those that see none any."""
    found = np.arange(valid.shape[0])[:, None] * stride - padding + np.arange(valid.shape[1])[None, :] * dilation
    return np.clip(found // holes, 0, max(0, size - 1))


def tap_moments(taken: Any) -> tuple[float, float, float]:
    """E[k], E[k (k - 1)] and E[k k'] over pairs, for the number k of taps that see an element, by strength."""
    first = (taken**2).sum(1)
    return float(first.mean()), float((taken.sum(1) ** 2 - first).mean()), float(taken.sum(1).mean() ** 2)


def tap_profile(taken: Any) -> Any:
    """The relative second moments of the positions of the output."""
    return normalized((taken**2).sum(1))


@signals("reduce_window_sum")
def reduce_window_sum(equation: Equation, x: Signal) -> Signal:
    """Sums over windows, counting the taps that the padding leaves."""
    if x.is_constant and x.mean == 0:
        return Signal.constant(0.0, equation.shape, equation.dtype)
    moments = [tap_moments(taken) for _, taken in _taken(equation, x)]
    mean = x.mean * math.prod(first for first, _, _ in moments)
    # Within a window neighbours meet, which are closer than most; windows are as far apart as any two places.
    table, close = x.moments, dataclasses.replace(x, rho=x.twins.get(NEAR, x.rho)).moments
    for axis, (first, second, apart) in enumerate(moments):
        same, other = table.take(0, axis), table.take(1, axis)
        near = first * close.take(0, axis) + second * close.take(1, axis)
        table = np.stack([first * same + second * other, apart * other], axis)
        close = np.stack([near, apart * other], axis)
    table.flat[0] = close.flat[0]
    table = table - mean**2
    variance = float(table.flat[0])
    if variance <= 1e-12 * mean**2:
        return Signal.constant(mean, equation.shape, equation.dtype)
    values = summed_values(x, mean, variance, math.prod(first for first, _, _ in moments))
    rho = correlation(hermite_squares(values), table)
    rho.flat[0] = 1.0
    made = Signal(equation.shape, equation.dtype, values, Source(), _tables.settled(rho, equation.shape))
    profiles = _count_profiles(equation, x) | _window_profiles(equation, x)
    return dataclasses.replace(made, profiles=profiles)


def _count_profiles(equation: Equation, x: Signal) -> Profiles:
    """The strength of sums over windows that a border cuts."""
    p = equation.params
    found = {}
    close = dataclasses.replace(x, rho=x.twins.get(NEAR, x.rho)).moments
    for axis, window in enumerate(p["window_dimensions"]):
        if window > 1:
            valid = taps(
                x.shape[axis], window, p["window_strides"][axis], p["padding"][axis], p["base_dilation"][axis],
                p["window_dilation"][axis],
            )  # fmt: skip
            k = valid.sum(1).astype(np.float64)
            one = tuple(int(a == axis) for a in range(x.ndim))
            found[axis] = normalized(k * float(close.flat[0]) + k * (k - 1) * float(close[one]))
    return kept(found)


def _window_profiles(equation: Equation, x: Signal) -> Profiles:
    """Means over the windows of the profiles that come in."""
    windows = _taken(equation, x)
    found = {axis: (windows[axis][1] ** 2).sum(1) / np.maximum(1, windows[axis][0].sum(1)) for axis in x.profiles}
    return kept({axis: normalized(profile) for axis, profile in found.items()})


def _taken(equation: Equation, x: Signal) -> list[tuple[Any, Any]]:
    """For each axis which taps see an element, and how strong it is there."""
    p, found = equation.params, []
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    for axis, (size, *settings) in enumerate(zip(x.shape, *(p[name] for name in names), strict=True)):
        valid, (_, stride, padding, holes, dilation) = taps(size, *settings), settings
        found.append((valid, strengths(valid, size, x.profiles.get(axis), stride, padding[0], holes, dilation)))
    return found


def summed_values(x: Signal, mean: float, variance: float, n: float) -> Any:
    """The law of a sum of about n elements like x, by the rule for sums along an axis."""
    count = max(2, round(n))
    rho = max(-1 / count, min(1.0, (variance / max(1e-300, x.variance * count) - 1) / max(1, count - 1)))
    stand_in = Signal((count,), x.dtype, x.values, Source(), np.array([1.0, rho]))
    return (
        matched(summed(stand_in, (0,)).values, mean, variance)
        if not x.is_constant
        else mean + math.sqrt(variance) * NODES
    )


@signals("reduce_window_max", "reduce_window_min")
def reduce_window_max(equation: Equation, x: Signal) -> Signal:
    """Extremes over windows; what lies outside does not count."""
    largest = equation.name.endswith("max")
    if x.is_constant:
        return Signal.constant(x.mean, equation.shape, equation.dtype)
    moments = [tap_moments(valid.astype(np.float64)) for valid, _ in _taken(equation, x)]
    n = math.prod(first for first, _, _ in moments)
    axes = tuple(a for a, w in enumerate(equation.params["window_dimensions"]) if w > 1)
    if not axes:
        return x.fresh(shape=equation.shape, rho=_tables.settled(x.rho, equation.shape))
    window = tuple(max(2, round(moments[a][0])) if a in axes else x.shape[a] for a in range(x.ndim))
    stand_in = x.fresh(shape=window, rho=x.twins.get(NEAR, x.rho))
    within = float(_tables.differing(stand_in.covariances, axes, window).flat[0])
    values = extreme_values(x.values, n, within, largest)
    rho = window_rho(stand_in, axes, x.rho, values, largest)
    made = Signal(equation.shape, equation.dtype, values, Source(), _tables.settled(rho, equation.shape))
    return dataclasses.replace(made, profiles=_window_profiles(equation, x))
