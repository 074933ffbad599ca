"""Products of two weights' outputs of one input: what examples have in common by the weights.

Of independent examples s and s' in n dimensions, outputs w.s and w.s' of a weight correlate by the cosine of the two,
which is 0 on the mean and 1/n in its square. One output alone does not show it. A product of two of them does: as
often as w.s and v.s agree in sign at one example they do at all others, by w.v. So the mean over T examples of such
products has 1/T + 1/n of their second moment: with many tokens all that is left of a gated layer, or of the sum of
keys times values in linear attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._quadrature import correlation
from qrjax._signals._signal import Signal


def of_one_input(x: Signal, y: Signal) -> float:
    """The mean square of the cosine of two independent inputs, where both are outputs of weights for one; else 0."""
    if x.source is None or y.source is None or not x.input_axes or not y.input_axes:
        return 0.0
    first, second = x.source.whole(), y.source.whole()
    if first.born is None or second.born is None or first.born.parent is not second.born.parent:
        return 0.0
    if first is second and not _of_other_units(x, y):
        return 0.0
    return 1 / max(first.born.rank, second.born.rank)


def _of_other_units(x: Signal, y: Signal) -> bool:
    """Whether two parts of one weight's output are of different units, as keys and values of one matrix."""
    assert x.source is not None
    assert y.source is not None
    if x.source.base is not y.source.base or x.source is y.source or x.source.base is None:
        return False
    cuts = [which[1] for s in (x.source, y.source) if isinstance(which := s.which, tuple) and which[0] == "slice"]
    if len(cuts) < 2 or any(len(cut) != 1 for cut in cuts):
        return False
    (one, begin, end, _), (other, start, stop, _) = cuts[0][0], cuts[1][0]
    return one == other and one not in x.input_axes and (end <= start or stop <= begin)


def _more(x: Signal, y: Signal, square: float, alike: float) -> float:
    """How much E[x y x' y'] of two examples is more than that of independent ones, by what is linear in each.

    What is even in one alone goes with the length of its own weights, which layouts keep nearly the same. As far as
    the examples are `alike`, the product of the correlations of x and of y, the moments know it already.
    """
    return square * float(x.squares[0] * y.squares[0]) * max(0.0, 1 - alike)


def of_product(x: Signal, y: Signal, result: Signal) -> Signal:
    """The product, whose examples have in common what the two weights have."""
    square = of_one_input(x, y)
    if square == 0 or result.is_constant or x.input_axes != y.input_axes or not x.ndim == y.ndim == result.ndim:
        return result
    if any(z.shape[a] != result.shape[a] for z in (x, y) for a in x.input_axes):
        return result
    covariances = result.covariances.copy()
    for index in np.ndindex(covariances.shape):
        if any(index) and all(a in x.input_axes for a, differs in enumerate(index) if differs):
            covariances[index] += _more(x, y, square, float(x.rho[index] * y.rho[index]))
    rho = np.where(covariances > result.covariances, correlation(result.squares, covariances), result.rho)
    return dataclasses.replace(result, rho=_tables.settled(np.minimum(rho, 1.0), result.shape))


def of_sum(x: Signal, y: Signal, axes: tuple[Sequence[int], Sequence[int]], batch: int, n: int, made: Signal) -> Signal:
    """The sum of products over n examples, as keys times values; the first axes of it are the batch's."""
    square = of_one_input(x, y)
    if square == 0 or made.is_constant or not (x.input_axes >= set(axes[0]) and y.input_axes >= set(axes[1])):
        return made
    own, other = (tuple(int(a in axes[i]) for a in range(z.ndim)) for i, z in enumerate((x, y)))
    more = n * (n - 1.0) * _more(x, y, square, float(x.rho[own] * y.rho[other]))
    variance, rho = made.variance + more, made.rho * made.variance
    for index in np.ndindex(rho.shape):
        if not any(index[batch:]):
            rho[index] += more
    values = made.mean + (made.values - made.mean) * np.sqrt(variance / made.variance)
    return made.fresh(values=values, rho=_tables.settled(rho / variance, made.shape), profiles=made.profiles)
