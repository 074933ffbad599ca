"""Second moments of sums of terms."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from qrjax._adjoint._terms import Base, Term, added, multiplied
from qrjax._rules._parts import moved
from qrjax._signals import _tables
from qrjax._signals._masks import resolved
from qrjax._signals._profiles import FLAT
from qrjax._signals._quadrature import Floats
from qrjax._signals._reduce import summed
from qrjax._signals._signal import Signal
from qrjax._signals._tables import Shape


def crossed(x: Signal, y: Signal) -> Floats:
    """E[x y'] by the axes along which the two elements differ."""
    if x is y:
        return resolved(x).moments
    if x.is_constant or y.is_constant:
        return np.full((2,) * x.ndim, resolved(x).mean * resolved(y).mean)
    first, second = resolved(x), resolved(y)
    sizes = math.sqrt(first.second_moment), math.sqrt(second.second_moment)
    if not min(sizes) > 0:
        return np.zeros((2,) * x.ndim)
    # As parts of the same size, or the smaller would be lost in the larger.
    both = resolved(added(multiplied(x, 1 / sizes[0]), multiplied(y, 1 / sizes[1])))
    return (both.moments - first.moments / sizes[0] ** 2 - second.moments / sizes[1] ** 2) * sizes[0] * sizes[1] / 2


def strengths(base: Base, place: Sequence[int | None], outer: Signal) -> dict[int, Floats]:
    """How a term's second moment varies along axes, by its base and its factor, beside the product of their means."""
    own = {p: base.law.profiles[a] for a, p in enumerate(place) if p is not None and a in base.law.profiles}
    found = {axis: profile for axis, profile in {**outer.profiles, **own}.items() if profile.size == outer.shape[axis]}
    both = found.keys() & own.keys() & outer.profiles.keys()
    return found | {axis: own[axis] * outer.profiles[axis] for axis in both}


def _met(table: Floats, base: Base, place: Sequence[int | None], outer: Signal) -> Floats:
    """The moments of a term whose base and factor are strong, or weak, at the same places."""
    for axis, profile in strengths(base, place, outer).items():
        factor = float(profile.mean())
        if abs(factor - 1) > FLAT:
            table = np.stack([table.take(0, axis) * factor, table.take(1, axis)], axis)
    return table


def pair(t: Term, u: Term, law: Floats) -> Floats:
    """E[t u'] by the axes along which the two elements differ; `law` has the moments of their base."""
    if any(p is not None and q is not None and p != q for p, q in zip(t.place, u.place, strict=True)):
        return np.zeros((2,) * len(t.shape))
    first, second = _summed(t), _summed(u)
    if first == second:
        return _alike(t, u, law)
    if first and second:
        return np.zeros((2,) * len(t.shape))
    plain, other = (t, u) if second else (u, t)
    return _met(_one_sided(plain, other, law), t.base, other.place, _between(t.outer, u.outer))


def _summed(term: Term) -> tuple[int, ...]:
    """The axes of the base that were summed over."""
    return tuple(a for a, p in enumerate(term.place) if p is None)


def _alike(t: Term, u: Term, law: Floats) -> Floats:
    """Of two terms that sum over the same axes of the base."""
    outer = crossed(t.outer, u.outer)
    if t.inner is not None or u.inner is not None:
        ones = Signal.constant(1.0, t.base.law.shape)
        law = law * crossed(t.inner or ones, u.inner or ones) * _by_row(t, u)
    law = _tables.pair_sums(law, _summed(t), t.base.law.shape)
    found = outer * _tables.broadcast(law, [p for p in t.place if p is not None], outer.ndim)
    return _met(found, t.base, t.place, _between(t.outer, u.outer))


def _between(x: Signal, y: Signal) -> Signal:
    """A factor as strong at each place as the product of two."""
    if x is y or not (x.profiles or y.profiles):
        return x
    one = np.ones(1)
    axes = {**x.profiles, **y.profiles}
    lines = {a: np.sqrt(x.profiles.get(a, one) * y.profiles.get(a, one)) for a in axes}
    return dataclasses.replace(x, profiles={a: line / line.mean() for a, line in lines.items()})


def _by_row(t: Term, u: Term) -> float:
    """By how much the mean over rows of a product is more than the product of means.

    A softmax over few keys has large terms outside of the sum and within.
    """
    outer, inner = _row_means(t.outer, u.outer), _row_means(t.inner, u.inner)
    if outer is None or inner is None or outer.shape != inner.shape:
        return 1.0
    separate = float(outer.mean() * inner.mean())
    return max(0.0, float((outer * inner).mean()) / separate) if separate > 0 else 1.0


def _row_means(x: Signal | None, y: Signal | None) -> Floats | None:
    """The mean of x * y along each row of the sample that both are computed on."""
    if x is None or y is None or x.sample is None or y.sample is None or x.fiber is not y.fiber:
        return None
    return np.asarray((x.sample * y.sample).mean(1), np.float64)


def _one_sided(t: Term, u: Term, law: Floats) -> Floats:
    """Of a term and of one that sums over axes: the same element is among those, and the others."""
    axes, ndim = _summed(u), len(t.shape)
    held = [p for p in t.place if p is not None]
    along = [p for a in axes if (p := t.place[a]) is not None]
    outers, shared = crossed(t.outer, u.outer), _tables.broadcast(law, held, ndim)
    if u.inner is None:
        return outers * _row_sums(shared, along, t.shape)
    inner = moved(u.inner, t.shape, _tables.broadcast(u.inner.rho, held, ndim))
    mean, factor = resolved(u.inner).mean, resolved(u.outer).mean
    related = crossed(t.outer, inner) - resolved(t.outer).mean * mean
    result = mean * outers * _row_sums(shared, along, t.shape)
    result += factor * _row_sums(shared * related, along, t.shape)
    # An element and itself in the sum: the joint law of all three.
    origin = (0,) * ndim
    itself = crossed(multiplied(t.outer, inner), u.outer) - mean * outers - factor * related[origin]
    apart = tuple(0 if p in held and p not in along else slice(None) for p in range(ndim))
    result[apart] += shared[origin] * itself[apart]
    return result


def _row_sums(table: Floats, axes: Sequence[int], shape: Shape) -> Floats:
    """The sum over one of the two elements along axes, for any place of another."""
    for axis in axes:
        row = table.take(0, axis) + (shape[axis] - 1.0) * table.take(1, axis)
        table = np.stack([row, row], axis)
    return table


def moments(terms: Sequence[Term], shape: Shape) -> Floats:
    """E[g g'] of a sum of terms, by the axes along which the two elements differ."""
    table = np.zeros((2,) * len(shape))
    by_base: dict[Base, list[Term]] = {}
    for term in terms:
        by_base.setdefault(term.base, []).append(term)
    for base, own in by_base.items():
        table += _of_one_base(*_without_ones(base, own), len(shape))
    for (first, mine), (second, others) in itertools.combinations(by_base.items(), 2):
        both = _in_common(first, second)
        if both is not None:
            alike = ((t, u) for t in mine for u in others if t.is_plain and u.is_plain and t.place == u.place)
            table += 2 * sum((pair(t, u, both) for t, u in alike), np.zeros((2,) * len(shape)))
    return possible(table, shape)


def _in_common(first: Base, second: Base) -> Floats | None:
    """E[b b'] of an element of each of two bases, by the axes along which they differ, if they have atoms in common."""
    if not first.atoms and not second.atoms:
        return None
    mine, others = dict(first.atoms or ((first, 1.0),)), dict(second.atoms or ((second, 1.0),))
    parts = [mine[atom] * others[atom] * atom.law.moments for atom in mine if atom in others]
    return functools.reduce(np.add, parts) if parts else None


def _without_ones(base: Base, terms: list[Term]) -> tuple[Base, list[Term]]:
    """The same over a base without axes of length 1, of which none can say whether it was summed over."""
    ones = [a for a, n in enumerate(base.law.shape) if n == 1]
    if not ones:
        return base, terms
    less = Base(_squeezed(base.law, ones))
    return less, [
        Term(
            less,
            tuple(p for a, p in enumerate(t.place) if a not in ones),
            t.outer,
            None if t.inner is None else _squeezed(t.inner, ones),
        )
        for t in terms
    ]


def _squeezed(x: Signal, ones: Sequence[int]) -> Signal:
    left = tuple(a for a in range(x.ndim) if a not in ones)
    return moved(x, tuple(x.shape[a] for a in left), _tables.dropped(x.rho, ones), left)


def _of_one_base(base: Base, terms: Sequence[Term], ndim: int) -> Floats:
    """What the base's elements have in common along axes that are summed over goes through the sum of all factors.

    That is nothing in a softmax or a norm, and would be lost in the small difference of large numbers.
    """
    law, table = base.law.moments, np.zeros((2,) * ndim)
    axes = max(map(_summed, terms), key=len)
    if axes and len(terms) > 1 and all(_summed(term) in ((), axes) for term in terms):
        common = law[tuple(1 if a in axes else slice(None) for a in range(law.ndim))]
        whole = functools.reduce(added, [_with_sum(term, axes) for term in terms])
        places = [p for p in max(terms, key=lambda t: len(_summed(t))).place if p is not None]
        shared = crossed(whole, whole) * _tables.broadcast(common, places, ndim)
        table += _met(shared, base, max(terms, key=lambda t: len(_summed(t))).place, whole)
        left = [a for a in range(law.ndim) if a not in axes]
        law = law - _tables.broadcast(common, left, law.ndim)
    own = sum((pair(term, term, law) for term in terms), np.zeros((2,) * ndim))
    both = own + 2 * sum((pair(t, u, law) for t, u in itertools.combinations(terms, 2)), np.zeros((2,) * ndim))
    # What terms leave of each other is not less than nothing.
    return table + (both if float(both.flat[0]) > 1e-9 * float(own.flat[0]) else 1e-9 * own)


def _with_sum(term: Term, axes: Sequence[int]) -> Signal:
    """The factor of what the base's elements have in common along the axes."""
    if not _summed(term):
        return term.outer
    n = math.prod(term.base.law.shape[a] for a in axes)
    if term.inner is None:
        return multiplied(term.outer, float(n))
    total = summed(term.inner, axes)
    held = [p for p in term.place if p is not None]
    laid = moved(total, term.shape, _tables.broadcast(total.rho, held, len(term.shape)))
    return multiplied(term.outer, laid)


def possible(table: Floats, shape: Shape) -> Floats:
    """The moments without what no array can have: sums, and differences, of a negative mean square.

    For each set of axes the sums along these of differences along all others are what an exchangeable array's second
    moments are eigenvalues of: same + (n - 1) other, and same - other, along each axis. A cross moment of two sums may
    well be negative: what a norm's mean takes away leaves sums over examples and places together that are zero.
    """
    axes, found = [axis for axis, n in enumerate(shape) if n > 1], table
    for axis in axes:
        same, other = found.take(0, axis), found.take(1, axis)
        found = np.stack([same + (shape[axis] - 1) * other, same - other], axis)
    found = np.maximum(found, 0.0)
    for axis in axes:
        total, apart = found.take(0, axis), found.take(1, axis)
        found = np.stack([total + (shape[axis] - 1) * apart, total - apart], axis) / shape[axis]
    own = float(found.flat[0])
    return found * (float(table.flat[0]) / own) if own > 0 else table
