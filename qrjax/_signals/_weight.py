"""What a signal says of the parameter that it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from qrjax._signals._tables import Shape, groups

# For each axis of a parameter that layers lie along: (axis, position).
Layer = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """A parameter that only changed its shape and a constant factor since it was made.

    Attributes:
      path: its path in the variables, "encoder/Dense_0/kernel".
      layer: which layer of a stack it is: (axis of the parameter, position) for each axis that layers lie along, by
        axis; empty for the whole.
      factor: what it was multiplied by.
      equal: whether all its elements are one number, which is decided, instead of drawn around 0.
      also: other parameters that lie beside it in one array, and get the same gain.
      unknown: whether its law is not known, as of a module that is made within the same program.
      axes: for each of its axes the axes of the parameter that lie in it, merged; one of which it is only a part is
        named twice. None where it is not known.
      places: for each of its axes the positions along the parameter's that it has, None for all of them in order.
      own: the whole parameter's elements as the module has them, where they are at hand.
    """

    path: str
    layer: Layer = ()
    factor: float = 1.0
    equal: bool = False
    also: tuple[str, ...] = ()
    unknown: bool = False
    axes: tuple[tuple[int, ...], ...] | None = None
    places: tuple[tuple[int, ...] | None, ...] = ()
    own: NDArray[Any] | None = None

    @staticmethod
    def of(path: str, ndim: int) -> Weight:
        """The whole parameter."""
        return Weight(path, axes=tuple((a,) for a in range(ndim)), places=(None,) * ndim)

    @property
    def key(self) -> tuple[str, Layer]:
        """What one gain is decided for."""
        return self.path, self.layer

    def meets(self, other: Weight) -> bool:
        """Whether it may have elements in common with another part of the same parameter."""
        if self.axes is None or self.axes != other.axes:
            return True
        both = zip(self.places, other.places, strict=True)
        return not any(mine and others and set(mine).isdisjoint(others) for mine, others in both)

    def ordered(self, order: Sequence[int] | None) -> Weight:
        """With these of its axes, in this order; None where that is not known."""
        if order is None or self.axes is None:
            return dataclasses.replace(self, axes=None, places=())
        return dataclasses.replace(
            self, axes=tuple(self.axes[a] for a in order), places=tuple(self.places[a] for a in order)
        )

    def taken(self, axis: int, size: int, positions: Sequence[int] | None) -> Weight:
        """With these positions of an axis of this size alone, None where they are not known."""
        if self.axes is None or positions is None:
            return dataclasses.replace(self, axes=None, places=())
        known = self.places[axis] or range(size)
        place = tuple(known[p] for p in positions)
        return dataclasses.replace(self, places=(*self.places[:axis], place, *self.places[axis + 1 :]))

    def dropped(self, axis: int) -> Weight:
        """Without an axis of length 1; where that is one place of the parameter's axis, it is one layer of a stack."""
        if self.axes is None:
            return self
        rest = self.ordered([a for a in range(len(self.axes)) if a != axis])
        own, place = self.axes[axis], self.places[axis]
        if len(own) != 1 or place is None or len(place) != 1:
            return rest
        return dataclasses.replace(rest, layer=tuple(sorted((*self.layer, (own[0], place[0])))))

    def reshaped(self, old: Shape, new: Shape) -> Weight:
        """After a reshape."""
        if self.axes is None:
            return self
        result, i, gone = self.ordered([]), 0, []
        axes: list[tuple[int, ...]] = []
        places: list[tuple[int, ...] | None] = []
        for left, right in groups(old, new):
            held = self.axes[i : i + len(left)]
            if len(left) == len(right) == 1:
                axes, places = [*axes, *held], [*places, self.places[i]]
            else:
                merged = tuple(a for own in held for a in own)
                axes += [merged if len(right) == 1 else merged + merged] * len(right)
                places += [None] * len(right)
                gone += [i] if left and not right else []
            i += len(left)
        for axis in gone:
            result = dataclasses.replace(result, layer=self.dropped(axis).layer)
        return dataclasses.replace(result, axes=tuple(axes), places=tuple(places))

    def summed(self, axes: Sequence[int]) -> tuple[int, ...] | None:
        """The parameter's axes that lie within these of its own, and in no others."""
        if self.axes is None:
            return None
        others = {a for axis, own in enumerate(self.axes) if axis not in axes for a in own}
        return tuple(sorted({a for axis in axes for a in self.axes[axis]} - others))
