"""Derivatives as sums of terms: a base that no forward value has a part in, times what the equations made of it.

Within what belongs together, a norm or an activation written in several equations, the same base comes back along
several ways, each with its own factor of forward values. These factors are signals like all others, so that terms of
one base add up as they do in the program: x * sigmoid(x) has the derivative of the whole, and what a norm takes away
of a derivative cancels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from qrjax._rules._functions import Linear, Product
from qrjax._rules._parts import moved
from qrjax._signals import _tables
from qrjax._signals._combine import combine
from qrjax._signals._reduce import summed
from qrjax._signals._signal import Signal
from qrjax._signals._source import Born
from qrjax._signals._tables import Shape

PRODUCT, SUM = Product(), Linear(np.add, (1.0, 1.0))


@dataclasses.dataclass(eq=False)
class Base:
    """What terms share: an array of mean zero.

    Attributes:
      law: its second moments.
      root: the base whose axes it splits.
      sizes: into what each axis of the root is split.
      splits: of a root, itself with split axes, by these sizes.
      born: of a contraction with a weight's output, where that comes from.
      along: the axes that it has of that output.
      atoms: independent bases of which it is a sum, with their factors; none if it is one itself. What is made of it
        adds up with what else is made of them.
    """

    law: Signal
    root: Base | None = None
    sizes: tuple[Shape, ...] | None = None
    splits: dict[tuple[Shape, ...], Base] = dataclasses.field(default_factory=dict)
    born: Born | None = None
    along: tuple[int, ...] = ()
    atoms: tuple[tuple[Base, float], ...] = ()

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
