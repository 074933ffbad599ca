"""Contractions: with a weight, whose gain the walk decides, and of two signals."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from qrjax._rules._attention import attended, by_rows, in_common
from qrjax._rules._equations import Equation
from qrjax._rules._outputs import averaged
from qrjax._rules._reductions import strengths, tap_moments, tap_profile, taps
from qrjax._rules._registry import NEAR, signals
from qrjax._rules._sampling import draws_of
from qrjax._signals import _tables
from qrjax._signals._contracted import contracted
from qrjax._signals._overlaps import of_sum
from qrjax._signals._profiles import kept
from qrjax._signals._signal import Signal


@signals("dot_general")
def dot_general(equation: Equation, x: Signal, y: Signal) -> Signal:
    """A weight gives its output the target's second moment; two signals meet by their moments."""
    contract, batch = equation.params["dimension_numbers"]
    fan = math.prod(x.shape[axis] for axis in contract[0])
    if equation.context.sizes(y, x):
        make = functools.partial(contracted, x, contract=contract, batch=batch, dtype=equation.dtype)
        made = equation.context.contract(equation, x, y, contract[1], fan, make)
        own = x.ndim - len(contract[0])
        return made if batch[0] else _with_input_axes(made, range(own))
    if equation.context.sizes(x, y):
        made = equation.context.contract(
            equation, y, x, contract[0], fan, lambda w: contracted(w, y, contract, batch, equation.dtype)
        )
        return made if batch[0] else _with_input_axes(made, range(x.ndim - len(contract[0]), len(equation.shape)))
    averaged(equation, x, y, contract[1])
    averaged(equation, y, x, contract[0])
    made = in_common(x, y, contract, contracted(x, y, contract, batch, equation.dtype))
    made = of_sum(x, y, contract, len(batch[0]), fan, made)
    return by_rows(x, y, contract, batch, attended(x, y, contract, batch, fan, made, draws_of(equation.context)))


def _with_input_axes(made: Signal, axes: Iterable[int]) -> Signal:
    """A weight's output, told along which axes its inputs differ."""
    return made if made.is_constant else dataclasses.replace(made, input_axes=frozenset(axes))


@signals("ragged_dot", "ragged_dot_general")
def ragged_dot(equation: Equation, x: Signal, y: Signal, *_: Signal) -> Signal:
    """Groups of rows, each with its own matrix: as a contraction with one of them."""
    one = dataclasses.replace(y, shape=y.shape[1:], rho=_tables.dropped(y.rho, [0]))
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    inner = dataclasses.replace(equation, params={"dimension_numbers": contract})
    result = dot_general(inner, x, one)
    assert isinstance(result, Signal)
    return result


@signals("conv_general_dilated")
def convolution(equation: Equation, x: Signal, kernel: Signal) -> Signal:
    """A contraction over channels and taps; taps outside the image do not count."""
    numbers, p = equation.params["dimension_numbers"], equation.params
    valid = [
        strengths(
            taps(x.shape[i], kernel.shape[k], stride, tuple(padding), holes, dilation),
            x.shape[i],
            x.profiles.get(i),
            stride,
            padding[0],
            holes,
            dilation,
        )
        for i, k, stride, padding, holes, dilation in zip(
            numbers.lhs_spec[2:],
            numbers.rhs_spec[2:],
            p["window_strides"],
            p["padding"],
            p["lhs_dilation"],
            p["rhs_dilation"],
            strict=True,
        )
    ]
    channels = kernel.shape[numbers.rhs_spec[1]]
    fan = channels * math.prod(float((v > 0).sum(1).mean()) for v in valid)
    if not equation.context.sizes(kernel, x):
        return _convolved(equation, x, kernel, valid, channels, numbers)
    axes = tuple(numbers.rhs_spec[1:])
    made = equation.context.contract(
        equation, x, kernel, axes, fan, lambda w: _convolved(equation, x, w, valid, channels, numbers)
    )
    whole = int(p["feature_group_count"]) == int(p["batch_group_count"]) == 1
    return _with_input_axes(made, (a for a in range(x.ndim) if a != numbers.out_spec[1])) if whole else made


def _convolved(equation: Equation, x: Signal, kernel: Signal, valid: list[Any], channels: int, numbers: Any) -> Signal:
    # Axes of the joint table: batch, output channel, spatial ..., input channel, tap ...
    spatial = len(valid)
    ndim = 2 + spatial + 1 + spatial
    x_places = [0, 2 + spatial, *range(2, 2 + spatial)]
    kernel_places = [1, 2 + spatial, *range(3 + spatial, ndim)]
    left = _tables.broadcast(x.moments.transpose(numbers.lhs_spec), x_places, ndim)
    right = _tables.broadcast(kernel.moments.transpose(numbers.rhs_spec), kernel_places, ndim)
    table = _per_tap(left, right, valid, spatial, equation.context.twin == NEAR)
    n = float(channels)
    table = table.take(0, -1) * n + table.take(1, -1) * (n * (n - 1))
    mean = n * math.prod(float(v.sum(1).mean()) for v in valid) * x.mean * kernel.mean
    if int(equation.params["feature_group_count"]) > 1:
        # Another group's channel sees another part of the input.
        table = np.stack([table.take(0, 1), _of_other_groups(x, kernel, table, numbers)], 1)
    covariances = np.empty_like(table)
    covariances[...] = table - mean**2
    place = [numbers.out_spec.index(axis) for axis in range(len(numbers.out_spec))]
    covariances = covariances.transpose(place)
    variance = float(covariances.flat[0])
    if not variance > 0:
        return Signal.constant(mean, equation.shape, equation.dtype)
    rho = _tables.settled(np.clip(covariances / variance, -1, 1), equation.shape)
    made = Signal.normal(equation.shape, mean, variance, equation.dtype, rho)
    profiles = {numbers.out_spec[2 + s]: tap_profile(v) for s, v in enumerate(valid)}
    return dataclasses.replace(made, profiles=kept(profiles))


def _of_other_groups(x: Signal, kernel: Signal, table: Any, numbers: Any) -> Any:
    if kernel.mean == 0:
        return table.take(1, 1)
    # One fixed kernel for each channel, as in blurring: outputs correlate as the inputs do.
    channel = numbers.lhs_spec[1]
    one = tuple(int(a == channel) for a in range(x.ndim))
    ratio = float(x.moments[one] / max(1e-300, x.second_moment))
    return table.take(0, 1) * ratio


def _per_tap(left: Any, right: Any, valid: list[Any], spatial: int, near: bool) -> Any:
    """The product of the moments, summed over pairs of taps for each spatial axis in turn; taps are the last axes."""
    # Reduce the last tap axis first, so that the others keep their places.
    table = None
    for s in reversed(range(spatial)):
        tap = 3 + spatial + s
        first, second, _ = tap_moments(valid[s])
        both, all_pairs = _shared_taps(valid[s], near)
        if table is None:
            table = _scaled_products(left, right)
        same, other = table.take(0, tap), table.take(1, tap)
        here = first * same + second * other
        # Two places share the taps that are valid at both, on average over pairs of places;
        # and of two places of unlike strength it is their correlation that counts, which profiles leave as it is.
        roots = np.sqrt((valid[s] ** 2).sum(1) / max(1e-300, first))
        # Where holes leave every second place without a tap, neighbours share nothing.
        unlike = float((roots[:-1] * roots[1:]).mean() if near and len(roots) > 1 else roots.mean() ** 2)
        apart = (both * same + (all_pairs - both) * other) / max(1e-300, unlike)
        index0: list[Any] = [slice(None)] * here.ndim
        index1 = list(index0)
        index0[2 + s], index1[2 + s] = 0, 1
        table = np.stack([here[tuple(index0)], apart[tuple(index1)]], 2 + s)
    return left * right if table is None else table


def _shared_taps(taken: Any, near: bool) -> tuple[float, float]:
    """For two places, by strength: the taps that both have, and all pairs of taps."""
    if near and len(taken) > 1:
        first, second = taken[:-1], taken[1:]
        return float((first * second).sum(1).mean()), float((first.sum(1) * second.sum(1)).mean())
    frequency = taken.mean(0)
    return float((frequency**2).sum()), float(frequency.sum() ** 2)


def _scaled_products(left: Any, right: Any) -> Any:
    """Where taps differ but the place does not, the input's place differs after all."""
    spatial = (left.ndim - 3) // 2
    product = left * right
    for index in np.ndindex(product.shape):
        moved = list(index)
        for s in range(spatial):
            if index[3 + spatial + s]:
                moved[2 + s] = 1
        product[index] = left[tuple(moved)] * right[index]
    return product
