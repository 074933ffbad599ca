"""Attention: the contraction of a softmax's weights with values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._fibers import Fiber
from qrjax._signals._profiles import kept, normalized
from qrjax._signals._quadrature import Floats, expectation
from qrjax._signals._signal import Signal, Source

# Rows that differ are not one, however alike.
ALIKE = 0.999
# Shares below are not told.
LITTLE = 0.02
Draws = Mapping[Source, Floats]
Axes = tuple[Sequence[int], Sequence[int]]


def attended(
    x: Signal, y: Signal, contract: Any, batch: Any, n: int, made: Signal, draws: Draws | None = None
) -> Signal:
    """Attention looks where its values are large, if its scores and its values come from one input.

    With softmax weights p of scores a.x_j, normal x_j of variance 1 and effective rank D and values W x_j, the sum of
    p_j x_j has the mean (1 - sum p^2) a by Stein's lemma, which adds Var(a.x) / D of the values' second moment. Of
    weights that were drawn, as where the largest scores alone are kept, the draws say how large their scores are.
    """
    if made.source is None or x.source is None or y.source is None:
        return made
    if x.source.born is not None and y.source.born is not None:
        if x.input_axes & set(contract[0]):
            return made  # keys times values, summed over examples, are no scores
        made.source.scores = frozenset({x.source.born.parent, y.source.born.parent})
        return made
    made.source.rows = x.source.rows or y.source.rows
    more = _more(x, y, contract, n, draws or {})
    return made if more is None else _with(made, more, _alike(x, y, contract, batch))


def _more(x: Signal, y: Signal, contract: Axes, n: int, draws: Draws) -> float | None:
    """What looking where values are large adds to a second moment; None where these are not scores and values."""
    for which, (p, v) in enumerate(((x, y), (y, x))):
        own, axes = contract[which], contract[1 - which]
        born = None if v.source is None else v.source.born
        if v.input_axes and not v.input_axes >= set(axes):
            continue  # a sum over what one example's weights put out
        if born is not None and p.drawn and p.array is not None:
            return _lean(p, born.parent, tuple(own), draws) * _alone(v, axes) / born.rank
        told = [] if p.fiber is not None or p.source is None else [p.source, *p.source.kin]
        bare = p.mean**2 < LITTLE * p.second_moment
        if born is not None and bare and any(born.parent in source.scores for source in told):
            # Scores themselves, some of them 0 by a known mask: of two inputs they are as alike as the values. Normal
            # ones of which a share is there have the fourth moment 3 E[p^2]^2 / share.
            present = min(1.0, 3 * p.second_moment**2 / expectation(p.values**4))
            return n * (n - 1.0) * present * p.variance * _alone(v, axes) / born.rank
        if born is None or p.fiber is None or not p.fiber.spread or p.fiber.n != n:
            continue
        ancestors = [p.fiber.parent, *p.fiber.parent.kin]
        if any(born.parent in source.scores for source in ancestors):
            tilt = p.fiber.spread[-1] * max(0.0, 1 - n * p.second_moment)
            return float(n * p.mean * tilt**2 / born.rank * _alone(v, axes))
    return None


def _with(made: Signal, more: float, alike: Floats) -> Signal:
    """The contraction with so much more second moment, of which two elements have `alike` in common."""
    share = more / (made.second_moment + more)
    rho = (1 - share) * made.rho + share * alike
    return made.fresh(
        values=made.values * math.sqrt(1 + more / made.second_moment),
        rho=_tables.settled(rho, made.shape),
        profiles=made.profiles,
    )


def _alike(x: Signal, y: Signal, contract: Axes, batch: Axes) -> Floats:
    """How much alike two results are by where they look, as far as the scores and the values of theirs are."""
    places, tables = _result_axes(x.ndim, y.ndim, contract, batch), []
    for z, own, where in zip((x, y), contract, places, strict=True):
        kept = _tables.dropped(z.rho, own)
        tables.append((kept, [where[a] for a in range(z.ndim) if a not in own]))
    ndim = len({place for _, where in tables for place in where})
    first, second = (_tables.broadcast(*table, ndim) for table in tables)
    return np.asarray(first * second)


def in_common(x: Signal, y: Signal, contract: Axes, made: Signal) -> Signal:
    """The contraction, told what it has of what all values that it sums share: two such sums are alike by that.

    Parts of one array, as the blocks of sparse attention, have that in common with the others.
    """
    n = math.prod(x.shape[axis] for axis in contract[0])
    for p, v, axes in ((x, y, contract[1]), (y, x, contract[0])):
        if made.source is None or v.source is None or made.source is v.source or v.mean**2 > 1e-9 * v.second_moment:
            continue
        apart = float(_tables.differing(v.moments, axes, v.shape).flat[0]) if n > 1 else 0.0
        share = min(1.0, (n * p.mean) ** 2 * max(0.0, apart) / max(1e-300, made.second_moment))
        if share > LITTLE:
            made.source.kin[v.source.common()] = math.sqrt(share)
    return made


def _alone(v: Signal, axes: Sequence[int]) -> float:
    """The part of the values' second moment that those which are summed do not share."""
    return max(0.0, v.second_moment - float(_tables.differing(v.moments, axes, v.shape).flat[0]))


def _lean(p: Signal, parent: Source, axes: tuple[int, ...], draws: Draws) -> float:
    """By how much a drawn softmax's sum of its scores is larger than that of independent numbers."""
    for source, z in draws.items():
        if parent in source.scores and z.shape == p.shape:
            weights = np.asarray(p.array, np.float64)
            more = (weights * z).sum(axes) ** 2 - (weights**2).sum(axes)
            return max(0.0, float(more.mean()))
    return 0.0


def by_rows(x: Signal, y: Signal, contract: Axes, batch: Axes, made: Signal) -> Signal:
    """What a mask's rows make of values: some sum a few and some many, and two rows share what both of them see."""
    for p, v, own in ((x, y, 0), (y, x, 1)):
        fiber, axes = p.fiber, tuple(contract[own])
        laid = p.bare is not None and isinstance(fiber, Fiber) and fiber.shape == p.shape and fiber.axes == axes
        if not laid or p.sample is None or p.sample.shape[1] == 1 or not made.is_normal:
            continue
        assert p.bare is not None
        assert p.bare.mask is not None
        varying = sorted({a for g in p.bare.mask.gates if g.array is not None for a in fiber.varying(g.array)})
        if varying and made.mean**2 <= 1e-9 * made.second_moment:
            places = _result_axes(x.ndim, y.ndim, contract, batch)[own]
            return _of_rows(p, p.sample, v, tuple(contract[1 - own]), varying, places, made)
    return made


def _result_axes(x: int, y: int, contract: Axes, batch: Axes) -> list[dict[int, int]]:
    """Which axis of the result an operand's axis becomes."""
    free = [[a for a in range(n) if a not in contract[i] and a not in batch[i]] for i, n in enumerate((x, y))]
    first = [*batch[0], *free[0]]
    own = {a: place for place, a in enumerate(first)}
    other = {a: place for place, a in enumerate(batch[1])} | {a: len(first) + i for i, a in enumerate(free[1])}
    return [own, other]


def _of_rows(
    p: Signal, rows: Floats, v: Signal, axes: tuple[int, ...], varying: list[int], places: dict[int, int],
    made: Signal,
) -> Signal:  # fmt: skip
    """The result with the strengths of its rows and with what two of them share, by the softmax's sample of rows."""
    fiber, n = p.fiber, p.fiber.n
    apart = float(_tables.differing(v.moments, axes, v.shape).flat[0])
    columns = rows.shape[1]

    def summed(same: Any, other: Any) -> Any:
        """E[y y'] of two rows' sums over values, by the means of their own products at one column and at two."""
        return n * same * v.second_moment + n * (n - 1.0) * other * apart

    same = (rows**2).mean(1)
    squares = summed(same, (rows.sum(1) ** 2 / columns - same) / max(1, columns - 1))
    if not float(squares.mean()) > 0 or not math.isfinite(float(squares.mean())):
        return made
    profiles = {a: fiber.strengths(squares, a) for a in varying}
    strength = np.prod([fiber.strength(profile, a) for a, profile in profiles.items()], 0)
    roots = np.sqrt(np.maximum(strength, 1e-6))
    plain, alike = (
        {which: summed(*means) for which, means in fiber.pairs(some, varying).items()}
        for some in (rows, rows / roots[:, None])
    )
    rho, scale = made.rho.copy(), float(squares.mean())
    for which, moment in alike.items():
        index = tuple(int(a in {places[b] for b in which}) for a in range(made.ndim))
        if which:
            # Beside what rows have in common by their places, what their scores have.
            rho[index] = np.clip(rho[index] + (moment - plain[which]) / scale, -1.0, ALIKE)
    found = {places[a]: normalized(profile) for a, profile in profiles.items()}
    return made.fresh(rho=_tables.settled(rho, made.shape), profiles=made.profiles | kept(found))
