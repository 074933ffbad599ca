"""Terms over finer axes than their cotangent's: what a reshape splits or merges, terms keep apart.

A group norm takes means over parts of an axis that a reshape splits, spreads them and merges the axes again. Terms of
the array as it was and of its groups cancel only if both say which part of the axis they sum over. So a cotangent's
terms may lie in a shape of which its own merges axes, and their bases with them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from qrjax._adjoint._terms import Base, Term
from qrjax._rules._parts import moved
from qrjax._signals import _tables
from qrjax._signals._profiles import renamed
from qrjax._signals._signal import Signal
from qrjax._signals._tables import Shape

# A table has 2 to the number of axes entries.
MOST_AXES = 8


def runs(fine: Shape, shape: Shape) -> list[list[int]]:
    """For each axis of a shape the axes of a finer one that it merges."""
    found, start = [], 0
    for size in shape:
        stop = start + 1
        while math.prod(fine[start:stop]) != size:
            stop += 1
        # Axes of length 1 belong to what is before them, unless an axis of length 1 is next.
        found.append(list(range(start, stop)))
        start = stop
    return found


def common(fine: Shape, shape: Shape) -> Shape | None:
    """A shape that `shape` merges, and `fine` but for axes of length 1; None if there is none, or it has many axes."""
    if 0 in fine or 0 in shape:
        return None
    pieces = _tables.pieces(fine, shape)
    if pieces is None:
        return None
    found: list[int] = []
    for run in _tables.runs(pieces, shape):
        found += [pieces[a] for a in run] or [1]
    return tuple(found) if len(found) <= max(MOST_AXES, len(shape)) else None


def laid(x: Signal, shape: Shape) -> Signal:
    """A forward signal in another shape."""
    if x.shape == shape:
        return x
    result = moved(x, shape, _tables.reshaped(x.rho, x.shape, shape))
    return dataclasses.replace(result, profiles=renamed(x.profiles, _tables.whole(x.shape, shape)))


def refined(term: Term, shape: Shape) -> Term:
    """The term in a finer shape, see `common`."""
    if term.shape == shape:
        return term
    pieces = _pieces(term.shape, shape)
    sizes: list[Shape] = []
    place: list[int | None] = []
    for size, p in zip(term.base.law.shape, term.place, strict=True):
        own: list[int | None] = [None] if p is None else [*pieces[p]] or [None]
        sizes.append((size,) if len(own) == 1 else tuple(shape[a] for a in own if a is not None))
        place += own
    base, inner = divided(term.base, sizes), term.inner
    return Term(
        base,
        tuple(place),
        laid(term.outer, shape),
        None if inner is None else laid(inner, base.law.shape),
    )


def _pieces(old: Shape, new: Shape) -> dict[int, list[int]]:
    """For each axis the axes that it becomes: none, if it has length 1."""
    found, j = {}, 0
    for axis, size in enumerate(old):
        own, reached = [], 1
        while reached != size:
            reached *= new[j]
            if new[j] != 1:
                own.append(j)
            j += 1
        found[axis] = own
    return found


def divided(base: Base, sizes: Sequence[Shape]) -> Base:
    """The base with its axes split; the same one whenever it is split so."""
    if all(len(own) == 1 for own in sizes):
        return base
    root = base.whole
    parts, rest = [], list(sizes)
    for own in base.sizes or [(n,) for n in base.law.shape]:
        parts.append(tuple(n for _ in own for n in rest.pop(0)))
    return _of_root(root, tuple(parts))


def _of_root(root: Base, parts: tuple[Shape, ...]) -> Base:
    if all(len(own) == 1 for own in parts):
        return root
    if parts not in root.splits:
        shape = tuple(n for own in parts for n in own)
        root.splits[parts] = Base(laid(root.law, shape), root, parts, born=root.born)
    return root.splits[parts]


def aligned(terms: Sequence[Term]) -> list[Term] | None:
    """The terms with bases that are split alike; None where that cannot be."""
    found = list(terms)
    for root in dict.fromkeys(t.base.root for t in terms if t.base.root is not None):
        own = [i for i, t in enumerate(found) if t.base.whole is root]
        several = [found[i].base.sizes or tuple((n,) for n in root.law.shape) for i in own]
        if len(set(several)) == 1:
            continue
        # Axes of length 1 have no pieces.
        pieces = [(column[0], _tables.pieces(*column)) for column in zip(*several, strict=True)]
        wanted = tuple(first if found == () else found for first, found in pieces if found is not None)
        if len(wanted) < len(pieces):
            return None
        for i, have in zip(own, several, strict=True):
            made = _split_where_summed(found[i], have, wanted, root)
            if made is None:
                return None
            found[i] = made
    return found


def _split_where_summed(term: Term, have: Sequence[Shape], wanted: tuple[Shape, ...], root: Base) -> Term | None:
    """The term over a base that is split more: along axes that it sums over, it sums over the parts."""
    place: list[int | None] = []
    own = list(term.place)
    for old, new in zip(have, wanted, strict=True):
        held = [own.pop(0) for _ in old]
        if old != new and any(p is not None for p in held):
            return None
        if math.prod(new) != math.prod(old):
            return None
        place += held if old == new else [None] * len(new)
    base = _of_root(root, wanted)
    inner = None if term.inner is None else laid(term.inner, base.law.shape)
    return dataclasses.replace(term, base=base, place=tuple(place), inner=inner)
