"""Weights whose layers lie along other axes than the leading ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._layouts._coordinates import Shape, box_of, from_index
from qrjax._records._origins import KINDS, Origin


@dataclasses.dataclass(frozen=True, eq=False)
class Transposed:
    """Another origin's tensor with its axes in another order.

    Attributes:
      shape, dtype: of the tensor.
      whole: where its values come from.
      order: for each axis of `whole`, the axis of the tensor that it is.
    """

    kind: ClassVar[str] = "transposed"
    shape: Shape
    dtype: Any
    whole: Origin
    order: tuple[int, ...]

    def box(self, starts: Sequence[int], extent: Shape) -> Array:
        """As `Origin.box`."""
        found = self.whole.box([starts[a] for a in self.order], tuple(extent[a] for a in self.order))
        return jnp.transpose(found, np.argsort(self.order).tolist())

    def at(self, index: Any) -> Array:
        """As `Origin.at`."""
        asked = box_of(index, self.shape)
        if asked is not None:
            starts, extent, result = asked
            ranges = tuple(slice(starts[a], starts[a] + extent[a]) for a in self.order)
            return jnp.transpose(self.whole.at(ranges), np.argsort(self.order).tolist()).reshape(result)
        coordinates, result = from_index(index, self.shape)
        if 0 in result:
            return jnp.zeros(result, self.dtype)
        there = np.broadcast_arrays(*(np.asarray(coordinates[a]) for a in self.order))
        return self.whole.at(tuple(there)).reshape(result)

    def array(self) -> Array:
        """As `Origin.array`."""
        return jnp.transpose(self.whole.array(), np.argsort(self.order).tolist())

    def to_dict(self) -> dict[str, Any]:
        """As `Origin.to_dict`."""
        return {"order": list(self.order), "of": {"kind": self.whole.kind} | self.whole.to_dict()}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Transposed:
        """The inverse of `to_dict`."""
        order = tuple(map(int, data["order"]))
        inner = tuple(shape[a] for a in order)
        return cls(shape, dtype, KINDS[data["of"]["kind"]].from_dict(inner, dtype, data["of"]), order)


KINDS[Transposed.kind] = Transposed
