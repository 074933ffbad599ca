"""The adjoint of a concatenation: to each part its own, by its own scale where a norm divided by that."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._registry import adjoint
from qrjax._adjoint._structure import Found, Given, Wanted, piece
from qrjax._adjoint._terms import Term
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import Opaque, described
from qrjax._signals._places import Part
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import WEIGHTS, Floats
from qrjax._signals._signal import Source


@adjoint("concatenate")
def concatenate(move: Move, given: Given, wanted: Wanted) -> Found:
    """To each its own part."""
    axis, start, found = move.equation.params["dimension"], 0, []
    several = _by_scale(move, given[0], axis)
    for value, is_wanted in zip(move.met, wanted, strict=True):
        shape, total = tuple(value.shape), Cotangent(tuple(value.shape))
        for g in several if is_wanted else ():
            total = total.plus(piece(g, shape, axis, start))
        found.append(total if is_wanted else None)
        start += shape[axis]
    return found


def _by_scale(move: Move, g: Cotangent, axis: int) -> list[Cotangent]:
    """The derivative in two: what a norm of each place along the axis hands back, and the rest.

    A batch norm divides each channel, and a group norm each group, by its own standard deviation, and so it does with
    the derivative; the law of all channels together knows one factor.
    """
    own = g.fine([axis])
    normed = {term.base.whole for term in g.terms if _is_normed(term, own)}
    if not normed:
        return [g]
    ours, rest = (
        Cotangent(g.shape, tuple(t for t in g.terms if (t.base.whole in normed) is chosen)) for chosen in (True, False)
    )
    variances = np.concatenate([_variances(described(v).values, described(v).source, axis, v.shape[axis])
                                for v in move.met if not isinstance(v, Opaque)])  # fmt: skip
    law = ours.law()
    if law is None or len(variances) != g.shape[axis] or not variances.min() > 0:
        return [g]
    # By place the walk's norm has divided by one number, so that its own factors' strengths are the inputs'.
    profile = normalized(_of_bases(ours, own, len(variances)) / variances)
    scaled = Cotangent.of(dataclasses.replace(law, profiles=kept(law.profiles | {axis: profile})))
    # The walk's norm divides all channels by the root of their mean variance.
    return [scaled.times(math.sqrt(float(variances.mean() * (1 / variances).mean()))), rest]


def _of_bases(g: Cotangent, axes: list[int], size: int) -> Floats:
    """How a derivative's bases vary along an axis."""
    held = (
        term.base.law.profiles[a]
        for term in g.terms
        for a, p in enumerate(term.place)
        if p in axes and a in term.base.law.profiles
    )
    return next((profile for profile in held if profile.size == size), np.ones(1))


def _is_normed(term: Term, axes: list[int]) -> bool:
    """Whether it is a sum over other axes for each place, or each group of places, along these."""
    sizes = term.base.law.shape
    summed = any(p is None and n > 1 for p, n in zip(term.place, sizes, strict=True))
    return summed and any(a in term.place for a in axes if term.shape[a] > 1)


def _variances(values: Floats, source: Source | None, axis: int, size: int) -> Floats:
    """Of an array at each place along the axis, by the arrays that lie beside each other in it."""
    laid = source.laid if source is not None else None
    if laid is not None and laid.axis == axis and np.array_equal(laid.values, values):
        sizes = [round(share * size) for share in laid.shares]
        if sum(sizes) == size and np.allclose(sizes, np.multiply(laid.shares, size), atol=1e-6 * size):
            parts: list[tuple[Part, int]] = list(zip(laid.parts, sizes, strict=True))
            return np.concatenate([_variances(*part, axis, n) for part, n in parts])
    law = WEIGHTS if len(values) == len(WEIGHTS) else np.ones(1)
    mean = float(law @ values)
    return np.full(size, float(law @ values**2) - mean**2)
