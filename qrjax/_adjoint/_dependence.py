"""Where a product's derivative and its factors are not independent: both come from one input, or by one activation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._terms import Term
from qrjax._interpreter._tape import Move
from qrjax._signals import _tables
from qrjax._signals._quadrature import NODES, WEIGHTS, Floats
from qrjax._signals._ranks import behind_weight
from qrjax._signals._signal import Signal, Source


def coherence(g: Cotangent, other: Signal, summed: Sequence[int]) -> float:
    """By how much n terms add up as one does n-fold, where the derivative and the other come from one input.

    With values W x_j and keys V x_j of x_j of effective rank D, the derivative by a query is V C W^T a: C is the
    covariance of the x_j under the softmax's weights. Independent numbers in their places would only see how it strays
    from its mean, a multiple of the identity. By a key it is a sum over queries, whose places are not the values'.
    """
    n = math.prod(g.shape[a] for a in summed)
    if other.source is None or other.source.born is None:
        return 0.0
    own = other.source.born
    for term in g.terms:
        born, weights = term.base.born, term.outer
        if born is None or born.parent is not own.parent or not term.is_plain or weights.mean == 0:
            continue
        if not set(summed) <= {term.place[a] for a in term.base.along}:
            continue
        counted = n * weights.mean**2 / weights.second_moment
        return counted / n / max(own.rank, born.rank) * max(0.0, 1 - 1 / max(1.0, counted)) ** 2
    return 0.0


def independent(move: Move, other: Signal, products: float) -> float:
    """How many independent numbers a product sums: of two weights' outputs fewer than there are products."""
    known = None if other.source is None or move.weight is not None else other.source.born
    return products if known is None else behind_weight(known.rank, products)


def drawn_along(move: Move, g: Cotangent, place: int, summed: Sequence[int], rank: float) -> Floats | None:
    """Of a derivative by an operand, E[b b'] E[f Z]^2 for each of the independent numbers, `rank` of them, that Z sums.

    This is what an activation behind a product makes of shared numbers b.

    The derivative is b f(Z) with the product's own normal score Z, of which each factor is a part. So the other factor
    and the derivative are not independent: their product has a mean, which goes with the operand itself, and where b is
    the same for many examples or places these means add up: a weight's over a batch, a key's over its queries. Behind
    a norm they do not, as it takes out of the derivative what this has in common with the norm's input; nor along what
    a softmax sums to one.
    """
    if (move.weight is not None and move.weight[0] != place) or g.laid != g.shape:
        return None
    result, found = move.results[0], None
    if not isinstance(result, Signal) or result.source is None:
        return None
    normed = {id(term.base.whole) for term in g.terms if not term.is_plain and _sums(term, summed, move.weight is None)}
    for term in g.terms:
        tie = _tie(term.outer, result.source)
        if not tie or not term.is_plain or id(term.base.whole) in normed:
            continue
        slope = tie * float(WEIGHTS @ (term.outer.values * NODES))
        own = slope**2 * _tables.broadcast(
            term.base.law.moments, [p for p in term.place if p is not None], len(g.shape)
        )
        found = own if found is None else found + own
    return None if found is None else found / rank


def _tie(outer: Signal, source: Source) -> float:
    """The correlation of a factor's score with a product's."""
    if outer.source is None:
        return 0.0
    return 1.0 if outer.source is source else outer.source.kin.get(source, 0.0)


def _sums(term: Term, axes: Sequence[int], apart: bool) -> bool:
    """Whether it sums over a base, and if axes are told `apart`, whether over what has its place along these."""
    return not apart or any(a not in term.place for a in axes)


def moving(moved: Floats, inputs: Floats) -> Floats:
    """By the places that differ what these means add to a derivative by a weight.

    E[x f(Z)] is the covariance of x and Z, of the part of x that is not the same in both places, times E[f Z]. Nothing
    is added to an element's own square.
    """
    whole = float(inputs.flat[0])
    result = np.asarray((whole - inputs) ** 2 / max(whole, 1e-300) * moved)
    result.flat[0] = 0.0
    return result


def own_part(table: Floats, axes: range) -> Floats:
    """What elements have that those in other places along the axes do not share."""
    for axis in reversed(axes):
        table = np.asarray(table.take(0, axis) - table.take(1, axis))
    return table
