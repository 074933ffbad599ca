"""Adjoints of contractions: with the other operand, as it is scaled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._dependence import coherence, drawn_along, independent, moving, own_part
from qrjax._adjoint._registry import adjoint
from qrjax._adjoint._structure import Found, Given, Wanted
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import described
from qrjax._rules._reductions import places, taps
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import Floats
from qrjax._signals._signal import Signal


def factors(move: Move) -> list[Signal]:
    """The operands, weights as they are scaled."""
    found = [described(v) for v in move.met]
    if move.weight is not None:
        found[move.weight[0]] = move.weight[1]
    return found


def output_axes(move: Move) -> list[int]:
    """The axes of a product's weight that are its outputs; none where it is no product."""
    assert move.weight is not None
    place, params = move.weight[0], move.equation.params
    if move.equation.name == "dot_general":
        contracted, batch = params["dimension_numbers"]
        return [a for a in range(len(move.met[place].shape)) if a not in contracted[place] and a not in batch[place]]
    if move.equation.name == "conv_general_dilated":
        return [params["dimension_numbers"].rhs_spec[0]]
    return []


def summing(weight: Signal, axes: Sequence[int], share: float) -> Signal:
    """The weight with elements whose sum over all of `axes` has this share of an independent ones' square.

    So the layout "outputs" draws them: of one input all quantiles in turn, which add up to next to nothing.
    """
    size = math.prod(weight.shape[a] for a in axes)
    if size < 2 or weight.is_constant:
        return weight
    rho = weight.rho.copy()
    for pattern in np.ndindex(rho.shape):
        along = any(pattern[a] for a in axes if weight.shape[a] > 1)
        if along and not any(n for a, n in enumerate(pattern) if a not in axes and weight.shape[a] > 1):
            rho[pattern] = max(float(rho[pattern]) + (share - 1) / (size - 1), -1 / (size - 1))
    return dataclasses.replace(weight, rho=rho)


@adjoint("dot_general")
def dot_general(move: Move, given: Given, wanted: Wanted) -> Found | None:
    """The derivative contracted with the other operand."""
    x, y = factors(move)
    g, law = given[0], given[0].law()
    if isinstance(x, ComplexSignal) or isinstance(y, ComplexSignal):
        return None
    if law is None:
        return [None, None]
    (cx, cy), (bx, by) = move.equation.params["dimension_numbers"]
    b = len(bx)
    own_x = [a for a in range(x.ndim) if a not in cx and a not in bx]
    own_y = [a for a in range(y.ndim) if a not in cy and a not in by]
    out_x, out_y = range(b, b + len(own_x)), range(b + len(own_x), len(law.shape))
    found: Found = [None, None]
    batches, fan = list(range(b)), float(math.prod(x.shape[a] for a in cx))
    if wanted[0]:
        batch = list(zip(batches, by, strict=True))
        alike = coherence(g, y, out_y)
        moved = drawn_along(move, g, 0, out_y, independent(move, y, fan))
        found[0] = _contracted(law, y, out_y, own_y, batch, x, [*bx, *own_x, *cx], [*batches, *out_x], cy, alike, moved)
    if wanted[1]:
        batch = list(zip(batches, bx, strict=True))
        alike = coherence(g, x, out_x)
        moved = drawn_along(move, g, 1, out_x, independent(move, x, fan))
        found[1] = _contracted(law, x, out_x, own_x, batch, y, [*by, *own_y, *cy], [*batches, *out_y], cx, alike, moved)
    return found


def _contracted(
    law: Signal, other: Signal, summed: Any, other_summed: Any, batch: Any, to: Signal, axes: list[int], kept: Any,
    other_kept: Any, coherence: float = 0.0, moved: Floats | None = None,
) -> Cotangent:  # fmt: skip
    """The sum over `summed` of the derivative's law, `other_summed` of the other's.

    Args:
      batch: pairs of axes, of the derivative and of the other, that are the same.
      to: the operand by which the derivative is taken.
      axes: its axes in the order batch and own, which are the derivative's `kept`, then the other's `other_kept`.
      coherence: see `coherence`.
      moved: see `drawn_along`.
    """
    n, p, q = len(kept), len(list(other_kept)), len(list(summed))
    ndim = n + p + q
    b = len(batch)
    left = _tables.broadcast(law.moments.transpose([*kept, *summed]), [*range(n), *range(n + p, ndim)], ndim)
    right = _tables.broadcast(
        other.moments.transpose([*(a for _, a in batch), *other_kept, *other_summed]),
        [*range(b), *range(n, n + p), *range(n + p, ndim)],
        ndim,
    )
    shape = tuple(to.shape[a] for a in axes)
    sizes = (*shape, *(law.shape[a] for a in summed))
    both = left * right
    if moved is not None:
        own = (0,) * (n + p)
        both[own] += moving(moved.transpose([*kept, *summed])[(0,) * n], right[own])
    table = _tables.pair_sums(both, range(n + p, ndim), sizes)
    if coherence > 0:
        count = math.prod(sizes[n + p :])
        table += coherence * count**2 * own_part(left, range(n + p, ndim)) * own_part(right, range(n + p, ndim))
    back = tuple(int(a) for a in np.argsort(axes))
    found = Cotangent.of_table(tuple(to.shape), table.transpose(back), _kept_profiles(law, list(kept), axes))
    return found.born(other, axes[n:])


def _kept_profiles(law: Signal, kept: list[int], axes: list[int]) -> dict[int, Floats]:
    return {axes[kept.index(a)]: p for a, p in law.profiles.items() if a in kept}


@adjoint("conv_general_dilated")
def convolution(move: Move, given: Given, wanted: Wanted) -> Found | None:
    """Through the same taps, the other way."""
    x, kernel = factors(move)
    law = given[0].law()
    if (
        isinstance(x, ComplexSignal)
        or isinstance(kernel, ComplexSignal)
        or move.equation.params["batch_group_count"] > 1
    ):
        return None
    if law is None:
        return [None, None]
    numbers = move.equation.params["dimension_numbers"]
    return [
        _by_input(move, law, x, kernel, numbers) if wanted[0] else None,
        _by_kernel(move, given[0], x, kernel, numbers) if wanted[1] else None,
    ]


def _met(move: Move, x: Signal, law: Signal, kernel: Signal) -> list[tuple[Floats, NDArray[Any]]]:
    """For each spatial axis, by output and tap, the root of the derivative's relative second moment and the place met.

    The root is 0 where a tap meets nothing. Outputs that lie inside meet more taps on the way back as on the way forth,
    so derivatives are stronger there, from layer to layer more.
    """
    p, numbers = move.equation.params, move.equation.params["dimension_numbers"]
    found = []
    for s, (i, o, k) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True)):
        size, window, stride, (low, high) = x.shape[i], kernel.shape[k], p["window_strides"][s], p["padding"][s]
        holes, dilation = p["lhs_dilation"][s], p["rhs_dilation"][s]
        valid = taps(size, window, stride, (low, high), holes, dilation)
        roots = np.sqrt(law.profiles.get(o, np.ones(law.shape[o])))
        found.append((valid * roots[:, None], places(valid, size, stride, low, holes, dilation)))
    return found


class Taps(NamedTuple):
    """Of one axis of an input the taps that its places are met by, by the strength of the derivative.

    Attributes:
      own: those of one place, on average.
      both: those that meet both of two places. Places by the border, or on different sides of a stride, are met by
        different taps.
      pairs: pairs of taps, one of each of two places.
      profile: those of each place.
    """

    own: float
    both: float
    pairs: float
    profile: Floats

    @staticmethod
    def of(strengths: Floats, places: NDArray[Any], size: int) -> Taps:
        """Those of an axis of this size, as `_met` has them."""
        profile = np.asarray(np.bincount(places.ravel(), (strengths**2).ravel(), size), np.float64)
        both = (strengths.sum(0) ** 2 - (strengths**2).sum(0)).sum() / (size * (size - 1.0)) if size > 1 else 0.0
        return Taps(float(profile.mean()), float(both), (float(strengths.sum()) / size) ** 2, profile)


def _by_input(move: Move, law: Signal, x: Signal, kernel: Signal, numbers: Any) -> Cotangent:
    """Over the output's channels and the taps; places that differ share taps, with outputs as far apart.

    Two input channels of one group go into the same output channels, of two groups into others.
    """
    g = law.moments.transpose(numbers.out_spec)  # batch, channel, places
    w = kernel.moments.transpose(numbers.rhs_spec)  # output channel, input channel, taps
    spatial, groups = len(numbers.out_spec) - 2, int(move.equation.params["feature_group_count"])
    channels, fan = law.shape[numbers.out_spec[1]] / groups, kernel.shape[numbers.rhs_spec[1]]
    grouped = (fan - 1) / max(1, fan * groups - 1)
    met = _met(move, x, law, kernel)
    counts = [Taps.of(*own, x.shape[i]) for own, i in zip(met, numbers.lhs_spec[2:], strict=True)]
    pairs = math.prod(count.pairs for count in counts)
    same_tap, other_tap = (w.reshape(2, 2, -1)[..., i] for i in (0, -1))
    table = np.zeros((2,) * (2 + spatial))
    for example, channel, *where in np.ndindex(table.shape):
        same = math.prod(count.both if differs else count.own for count, differs in zip(counts, where, strict=True))
        # By whether the outputs' channels differ: taps that are the same, and others.
        near, far = g[(example, slice(None), *where)], g[(example, slice(None), *[1] * spatial)]
        through = same * same_tap * near[:, None] + max(0.0, pairs - same) * other_tap * far[:, None]
        own = channels * (through[0, channel] + (channels - 1) * through[1, channel])
        elsewhere = channels**2 * (through[1, 0] + (fan - 1) * through[1, 1]) / fan
        inside = grouped if channel and groups > 1 else 1.0
        table[(example, channel, *where)] = inside * own + (1 - inside) * elsewhere
    back = tuple(int(a) for a in np.argsort(numbers.lhs_spec))
    profiles = {i: normalized(count.profile) for i, count in zip(numbers.lhs_spec[2:], counts, strict=True)}
    return Cotangent.of_table(x.shape, table.transpose(back), kept(profiles))


def _by_kernel(move: Move, given: Cotangent, x: Signal, kernel: Signal, numbers: Any) -> Cotangent:
    """Over examples and places."""
    law = given.law()
    assert law is not None
    g, a = law.moments.transpose(numbers.out_spec), x.moments.transpose(numbers.lhs_spec)
    spatial = len(numbers.out_spec) - 2
    # Axes: output channel, input channel, taps, then example and places, which are summed over.
    ndim = 2 + spatial + 1 + spatial
    summed = range(2 + spatial, ndim)
    left = _tables.broadcast(g, [2 + spatial, 0, *range(3 + spatial, ndim)], ndim)
    right = _tables.broadcast(a, [2 + spatial, 1, *range(3 + spatial, ndim)], ndim)
    table = left * right
    # Another tap sees another place of the input.
    moved = _tables.broadcast(
        a[(slice(None), slice(None), *([slice(1, 2)] * spatial))].reshape(2, 2), [2 + spatial, 1], ndim
    )
    for pattern in np.ndindex((2,) * spatial):
        if any(pattern):
            index = (slice(None), slice(None), *pattern)
            table[index] = (left * moved)[index]
    fan = float(math.prod(kernel.shape[i] for i in numbers.rhs_spec[1:]))
    drawn = drawn_along(move, given, 1, (), fan)
    if drawn is not None:
        first = (0,) * (2 + spatial)
        drawn, inputs = (np.asarray(t.take(0, 1)) for t in (drawn.transpose(numbers.out_spec), a))
        table[first] += moving(drawn, inputs)
    # By the border a tap meets nothing, so that the outer ones add up less.
    met = zip(_met(move, x, law, kernel), numbers.lhs_spec[2:], strict=True)
    for axis, ((strengths, where), i) in reversed(list(zip(summed[1:], met, strict=True))):
        own = strengths * np.sqrt(x.profiles.get(i, np.ones(x.shape[i])))[where]
        squares, pairs = (own**2).sum(0), own.sum(0) ** 2
        table = np.asarray(table.take(0, axis) * squares.mean() + table.take(1, axis) * (pairs - squares).mean())
    sizes = (*(kernel.shape[i] for i in numbers.rhs_spec), law.shape[numbers.out_spec[0]])
    total = _tables.pair_sums(table, summed[:1], sizes)
    back = tuple(int(i) for i in np.argsort(numbers.rhs_spec))
    return Cotangent.of_table(kernel.shape, total.transpose(back))


@adjoint("ragged_dot", "ragged_dot_general")
def ragged_dot(move: Move, given: Given, wanted: Wanted) -> Found:
    """Rows of one group, through its matrix."""
    x, y = factors(move)[:2]
    law, found = given[0].law(), [None] * len(wanted)
    if law is None:
        return list(found)
    moment = law.second_moment
    by_x = Cotangent.noise(x.shape, moment * y.second_moment * y.shape[-1], law.rho if law.ndim == x.ndim else None)
    by_y = Cotangent.noise(y.shape, moment * x.second_moment * x.shape[0] / max(1, y.shape[0]))
    return [by_x if wanted[0] else None, by_y if wanted[1] else None, *found[2:]]
