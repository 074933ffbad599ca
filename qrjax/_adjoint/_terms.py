"""Derivatives as sums of terms: a base that no forward value has a part in, times what the equations made of it.

Within what belongs together, a norm or an activation written in several equations, the same base comes back along
several ways, each with its own factor of forward values. These factors are signals like all others, so that terms of
one base add up as they do in the program: x * sigmoid(x) has the derivative of the whole, and what a norm takes away
of a derivative cancels.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from qrjax._rules._functions import Linear, Product
from qrjax._rules._parts import moved
from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._masks import resolved
from qrjax._signals._quadrature import Floats
from qrjax._signals._reduce import summed
from qrjax._signals._signal import Signal, Source
from qrjax._signals._tables import Shape

PRODUCT, SUM = Product(), Linear(np.add, (1.0, 1.0))


@dataclasses.dataclass(eq=False)
class Base:
    """What terms share: an array of mean zero.

    Attributes:
      law: its second moments.
      shared: whether it comes back at other steps, where what became of it adds up.
      root: the base whose axes it splits.
      sizes: into what each axis of the root is split.
      splits: of a root, itself with split axes, by these sizes.
      born: of a contraction with a weight's output, the source of its input and the number of products summed.
    """

    law: Signal
    shared: bool = False
    root: Base | None = None
    sizes: tuple[Shape, ...] | None = None
    splits: dict[tuple[Shape, ...], Base] = dataclasses.field(default_factory=dict)
    born: tuple[Source, float] | None = None

    @property
    def whole(self) -> Base:
        """The base whose axes it splits, or itself."""
        return self.root or self


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """outer * (the sum over some of the base's axes of inner * base).

    Attributes:
      base: the base.
      place: for each axis of the base, the axis of the term that it is; None for those summed over.
      outer: a forward signal of the term's shape.
      inner: a forward signal of the base's shape; None for ones.
    """

    base: Base
    place: tuple[int | None, ...]
    outer: Signal
    inner: Signal | None = None

    @staticmethod
    def of(law: Signal) -> Term:
        """A term that is its base."""
        return Term(Base(law), tuple(range(law.ndim)), Signal.constant(1.0, law.shape))

    @property
    def shape(self) -> Shape:
        return self.outer.shape

    @property
    def is_plain(self) -> bool:
        """Whether nothing was summed."""
        return self.inner is None and None not in self.place

    @property
    def is_base(self) -> bool:
        """Whether it is its base as it stands."""
        as_it_stands = self.is_plain and self.place == tuple(range(len(self.shape)))
        return as_it_stands and self.outer.is_constant and self.outer.mean == 1.0

    def times(self, factor: Signal | float) -> Term:
        """The term multiplied by a number or by a forward signal of its shape."""
        return dataclasses.replace(self, outer=multiplied(self.outer, factor))

    def like(self, other: Term) -> bool:
        """Whether only their outer factors differ."""
        return self.base is other.base and self.place == other.place and self.inner is other.inner


def multiplied(x: Signal, factor: Signal | float) -> Signal:
    """A product of forward signals."""
    if isinstance(factor, Signal) and factor.is_constant:
        factor = factor.mean
    if not isinstance(factor, Signal):
        if factor == 1.0:
            return x
        if x.is_constant:
            return Signal.constant(x.mean * factor, x.shape)
        inner, number = x.at, float(factor)
        at = None if inner is None else lambda z: number * inner(z)
        return x.fresh(values=x.values * number, profiles=x.profiles, at=at, fiber=x.fiber,
                       sample=None if x.sample is None else x.sample * number)  # fmt: skip
    if x.is_constant:
        return multiplied(factor, x.mean)
    return combine(PRODUCT, [x, factor], x.shape, np.float32)


def added(x: Signal, y: Signal) -> Signal:
    """A sum of forward signals."""
    return combine(SUM, [x, y], x.shape, np.float32)


# -- in other shapes ----------------------------------------------------------------------------------------------


def total(term: Term, axes: Sequence[int]) -> Term | None:
    """The sum over axes of the term, without them; None where terms cannot say it."""
    axes = tuple(sorted(axes))
    held = [axis for axis in axes if axis in term.place]
    idle = [axis for axis in axes if axis not in term.place]
    outer = term.outer
    if idle and held:
        # First over what the base has no part in.
        first = total(term, idle)
        left = [a for a in range(len(term.shape)) if a not in idle]
        return None if first is None else total(first, [left.index(a) for a in held])
    kept = [a for a in range(len(term.shape)) if a not in axes]
    shape = tuple(term.shape[a] for a in kept)
    renumbered = {a: i for i, a in enumerate(kept)}
    if not held:
        return dataclasses.replace(
            term, outer=summed(outer, axes), place=tuple(None if p is None else renumbered[p] for p in term.place)
        )
    place = tuple(None if p is None or p in axes else renumbered[p] for p in term.place)
    if not _varies(outer, axes):
        less = moved(outer, shape, _tables.dropped(outer.rho, axes), tuple(kept))
        return dataclasses.replace(term, place=place, outer=less)
    if any(a not in term.place for a in range(len(term.shape))):
        return None
    # Along the base's axes, for each of what the term sums over already.
    held = [p for p in term.place if p is not None]
    own = [a for a, p in enumerate(term.place) if p is not None]
    turned = outer if held == list(range(len(held))) and len(held) == len(term.place) else moved(
        outer, term.base.law.shape, _tables.broadcast(outer.rho.transpose(held), own, len(term.place)),
        tuple(held) if len(held) == len(term.place) else None,
    )  # fmt: skip
    inner = turned if term.inner is None else multiplied(term.inner, turned)
    return Term(term.base, place, Signal.constant(1.0, shape), inner)


def _varies(x: Signal, axes: Sequence[int]) -> bool:
    """Whether two elements can differ that only differ in their places along these axes."""
    if x.is_constant:
        return False
    if any(axis in x.profiles for axis in axes):
        return True
    return any(bool(np.any(x.rho.take(1, a) < x.rho.take(0, a))) for a in axes if x.shape[a] > 1)


def spread(term: Term, dimensions: Sequence[int], shape: Shape) -> Term:
    """The term with new axes, along which nothing differs."""
    outer = moved(term.outer, shape, _tables.broadcast(term.outer.rho, dimensions, len(shape)))
    return dataclasses.replace(term, outer=outer, place=tuple(None if p is None else dimensions[p] for p in term.place))


def permuted(term: Term, order: Sequence[int]) -> Term:
    """The term with its axes in another order."""
    outer = moved(term.outer, tuple(term.shape[a] for a in order), term.outer.rho.transpose(order), tuple(order))
    return dataclasses.replace(
        term, outer=outer, place=tuple(None if p is None else list(order).index(p) for p in term.place)
    )


# -- second moments -----------------------------------------------------------------------------------------------


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


def pair(t: Term, u: Term, law: Floats) -> Floats:
    """E[t u'] by the axes along which the two elements differ; `law` has the moments of their base."""
    if any(p is not None and q is not None and p != q for p, q in zip(t.place, u.place, strict=True)):
        return np.zeros((2,) * len(t.shape))
    first, second = _summed(t), _summed(u)
    if first == second:
        return _alike(t, u, law)
    if not first:
        return _one_sided(t, u, law)
    return np.zeros((2,) * len(t.shape)) if second else _one_sided(u, t, law)


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
    return outer * _tables.broadcast(law, [p for p in t.place if p is not None], outer.ndim)


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
    for base in dict.fromkeys(term.base for term in terms):
        table += _of_one_base(*_without_ones(base, [term for term in terms if term.base is base]), len(shape))
    return possible(table, shape)


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
        table += crossed(whole, whole) * _tables.broadcast(common, places, ndim)
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
    """The moments, with sums along axes whose squares have a mean that is not negative."""
    for axis, n in enumerate(shape):
        if n > 1:
            same, other = table.take(0, axis), table.take(1, axis)
            least = np.where(same > 0, -same / (n - 1), other)
            table = np.stack([same, np.maximum(other, least)], axis)
    return table
