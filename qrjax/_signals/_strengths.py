"""How strong the places of a contraction are, where those of its operands differ: behind masks on weights above all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals._families import family_of, is_place
from qrjax._signals._profiles import kept, normalized, renamed
from qrjax._signals._signal import Profiles, Signal


@dataclasses.dataclass(frozen=True)
class Strengths:
    """An operand's second moments, by place among the axes of all products.

    Attributes:
      profiles: along one axis each.
      present: which elements are not zero, where a mask says so.
      axes: the place of each axis of `present`.
    """

    profiles: Mapping[int, NDArray[np.float64]]
    present: NDArray[Any] | None
    axes: Sequence[int]

    @staticmethod
    def of(x: Signal, axes: Sequence[int], places: Sequence[int]) -> Strengths:
        """Those of an operand, each of whose axes has its place."""
        order = dict(zip(axes, places, strict=True))
        present, own = _present(x), own_strengths(x)
        if present is not None:
            own |= _lines(present, x)
        return Strengths(renamed(own, order), present, [order[a] for a in range(x.ndim)])

    def behind(self, other: Strengths, ndim: int) -> Profiles:
        """What a mask makes of the other operand's places, along the own axes of the first `ndim`."""
        if self.present is None:
            return {}
        energies = self.present.astype(np.float64)
        for axis, place in enumerate(self.axes):
            if place in other.profiles and energies.shape[axis] in (1, other.profiles[place].size):
                energies = energies * np.expand_dims(
                    other.profiles[place], [a for a in range(energies.ndim) if a != axis]
                )
        own = [(a, p) for a, p in enumerate(self.axes) if p < ndim and p not in other.axes]
        lines = {p: energies.mean(tuple(b for b in range(energies.ndim) if b != a)) for a, p in own}
        return {place: line for place, line in lines.items() if line.size > 1}


def own_strengths(x: Signal, power: int = 1, beside: bool = False) -> Profiles:
    """How strong the places along each axis are, of the array or its reciprocal: by what is known of each place.

    `beside`: whether it meets an array whose places differ, so that an input that is known counts too.
    """
    family = family_of(x)
    known = x.array is not None and x.array.ndim == x.ndim and x.array.dtype.kind in "fiu" and not x.drawn
    if known and (beside or is_place(x)):
        with np.errstate(all="ignore"):
            return _lines(np.asarray(x.array, np.float64) ** (2 * power), x)
    return dict(x.profiles) if family is None else x.profiles | _lines(family.strengths(), x)


def _lines(table: NDArray[Any], x: Signal) -> Profiles:
    """A table's means along each of an array's axes that it tells apart, of nothing none."""
    if not table.size:
        return {}
    lines = [table.mean(tuple(a for a in range(x.ndim) if a != axis)) for axis in range(x.ndim)]
    return kept({a: normalized(line) for a, line in enumerate(lines) if line.size == x.shape[a]})


def _present(x: Signal) -> NDArray[Any] | None:
    """Where a weight is not zero by a known mask."""
    mask = None if x.bare is None or x.bare.shape != x.shape else x.bare.mask
    if mask is None or mask.value != 0 or mask.whole or len(mask.gates) != 1 or mask.gates[0].array is None:
        return None
    array = np.asarray(mask.gates[0].array)
    return array if array.ndim == x.ndim else None


def met(x: Strengths, y: Strengths, axes: Iterable[int]) -> float:
    """How much more two arrays' products along axes are, as they are strong or weak at the same places."""
    both = [(x.profiles[axis], y.profiles[axis]) for axis in axes if axis in x.profiles and axis in y.profiles]
    return math.prod(float((a * b).mean()) for a, b in both if a.size == b.size)


def product_profiles(x: Strengths, y: Strengths, ndim: int) -> Profiles:
    """What is left of the operands' strengths along the result's axes."""
    found: dict[int, NDArray[np.float64]] = {}
    for one, other in ((x, y), (y, x)):
        behind = one.behind(other, ndim)
        for axis, profile in {**one.profiles, **behind}.items():
            if axis < ndim:
                found[axis] = profile * found.get(axis, np.ones(1))
    return kept({axis: normalized(p) for axis, p in found.items()})
