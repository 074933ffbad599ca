"""Which entries of arrays of indices name one place, as far as a walk has seen the arrays."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Context, Equation
from qrjax._rules._operands import Known, Value
from qrjax._signals._quadrature import Floats
from qrjax._signals._signal import Signal

# Indices up to so many are made up where they are not known.
ASSUMED = 1 << 22
# What is not known of an array of places.
UNKNOWN = -1

# For each walk the arrays that it has met, by the kind of pairs that they bring together.
_seen: weakref.WeakKeyDictionary[Context, dict[Any, NDArray[np.int64]]] = weakref.WeakKeyDictionary()
_assumptions: weakref.WeakKeyDictionary[Context, int] = weakref.WeakKeyDictionary()
# And for pairs of kinds, which shares of the pairs of the first, and of all pairs, are of the second too.
_shared: weakref.WeakKeyDictionary[Context, dict[Any, tuple[float, float]]] = weakref.WeakKeyDictionary()


def kind_of(context: Context, places: NDArray[Any]) -> tuple[str, int]:
    """The kind of pairs that these places bring together: entries that hold one of them."""
    places = places.astype(np.int64).ravel()
    seen = _seen.setdefault(context, {})
    for kind, other in seen.items():
        if other.size == places.size and bool(((other == places) | (other == UNKNOWN)).all()):
            seen[kind] = places
            found: tuple[str, int] = kind
            return found
    kind = ("same place", len(seen))
    seen[kind] = places
    return kind


def kinds(context: Context, size: int) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """The kinds of pairs among so many entries that the walk has met."""
    for kind, places in list(_seen.get(context, {}).items()):
        if places.size == size:
            yield kind, places


def places_of(context: Context, kind: Any) -> NDArray[np.int64] | None:
    """The places of the entries that a kind brings together."""
    return _seen.get(context, {}).get(kind)


def agreement(places: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Of the pairs of entries that hold one place, the share that also holds one in another array."""
    known = (places >= 0) & (other >= 0)
    places, other = places[known], other[known]
    if not places.size:
        return 0.0
    both = places * (int(other.max()) + 1) + other
    pairs = pairs_of(places)
    return pairs_of(both) / pairs if pairs else 0.0


def pairs_of(places: NDArray[np.int64]) -> float:
    """How many ordered pairs of entries hold one place, as far as their places are known."""
    counts = np.unique(places[places >= 0], return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum())


def together(context: Context, x: Signal, kind: Any) -> Floats:
    """How alike the pairs are that a kind brings together.

    An array gathered before the walk met these places was told of others alone: nodes by the senders of edges, of what
    edges with one receiver have in common. As many of its pairs are alike by the one as agree in the other.
    """
    places = places_of(context, kind)
    if kind in x.twins or places is None or x.ndim == 0 or x.shape[0] != places.size:
        return x.twins.get(kind, x.rho)
    table, most = x.rho, 0.0
    for other, near in x.twins.items():
        share, usual = _shares(context, kind, other)
        if near.shape == x.rho.shape and share - usual > most:
            most = share - usual
            apart = (x.rho - usual * near) / max(1e-9, 1 - usual)
            table = np.where(x.rho < near, apart + share * (near - apart), x.rho)
    return np.asarray(np.clip(table, -1.0, 1.0))


def _shares(context: Context, kind: Any, other: Any) -> tuple[float, float]:
    """Of the pairs of one kind, and of all pairs, the share that is of another kind too."""
    found = _shared.setdefault(context, {})
    if (kind, other) not in found:
        seen = _seen.get(context, {})
        if other not in seen or seen[other].size != seen[kind].size:
            return 0.0, 0.0
        one_place = np.zeros_like(seen[other])
        found[kind, other] = agreement(seen[kind], seen[other]), agreement(one_place, seen[other])
    return found[kind, other]


def induced(places: NDArray[np.int64], count: int, other: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The array of places over the `count` segments by `places`, if all of a segment's entries agree in it."""
    inside = (places >= 0) & (places < count)
    result = np.full(count, UNKNOWN, np.int64)
    result[places[inside]] = other[inside]
    return result if bool((result[places[inside]] == other[inside]).all()) else None


def assumed(equation: Equation, indices: Value, count: int) -> Value:
    """Indices as an array: those that are not known are taken as uniformly random, each array on its own."""
    if not isinstance(indices, Signal) or indices.source is None or indices.size > ASSUMED:
        return indices
    key = ("assumed", count, indices.size)
    if key not in indices.source.fibers:
        number = _assumptions.get(equation.context, 0)
        _assumptions[equation.context] = number + 1
        generator = np.random.Generator(np.random.PCG64([number, 577]))
        indices.source.fibers[key] = generator.integers(count, size=indices.size, dtype=np.int32)
    equation.context.note(f"indices into {count} places are not known: taken as uniformly random")
    return Known(indices.source.fibers[key].reshape(indices.shape))


def pair_moment(array: NDArray[Any], places: NDArray[np.int64]) -> float | None:
    """E[x x'] of two entries of an array that hold one place, at the same positions of its other axes."""
    rows = np.asarray(array, np.float64).reshape(len(places), -1)
    inside = places >= 0
    found, group = np.unique(places[inside], return_inverse=True)
    pairs = pairs_of(places[inside])
    if pairs == 0 or found.size == 1:
        return None
    sums = np.zeros((found.size, rows.shape[1]))
    np.add.at(sums, group, rows[inside])
    return float((sums**2).sum() - (rows[inside] ** 2).sum()) / pairs / rows.shape[1]
