"""Axes that were merged remember what a block's elements have in common, until they are split again.

Examples and tokens become one axis for a layer and two again behind it; windows of an image, and heads that are laid
beside each other, do. A table of correlations has one number for all pairs along an axis. Where those within a block,
or those at the same place of two blocks, are more alike than others, they have tables of their own (`Signal.twins`),
which go through every rule on the way, and a reshape that cuts the axis where the blocks end finds them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._quadrature import Floats
from qrjax._signals._signal import Signal
from qrjax._signals._tables import Shape

# Pairs whose correlation differs by less from that of all pairs are like all pairs.
NOTABLE = 0.02
# Tables whose entries differ by less are the same but for rounding and small samples.
TOLD = 1e-3
# A table has two to the number of axes entries.
MOST_AXES = 10

Axes = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A kind of pairs, a key of `Signal.twins`.

    Attributes:
      axes: of each merged axis the length, and into how many blocks it falls.
      inside: whether the pairs lie in one block along each of these axes in which they differ; else at the same place
        of two blocks.
    """

    axes: Axes
    inside: bool

    def partners(self, which: int) -> float:
        """How many such partners an element has along one of the axes."""
        n, count = self.axes[which]
        return (n // count if self.inside else count) - 1.0


def reshaped(x: Signal, shape: Shape) -> tuple[Floats, dict[Any, Floats]]:
    """The correlations after a reshape, and those of special pairs along the axes that it merges."""
    places = {axes: _place(x, axes) for axes in {kind.axes for kind in x.twins if isinstance(kind, Blocks)}}
    apart = {axes: where for axes, where in places.items() if where is not None}
    fine = _tables.pieces(x.shape, shape, *(_cut(x.shape, axes, where) for axes, where in apart.items()))
    if fine is None or len(fine) > MOST_AXES:
        return _tables.reshaped(x.rho, x.shape, shape), {}
    table = _tables.split(x.rho, x.shape, fine)
    for axes, where in apart.items():
        table = _told_apart(x, axes, where, fine, table)
    rho = _tables.settled(_tables.merged(table, fine, shape), shape)
    return rho, _kinds(table, fine, shape, rho)


def _place(x: Signal, axes: Axes) -> tuple[int, ...] | None:
    """The merged axes of an array, as far as they are still told from others."""
    kind = next(k for k in (Blocks(axes, True), Blocks(axes, False)) if k in x.twins)
    return _axes_of(kind, x.twins[kind], x.rho, x.shape)


def _cut(shape: Shape, axes: Axes, where: Sequence[int]) -> Shape:
    """The shape with its merged axes as they were."""
    apart = {a: (count, n // count) for a, (n, count) in zip(where, axes, strict=True)}
    return tuple(n for a, size in enumerate(shape) for n in apart.get(a, (size,)))


def remaining(kind: Blocks, table: Floats, rho: Floats, shape: Shape) -> Blocks | None:
    """The kind along those of its axes that an array still has and in which its pairs are not like all pairs."""
    if not _notable(table, rho):
        return None
    for count in range(len(kind.axes), 0, -1):
        for axes in itertools.combinations(kind.axes, count):
            part = dataclasses.replace(kind, axes=axes)
            if _axes_of(part, table, rho, shape) is not None:
                return part
    return None


def _axes_of(kind: Blocks, table: Floats, rho: Floats, shape: Shape) -> tuple[int, ...] | None:
    """The axes of an array along which a table is about a kind of pairs; None where it is about none of its own."""
    off = np.abs(table - rho)
    choices = [[a for a, n in enumerate(shape) if n == length] for length, _ in kind.axes]
    for axes in itertools.product(*choices):
        alone = len({*axes}) == len(axes) and _tables.dropped(off, axes).max() <= TOLD
        if alone and all(off.take(1, a).max() > TOLD for a in axes):
            return axes
    return None


def _told_apart(x: Signal, axes: Axes, where: Sequence[int], fine: Shape, table: Floats) -> Floats:
    """The finer table with what is known of pairs within blocks, of those at their same places, and of the rest."""
    known = [(kind, x.twins[kind]) for kind in (Blocks(axes, True), Blocks(axes, False)) if kind in x.twins]
    own = _tables.runs(fine, x.shape)
    result = table.copy()
    for pattern in np.ndindex(table.shape):
        coarse = tuple(int(any(pattern[f] for f in run)) for run in own)
        differing = [i for i, a in enumerate(where) if coarse[a]]
        if differing:
            kinds = {_inside(pattern, own[where[i]], axes[i][1], fine) for i in differing}
            result[pattern] = _correlation(known, differing, kinds, coarse, x)
    return result


def _inside(pattern: tuple[int, ...], run: tuple[int, ...], count: int, fine: Shape) -> bool | None:
    """Whether a pair lies in one of so many blocks of an axis (True), at the same place of two (False), or neither."""
    first = next(i for i in range(len(run)) if math.prod(fine[a] for a in run[:i]) == count)
    outer, inner = (any(pattern[a] for a in part) for part in (run[:first], run[first:]))
    return None if outer and inner else inner


def _correlation(
    known: Sequence[tuple[Blocks, Floats]], differing: Sequence[int], kinds: set[bool | None],
    coarse: tuple[int, ...], x: Signal,
) -> float:  # fmt: skip
    """Of pairs of a kind that of the kind; of others what the known kinds leave of the mean over all pairs."""
    count = math.prod(known[0][0].axes[i][0] - 1.0 for i in differing)
    total = count * float(x.rho[coarse])
    for kind, table in known:
        if kinds == {kind.inside}:
            return float(table[coarse])
        share = math.prod(kind.partners(i) for i in differing)
        count, total = count - share, total - share * float(table[coarse])
    return min(1.0, max(-1.0, total / count)) if count > 0 else float(x.rho[coarse])


def _kinds(table: Floats, fine: Shape, shape: Shape, rho: Floats) -> dict[Any, Floats]:
    """The tables of pairs within blocks and at their same places, where they are not as those of all pairs."""
    merges = [(a, run) for a, run in enumerate(_tables.runs(fine, shape)) if len(run) > 1]
    notable = [m for m in merges if any(_notable(_of(table, fine, shape, [m], k), rho) for k in (True, False))]
    axes = tuple((shape[a], fine[run[0]]) for a, run in notable)
    tables = {Blocks(axes, inside): _of(table, fine, shape, notable, inside) for inside in (True, False)}
    return {kind: found for kind, found in tables.items() if _notable(found, rho)}


def _of(
    table: Floats, fine: Shape, shape: Shape, merges: Sequence[tuple[int, tuple[int, ...]]], inside: bool
) -> Floats:
    """The table of a shape in which pairs along merged axes are those of one block, or of the blocks' same places."""
    gone = [a for _, run in merges for a in (run[:1] if inside else run[1:])]
    lengths = {axis: fine[run[0]] for axis, run in merges}
    part = tuple((n // lengths[a] if inside else lengths[a]) if a in lengths else n for a, n in enumerate(shape))
    rest = tuple(n for a, n in enumerate(fine) if a not in gone)
    return _tables.settled(_tables.merged(_tables.dropped(table, gone), rest, part), shape)


def _notable(table: Floats, rho: Floats) -> bool:
    return bool(np.abs(table - rho).max() > NOTABLE)
