"""What is made of another origin's tensor: multiplied, moved by numbers, with its axes in another order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._autoinit._own import Rescaling
from qrjax._interpreter._model import Leaf
from qrjax._layouts._coordinates import Shape, box_of, from_index
from qrjax._records._origins import Built, Constant, Drawn, Factored, Keys, Origin, Stored
from qrjax._records._regions import multiplied

# For each axis a range, or the places of points.
Places = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Derived(Origin):
    """A tensor whose elements are each made of one of another's; `whole` is where its values come from."""

    whole: Origin

    def at(self, index: Any) -> Array:
        asked = box_of(index, self.shape)
        if asked is not None:
            starts, extent, result = asked
            ranges = tuple(slice(s, s + n) for s, n in zip(starts, extent, strict=True))
            return self._made(self.whole.at(self._there(ranges)), ranges).reshape(result)
        coordinates, result = from_index(index, self.shape)
        places = tuple(np.broadcast_to(np.asarray(c), result) for c in coordinates)
        return self._made(self.whole.at(self._there(places)), places)

    def array(self) -> Array:
        return self._made(self.whole.array(), (slice(None),) * len(self.shape))

    def _there(self, places: Places) -> Places:
        """Where in the other tensor these places are."""
        return places

    def _made(self, values: Array, places: Places) -> Array:
        """Of the other tensor's values there, this one's."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Offset(_Derived):
    """A tensor plus numbers that are the same along some axes: `offsets`, whose length is 1 along these."""

    kind: ClassVar[str] = "offset"
    offsets: np.ndarray

    def _made(self, values: Array, places: Places) -> Array:
        first = [slice(None) if isinstance(part, slice) else np.zeros_like(part) for part in places]
        cut = [part if n > 1 else one for part, one, n in zip(places, first, self.offsets.shape, strict=True)]
        return values + jnp.asarray(self.offsets[tuple(cut)])

    def to_dict(self) -> dict[str, Any]:
        return {"offsets": self.offsets.tolist(), "of": named(self.whole)}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        return cls(shape, dtype, origin_of(shape, dtype, data["of"]), np.asarray(data["offsets"], np.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaled(_Derived):
    """A tensor times `factors`, one after the other: float32, scalars or a number for each layer along `stack`."""

    kind: ClassVar[str] = "rescaled"
    stack: tuple[int, ...]
    factors: tuple[np.ndarray, ...]

    def _made(self, values: Array, places: Places) -> Array:
        layers = tuple(places[a] for a in self.stack)
        # Ranges keep their axes, along which the others' elements lie.
        rest = [a for a, part in enumerate(places) if a not in self.stack and isinstance(part, slice)]
        factors = [np.expand_dims(f[layers], rest) if f.ndim else f for f in self.factors]
        return multiplied(values, factors, self.dtype)

    def to_dict(self) -> dict[str, Any]:
        inner = named(self.whole) | {"dtype": np.dtype(self.whole.dtype).name}
        return {"stack": list(self.stack), "factors": [f.tolist() for f in self.factors], "of": inner}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        factors = tuple(np.asarray(f, np.float32) for f in data["factors"])
        inner = origin_of(shape, np.dtype(data["of"]["dtype"]), data["of"])
        return cls(shape, dtype, inner, tuple(map(int, data["stack"])), factors)


def rescaled(leaf: Leaf, whole: Origin, rescaling: Rescaling, correction: np.ndarray | None) -> Rescaled:
    """The origin of a variable that `autoinit` rescales and, perhaps, a calibration corrects."""
    factors = (rescaling.factors,) if correction is None else (rescaling.factors, np.asarray(correction, np.float32))
    return Rescaled(leaf.shape, leaf.dtype, whole, rescaling.stack, factors)


@dataclasses.dataclass(frozen=True, eq=False)
class Transposed(_Derived):
    """A tensor whose layers lie along other axes than the leading ones.

    `order`: for each axis of `whole`, the axis of the tensor that it is.
    """

    kind: ClassVar[str] = "transposed"
    order: tuple[int, ...]

    def _there(self, places: Places) -> Places:
        return tuple(places[a] for a in self.order)

    def _made(self, values: Array, places: Places) -> Array:
        ranges = all(isinstance(part, slice) for part in places)
        return jnp.transpose(values, np.argsort(self.order).tolist()) if ranges else values

    def to_dict(self) -> dict[str, Any]:
        return {"order": list(self.order), "of": named(self.whole)}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        order = tuple(map(int, data["order"]))
        return cls(shape, dtype, origin_of(tuple(shape[a] for a in order), dtype, data["of"]), order)


KINDS: dict[str, Any] = {
    kind.kind: kind for kind in (Drawn, Factored, Constant, Stored, Keys, Built, Offset, Rescaled, Transposed)
}


def named(origin: Origin) -> dict[str, Any]:
    """An origin as plain values, with the name of its kind."""
    return {"kind": origin.kind} | origin.to_dict()


def origin_of(shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Any:
    """The inverse of `named`."""
    return KINDS[data["kind"]].from_dict(shape, dtype, data)
