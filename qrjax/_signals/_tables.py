"""Tables over subsets of axes: entry S is about two elements that differ along the axes in S, and only those.

A table has one axis of length 2 for each axis of the array. Correlations, covariances and cross
moments of exchangeable arrays are such tables, and the structural operations act on them exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from qrjax._signals._quadrature import Floats

Shape = tuple[int, ...]


def constant(ndim: int) -> Floats:
    """The correlations of an array whose elements are all the same."""
    return np.ones((2,) * ndim)


def independent(shape: Shape) -> Floats:
    """The correlations of an array with independent elements."""
    table = np.zeros((2,) * len(shape))
    table[(0,) * len(shape)] = 1.0
    return settled(table, shape)


def product(factors: Sequence[float]) -> Floats:
    """The correlations that are products of one factor for each axis that differs."""
    table = np.ones(())
    for factor in factors:
        table = table[..., None] * np.array([1.0, factor])
    return table


def settled(table: Floats, shape: Shape) -> Floats:
    """The table with nothing to differ along axes of length 1."""
    for axis, size in enumerate(shape):
        if size == 1:
            same = np.asarray(table.take(0, axis))
            table = np.stack([same, same], axis)
    return table


def broadcast(table: Floats, dimensions: Sequence[int], ndim: int) -> Floats:
    """The table of the array whose axis i becomes axis dimensions[i] of ndim; along the others it is constant."""
    if len(dimensions):
        table = table.transpose(np.argsort(dimensions))
    shape = [2 if axis in set(dimensions) else 1 for axis in range(ndim)]
    return np.broadcast_to(table.reshape(shape), (2,) * ndim).copy()


def dropped(table: Floats, axes: Iterable[int]) -> Floats:
    """The table of one slice across the axes."""
    for axis in sorted(axes, reverse=True):
        table = np.asarray(table.take(0, axis))
    return table


def pair_sums(table: Floats, axes: Iterable[int], shape: Shape) -> Floats:
    """The sum over pairs of positions in the axes: what a sum over the axes makes of a cross moment."""
    for axis in sorted(axes, reverse=True):
        n = shape[axis]
        table = np.asarray(table.take(0, axis) * n + table.take(1, axis) * (n * (n - 1.0)))
    return table


def diagonal_sums(table: Floats, axes: Iterable[int], shape: Shape) -> Floats:
    """The sum over equal positions only: for a contraction with independent weights."""
    for axis in sorted(axes, reverse=True):
        table = np.asarray(table.take(0, axis) * shape[axis])
    return table


def differing(table: Floats, axes: Sequence[int], shape: Shape) -> Floats:
    """The mean over pairs that differ somewhere in the axes, as a table over the other axes."""
    total = pair_sums(table, axes, shape) - diagonal_sums(table, axes, shape)
    n = math.prod(shape[axis] for axis in axes)
    return total / max(1.0, n * (n - 1.0))


def _merged(table: Floats, start: int, sizes: Shape) -> Floats:
    """The axes from `start` on, of these sizes, as one axis: its pairs mix those of its parts by their shares."""
    stop = start + len(sizes)
    moved = np.moveaxis(table, range(start, stop), range(len(sizes)))
    pairs = np.zeros(moved.shape[len(sizes) :])
    for pattern in itertools.product((0, 1), repeat=len(sizes)):
        if any(pattern):
            pairs += moved[pattern] * math.prod(n - 1 if p else 1 for n, p in zip(sizes, pattern, strict=True))
    count = math.prod(sizes) - 1
    first = moved[(0,) * len(sizes)]
    return np.stack([first, pairs / count if count else first], axis=start)


def _split(table: Floats, axis: int, sizes: Shape) -> Floats:
    """One axis as several; two elements that differ in any of them differed before."""
    same, other = table.take(0, axis), table.take(1, axis)
    parts = [same if not any(p) else other for p in itertools.product((0, 1), repeat=len(sizes))]
    stacked = np.stack(parts, axis).reshape(table.shape[:axis] + (2,) * len(sizes) + table.shape[axis + 1 :])
    return settled_axes(stacked, axis, sizes)


def settled_axes(table: Floats, start: int, sizes: Shape) -> Floats:
    full = (2,) * start + sizes + (2,) * (table.ndim - start - len(sizes))
    return settled(table, full)


def groups(old: Shape, new: Shape) -> list[tuple[Shape, Shape]]:
    """The runs of axes that a reshape of a non-empty array turns into each other."""
    result: list[tuple[Shape, Shape]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        if i < len(old):
            left.append(old[i])
            i += 1
        if j < len(new):
            right.append(new[j])
            j += 1
        while math.prod(left) != math.prod(right):
            if math.prod(left) < math.prod(right):
                left.append(old[i])
                i += 1
            else:
                right.append(new[j])
                j += 1
        result.append((tuple(left), tuple(right)))
    return result


def whole(old: Shape, new: Shape) -> dict[int, int]:
    """The axes that a reshape leaves whole, and where they are then."""
    i = j = 0
    places = {}
    for left, right in groups(old, new):
        if left == right and len(left) == 1:
            places[i] = j
        i, j = i + len(left), j + len(right)
    return places


def pieces(*shapes: Shape) -> Shape | None:
    """The axes of which all shapes of an array merge theirs; None where an end of one divides no other's."""
    cuts = sorted({end for shape in shapes for end in _ends(shape)})
    if any(b % a for a, b in itertools.pairwise(cuts)):
        return None
    return tuple(b // a for a, b in itertools.pairwise(cuts))


def _ends(sizes: Shape) -> list[int]:
    """How many elements of the axes' product lie before each axis and after the last, counted in slices."""
    return [math.prod(sizes[:i]) for i in range(len(sizes) + 1)]


def runs(fine: Shape, shape: Shape) -> list[tuple[int, ...]]:
    """For each axis of a shape those of `pieces` that it merges: none for a length of 1."""
    found, start = [], 0
    for size in shape:
        stop = start
        while math.prod(fine[start:stop]) != size:
            stop += 1
        found.append(tuple(range(start, stop)))
        start = stop
    return found


def split(table: Floats, shape: Shape, fine: Shape) -> Floats:
    """The table over the finer axes of which a shape merges its own."""
    for axis, run in reversed(list(enumerate(runs(fine, shape)))):
        if len(run) != 1:
            table = _split(table, axis, tuple(fine[a] for a in run)) if run else np.asarray(table.take(0, axis))
    return table


def merged(table: Floats, fine: Shape, shape: Shape) -> Floats:
    """The table over the axes of a shape, each of which merges some of the finer ones."""
    for axis, run in enumerate(runs(fine, shape)):
        if len(run) != 1:
            table = _merged(table, axis, tuple(fine[a] for a in run)) if run else np.stack([table, table], axis)
    return table


def reshaped(table: Floats, old: Shape, new: Shape) -> Floats:
    """The table after a reshape: axes that merge mix their correlations, axes that split share one."""
    fine = pieces(old, new)
    if fine is not None:
        return settled(merged(split(table, old, fine), fine, new), new)
    axis = 0
    for left, right in groups(old, new):
        if left == right:
            axis += len(left)
            continue
        if len(left) != 1:
            table = _merged(table, axis, left) if left else np.stack([table, table], axis)
        if len(right) != 1:
            table = _split(table, axis, right) if right else np.asarray(table.take(0, axis))
        axis += len(right)
    return settled(table, new)


def empirical(values: Floats) -> Floats:
    """The mean cross moment E[x x'] of the pairs in an actual array, for every subset of differing axes.

    Pairs that agree outside S are counted by squares of sums over S; inclusion and exclusion leave
    those that differ along all of S.
    """
    shape = values.shape
    table = np.empty((2,) * values.ndim)
    for pattern in itertools.product((0, 1), repeat=values.ndim):
        axes = tuple(axis for axis, p in enumerate(pattern) if p)
        table[pattern] = float((values.sum(axes) ** 2).sum())
    for axis, n in enumerate(shape):
        same, within = table.take(0, axis), table.take(1, axis)
        table = np.stack([same, within - same if n > 1 else same], axis)
        counts = (float(n), n * (n - 1.0) if n > 1 else float(n))
        table = table / np.array(counts).reshape([2 if a == axis else 1 for a in range(values.ndim)])
    return table


def variance_shares(rho: Floats, shape: Shape) -> Floats:
    """v[U]: the share of the variance in effects that vary along the axes in U and along no other.

    Effects in U are equal for pairs that do not differ there, so rho[S] is the sum of v[U] over the U
    that do not meet S; this is its inverse.
    """
    table = rho.copy()
    for axis, n in enumerate(shape):
        same, other = table.take(0, axis), table.take(1, axis)
        own = same - other if n > 1 else np.zeros_like(same)
        table = np.stack([other if n > 1 else same, own], axis)
    return np.maximum(table, 0.0)
