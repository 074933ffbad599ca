"""Another origin's weights, multiplied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jax import Array

from qrjax._autoinit._own import Rescaling
from qrjax._interpreter._model import Leaf
from qrjax._layouts._coordinates import Shape, box_of, from_index
from qrjax._records._origins import KINDS, Origin
from qrjax._records._regions import multiplied


def rescaled(leaf: Leaf, whole: Origin, rescaling: Rescaling, correction: np.ndarray | None) -> Rescaled:
    """The origin of a variable that `autoinit` rescales and, perhaps, a calibration corrects."""
    factors = (rescaling.factors,) if correction is None else (rescaling.factors, np.asarray(correction, np.float32))
    return Rescaled(leaf.shape, leaf.dtype, whole, rescaling.stack, factors)


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaled:
    """A tensor times factors, one after the other.

    Attributes:
      shape, dtype: of the tensor.
      whole: where its values come from.
      stack: the axes that layers lie along.
      factors: float32: scalars, or one number for each layer.
    """

    kind: ClassVar[str] = "rescaled"
    shape: Shape
    dtype: Any
    whole: Origin
    stack: tuple[int, ...]
    factors: tuple[np.ndarray, ...]

    def box(self, starts: Sequence[int], extent: Shape) -> Array:
        """As `Origin.box`."""
        layers = tuple(slice(int(starts[a]), int(starts[a]) + extent[a]) for a in self.stack)
        rest = tuple(a for a in range(len(extent)) if a not in self.stack)
        factors = [np.expand_dims(f[layers] if f.ndim else f, rest if f.ndim else ()) for f in self.factors]
        return multiplied(self.whole.box(starts, extent), factors, self.dtype)

    def at(self, index: Any) -> Array:
        """As `Origin.at`."""
        asked = box_of(index, self.shape)
        if asked is not None:
            starts, extent, result = asked
            return self.box(starts, extent).reshape(result)
        coordinates, result = from_index(index, self.shape)
        there = [np.broadcast_to(np.asarray(coordinates[a]), result) for a in self.stack]
        factors = [f[tuple(there)] if f.ndim else f for f in self.factors]
        return multiplied(self.whole.at(index), factors, self.dtype)

    def array(self) -> Array:
        """As `Origin.array`."""
        rest = tuple(a for a in range(len(self.shape)) if a not in self.stack)
        factors = [np.expand_dims(f, rest) if f.ndim else f for f in self.factors]
        return multiplied(self.whole.array(), factors, self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """As `Origin.to_dict`."""
        inner = {"kind": self.whole.kind, "dtype": np.dtype(self.whole.dtype).name} | self.whole.to_dict()
        return {"stack": list(self.stack), "factors": [f.tolist() for f in self.factors], "of": inner}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Rescaled:
        """The inverse of `to_dict`."""
        factors = tuple(np.asarray(f, np.float32) for f in data["factors"])
        inner = KINDS[data["of"]["kind"]].from_dict(shape, np.dtype(data["of"]["dtype"]), data["of"])
        return cls(shape, dtype, inner, tuple(map(int, data["stack"])), factors)


KINDS[Rescaled.kind] = Rescaled
