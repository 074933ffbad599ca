"""Another origin's weights with a number of each unit added."""

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
class Offset:
    """A tensor plus numbers that are the same along some axes.

    Attributes:
      shape, dtype: of the tensor.
      whole: where its values come from.
      offsets: what is added, with axes of length 1 along which it is the same.
    """

    kind: ClassVar[str] = "offset"
    shape: Shape
    dtype: Any
    whole: Origin
    offsets: np.ndarray

    def box(self, starts: Sequence[int], extent: Shape) -> Array:
        """As `Origin.box`."""
        cut = tuple(
            slice(None) if self.offsets.shape[a] == 1 else slice(int(s), int(s) + n)
            for a, (s, n) in enumerate(zip(starts, extent, strict=True))
        )
        return self.whole.box(starts, extent) + jnp.asarray(self.offsets[cut])

    def at(self, index: Any) -> Array:
        """As `Origin.at`."""
        asked = box_of(index, self.shape)
        if asked is not None:
            starts, extent, result = asked
            ranges = tuple(slice(s, s + n) for s, n in zip(starts, extent, strict=True))
            cut = tuple(slice(None) if self.offsets.shape[a] == 1 else r for a, r in enumerate(ranges))
            return (self.whole.at(ranges) + jnp.asarray(self.offsets[cut])).reshape(result)
        coordinates, result = from_index(index, self.shape)
        there = [np.broadcast_to(np.asarray(c), result) for c in coordinates]
        own = self.offsets[
            tuple(c if n > 1 else np.zeros_like(c) for c, n in zip(there, self.offsets.shape, strict=True))
        ]
        return self.whole.at(tuple(there)) + jnp.asarray(own)

    def array(self) -> Array:
        """As `Origin.array`."""
        return self.whole.array() + jnp.asarray(self.offsets)

    def to_dict(self) -> dict[str, Any]:
        """As `Origin.to_dict`."""
        inner = {"kind": self.whole.kind} | self.whole.to_dict()
        return {"offsets": self.offsets.tolist(), "of": inner}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Offset:
        """The inverse of `to_dict`."""
        inner = KINDS[data["of"]["kind"]].from_dict(shape, dtype, data["of"])
        return cls(shape, dtype, inner, np.asarray(data["offsets"], np.float32))


KINDS[Offset.kind] = Offset
