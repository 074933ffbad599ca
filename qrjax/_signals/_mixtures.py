"""Signals whose elements come from one of several others: concatenation, padding, branches, stacked steps."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._lags import LITTLE, STEP
from qrjax._signals._places import Laid, alike
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import WEIGHTS, Floats, correlation, hermite_squares, quantiles
from qrjax._signals._signal import Profiles, Signal, Source
from qrjax._signals._tables import Shape

# What lies beside so many others at most is remembered.
FEW = 8
# Ratios of correlations are known to this.
SLOWER = 0.03
# Parts are of unlike strength where the weakest has less than this share of the strongest.
UNLIKE = 0.25
# P(first element from part i, second from part j), for two elements that differ along these axes.
Pairs = Callable[[tuple[int, ...]], Floats]


def mixed(parts: Sequence[Signal], shares: Sequence[float], pairs: Pairs, shape: Shape, dtype: Any) -> Signal:
    """The signal whose elements come from the parts in these shares; the parts have its rank."""
    if all(part.is_constant and part.mean == parts[0].mean for part in parts):
        return Signal.constant(parts[0].mean, shape, dtype)
    weights = np.concatenate([share * WEIGHTS for share in shares])
    values = quantiles(np.concatenate([part.values for part in parts]), weights)
    mean = float(sum(share * part.mean for share, part in zip(shares, parts, strict=True)))
    moments, ties = np.empty((2,) * len(shape)), _relations(parts)
    for pattern in itertools.product((0, 1), repeat=len(shape)):
        moments[pattern] = float((pairs(pattern) * _cross_moments(parts, ties, pattern)).sum())
    rho = correlation(hermite_squares(values), moments - mean**2)
    if all(part.is_constant or part.rho.min() >= 1.0 for part in parts):
        rho = np.where(moments - mean**2 >= moments.flat[0] - mean**2 - 1e-12 * abs(moments.flat[0]), 1.0, rho)
    rho.flat[0] = 1.0
    return Signal(shape, np.dtype(dtype), values, _source(parts), _tables.settled(rho, shape))


def _cross_moments(parts: Sequence[Signal], ties: Floats, pattern: tuple[int, ...]) -> Floats:
    means = np.array([part.mean for part in parts])
    roots = np.sqrt(np.maximum([float(part.covariances[pattern]) for part in parts], 0.0))
    return means[:, None] * means[None, :] + ties * roots[:, None] * roots[None, :]


def _relations(parts: Sequence[Signal]) -> Floats:
    """The correlations of the parts' sources with each other."""
    found = np.eye(len(parts))
    for i, j in itertools.combinations(range(len(parts)), 2):
        found[i, j] = found[j, i] = _relation(parts[i], parts[j])
    return found


def _relation(a: Signal, b: Signal) -> float:
    return 0.0 if a.source is None or b.source is None else alike(a.source, b.source)


def _source(parts: Sequence[Signal]) -> Source:
    """A rearrangement of one array's own parts stays kin to it; other mixtures are new."""
    bases = {part.source.base if part.source and part.source.base else part.source for part in parts}
    base = next(iter(bases))
    if len(bases) != 1 or base is None:
        return Source()
    shifts = [part.source.shift for part in parts if part.source is not None and part.source.base is base]
    return Source(base=base, shift=min(shifts, default=1.0 - 1e-9))


def along(axis: int, sizes: Sequence[int]) -> tuple[list[float], Pairs]:
    """The shares and the pairs of parts laid one after another along an axis."""
    n = float(sum(sizes))
    shares = np.array(sizes) / n
    both = np.outer(sizes, sizes) - np.diag(sizes)
    other = both / max(1.0, n * (n - 1))

    def pairs(pattern: tuple[int, ...]) -> Floats:
        return other if pattern[axis] else np.diag(shares)

    return list(shares), pairs


def concatenated(parts: Sequence[Signal], axis: int, shape: Shape, dtype: Any) -> Signal:
    """The parts one after another along the axis."""
    parts = [part for part in parts if part.shape[axis] > 0]
    sizes = [part.shape[axis] for part in parts]
    shares, pairs = along(axis, sizes)
    made = mixed(parts, shares, pairs, shape, dtype)
    if made.source is not None and len(parts) <= FEW:
        made.source.laid = Laid(tuple((p.values, p.source) for p in parts), tuple(shares), made.values, axis)
    if any(p.profiles for p in parts):
        return dataclasses.replace(made, profiles=_side_by_side(parts, axis))
    moments = [p.second_moment for p in parts]
    return _of_unlike(made, parts, axis) if min(moments) < UNLIKE * max(moments) else made


def _of_unlike(made: Signal, parts: Sequence[Signal], axis: int) -> Signal:
    """Parts of very unlike strength, as a token that starts at zero before others, or the top of an empty stack."""
    profiles = _side_by_side(parts, axis)
    roots = np.sqrt(profiles.get(axis, np.ones(1)))
    rho = made.rho.copy()
    other = [slice(None)] * rho.ndim
    other[axis] = slice(1, 2)
    # What pairs of unlike places have in common is told by the profile from here on.
    rho[tuple(other)] = np.clip(rho[tuple(other)] / float(roots.mean() ** 2), -1.0, 1.0)
    return dataclasses.replace(made, rho=_tables.settled(rho, made.shape), profiles=profiles)


def _side_by_side(parts: Sequence[Signal], axis: int) -> Profiles:
    """Profiles of other axes average by energy, those of the axis itself follow one another."""
    found = {}
    energies = [part.second_moment * part.shape[axis] for part in parts]
    for a in {axis, *(a for part in parts for a in part.profiles)}:
        if a == axis:
            ones = [part.profiles.get(a, np.ones(part.shape[a])) * part.second_moment for part in parts]
            found[a] = normalized(np.concatenate(ones))
        else:
            terms = [e * part.profiles.get(a, np.ones(1)) for e, part in zip(energies, parts, strict=True)]
            found[a] = normalized(np.asarray(sum(terms)))
    return kept(found)


def surrounded(x: Signal, filler: Signal, inside: Sequence[tuple[int, int]], shape: Shape) -> Signal:
    """`x` with the filler around or between its elements: along axis a, inside[a] = (own, total) positions."""
    share = float(np.prod([own / total for own, total in inside]))

    def pairs(pattern: tuple[int, ...]) -> Floats:
        both = 1.0
        for p, (own, total) in zip(pattern, inside, strict=True):
            both *= own * (own - 1) / max(1, total * (total - 1)) if p else own / total
        return np.array([[both, share - both], [share - both, 1 - 2 * share + both]])

    whole = x.fresh(shape=shape)
    around = Signal.constant(filler.mean, shape, x.dtype)
    return mixed([whole, around], [share, 1 - share], pairs, shape, x.dtype)


def chosen(parts: Sequence[Signal], shares: Sequence[float]) -> Signal:
    """One of the parts for the whole array: the outcome of a branch that is not known."""
    first = parts[0]
    diagonal = np.diag(np.asarray(shares, np.float64))
    return mixed(parts, shares, lambda _: diagonal, first.shape, first.dtype)


def stacked(steps: Sequence[Signal], counts: Sequence[int], far: Floats, lags: Sequence[float]) -> Signal:
    """Signals of successive steps as one with a leading axis.

    Args:
      steps: distinct steps, in order.
      counts: how many steps each stands for.
      far: the correlations between two steps far apart, over the steps' own axes.
      lags: the correlations of the last step's source with those before it; it goes on as they end.
    """
    n = int(sum(counts))
    first = steps[0]
    shape = (n, *first.shape)
    shares = np.array(counts) / n
    within = mixed(steps, list(shares), lambda _: np.diag(shares), first.shape, first.dtype)
    if within.is_constant:
        return Signal.constant(within.mean, shape, first.dtype)
    k = np.arange(1, n)
    # What is common to steps however far apart is no part of what dies out.
    common = min(max(0.0, float(far.flat[0])), 0.999)
    beyond = [(lag - common) / (1 - common) for lag in lags]
    dying = _continued(beyond, n - 1)
    shared = float(((n - k) * dying).sum() * 2 / max(1, n * (n - 1))), float(dying[0]) if n > 1 else 1.0
    average, next_to = (
        _tables.settled(np.stack([within.rho, far + (within.rho - far) * share]), shape) for share in shared
    )
    twins = {(STEP, n): next_to} if np.abs(next_to - average).max() > LITTLE else {}
    strengths = np.repeat([step.second_moment for step in steps], counts)
    profiles = kept({0: normalized(strengths)})
    return within.fresh(shape=shape, rho=average, twins=twins, profiles=profiles, source=Source())


def _continued(lags: Sequence[float], count: int) -> Floats:
    """The correlations of steps so far apart: as those given, as long as they die out ever more slowly, and on so.

    What many units forget at rates of their own does that; a faster decay is the sample's, or the first steps'.
    """
    found: list[float] = []
    ratio = 0.0
    for lag in np.clip(lags, 0.0, 0.999):
        last = found[-1] if found else 1.0
        if lag < (ratio - SLOWER) * last or last == 0:
            break
        found.append(float(lag))
        ratio = max(ratio, lag / last)
    ratio = min(ratio, 0.999) if found else 0.0
    further = (found[-1] if found else 0.0) * ratio ** np.arange(1, max(0, count - len(found)) + 1)
    return np.concatenate([found, further])[:count]
