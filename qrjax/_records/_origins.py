"""Where one tensor of initial values comes from."""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._specification import Specification
from qrjax._layouts._coordinates import Shape, box_of, from_index
from qrjax._records._regions import box, multiplied, points


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """Where a tensor of initial values comes from; `kind` names it in a file.

    Attributes:
      shape, dtype: of the tensor.
    """

    kind: ClassVar[str]
    shape: Shape
    dtype: Any

    def array(self) -> Array:
        """All values."""
        raise NotImplementedError

    def at(self, index: Any) -> Array:
        """The values at an index, with NumPy's rules; here a part of the whole, which is kept."""
        return _chosen(self._values, index)

    @functools.cached_property
    def _values(self) -> Array:
        return self.array()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn(Origin):
    """Weights that one of the builders draws, each by itself.

    Attributes:
      drawn: what was drawn; of one layer where layers are stacked.
      keys: uint32, the words of the key along the last axis; the others are the layers'.
      factors: float32, what the weights were multiplied with: scalars, or of the layers' shape.
    """

    kind: ClassVar[str] = "drawn"
    drawn: Specification
    keys: np.ndarray
    factors: tuple[np.ndarray, ...] = ()

    @property
    def layers(self) -> Shape:
        """The axes in front, along which each tensor has a key of its own."""
        return self.keys.shape[:-1]

    def _box(self, starts: Sequence[int], extent: Shape) -> Array:
        """A box of one layer."""
        depth = len(self.layers)
        layer = tuple(map(int, starts[:depth]))
        factors = [f[layer] if f.ndim else f[()] for f in self.factors]
        value = box(
            self.keys[layer], factors, np.asarray(starts[depth:], np.uint32), drawn=self.drawn,
            shape=self.shape[depth:], extent=tuple(extent[depth:]), dtype=self.dtype,
        )  # fmt: skip
        return value.reshape(extent)

    def at(self, index: Any) -> Array:
        """The cost is that of the values asked for, and for a box no more memory than they take."""
        asked = box_of(index, self.shape)
        if asked is not None:
            starts, extent, result = asked
            return self._region(starts, extent).reshape(result)
        coordinates, result = from_index(index, self.shape)
        if 0 in result:
            return jnp.zeros(result, self.dtype)
        flat = [np.asarray(c).astype(np.uint32) for c in np.broadcast_arrays(*map(np.asarray, coordinates))] or []
        flat = [np.broadcast_to(c, result).reshape(-1) for c in flat]
        depth = len(self.layers)
        layer = tuple(flat[:depth])
        count = math.prod(result)
        words = np.broadcast_to(self.keys[layer], (count, self.keys.shape[-1]))
        factors = [np.broadcast_to(f[layer] if f.ndim else f, (count,)) for f in self.factors]
        found = points(
            words, factors, tuple(flat[depth:]), drawn=self.drawn, shape=self.shape[depth:], dtype=self.dtype
        )
        return found.reshape(result)

    def array(self) -> Array:
        return self.at(...)

    def _region(self, starts: Shape, extent: Shape) -> Array:
        """A box of any number of layers."""
        if 0 in extent:
            return jnp.zeros(extent, self.dtype)
        depth = len(self.layers)
        one = (*[1] * depth, *extent[depth:])
        layers = [range(start, start + n) for start, n in zip(starts[:depth], extent[:depth], strict=True)]
        boxes = [self._box((*layer, *starts[depth:]), one) for layer in itertools.product(*layers)]
        return boxes[0] if len(boxes) == 1 else jnp.concatenate(boxes).reshape(extent)

    def to_dict(self) -> dict[str, Any]:
        factors = [f.tolist() for f in self.factors]
        return {"drawn": self.drawn.to_dict(), "keys": self.keys.tolist(), "factors": factors}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        factors = tuple(np.asarray(f, np.float32) for f in data["factors"])
        return cls(shape, dtype, Specification.from_dict(data["drawn"]), np.asarray(data["keys"], np.uint32), factors)


@dataclasses.dataclass(frozen=True, eq=False)
class Factored(Origin):
    """An orthogonal matrix: none of its entries is known before all are.

    `axes`: the matrix, of unit variance, was reshaped to these axes of the tensor and transposed back; None
    where it is the builder's own tensor.
    """

    kind: ClassVar[str] = "orthogonal"
    build: Orthogonal
    drawn_shape: Shape
    drawn_dtype: Any
    keys: np.ndarray
    axes: tuple[int, ...] | None = None
    factors: tuple[np.ndarray, ...] = ()

    def array(self) -> Array:
        tensors = [self._one(layer) for layer in np.ndindex(*self.keys.shape[:-1])]
        return jnp.stack(tensors).reshape(self.shape)

    def _one(self, layer: tuple[int, ...]) -> Array:
        value = self.build(jnp.asarray(self.keys[layer]), self.drawn_shape, self.drawn_dtype)
        shape = self.shape[len(layer) :]
        if self.axes is None:
            value = value.reshape(shape)
        else:
            value = value * np.asarray(math.sqrt(max(self.drawn_shape)), value.dtype)
            value = jnp.transpose(value.reshape([shape[a] for a in self.axes]), np.argsort(self.axes).tolist())
        return multiplied(value, [f[layer] if f.ndim else f[()] for f in self.factors], self.dtype)

    def to_dict(self) -> dict[str, Any]:
        return {
            "build": self.build.to_dict(),
            "shape": list(self.drawn_shape),
            "dtype": np.dtype(self.drawn_dtype).name,
            "keys": self.keys.tolist(),
            "axes": None if self.axes is None else list(self.axes),
            "factors": [f.tolist() for f in self.factors],
        }

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        axes = None if data["axes"] is None else tuple(map(int, data["axes"]))
        return cls(
            shape, dtype, Orthogonal.from_dict(data["build"]), tuple(map(int, data["shape"])), np.dtype(data["dtype"]),
            np.asarray(data["keys"], np.uint32), axes, tuple(np.asarray(f, np.float32) for f in data["factors"]),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Constant(Origin):
    """One value everywhere."""

    kind: ClassVar[str] = "constant"
    value: np.ndarray

    def at(self, index: Any) -> Array:
        return jnp.full(from_index(index, self.shape)[1], self.value, self.dtype)

    def array(self) -> Array:
        return self.at(...)

    def to_dict(self) -> dict[str, Any]:
        """The value is there in words too, for whoever reads the file."""
        return {"bytes": _encoded(self.value), "value": str(self.value)}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        return cls(shape, dtype, _decoded(data["bytes"], dtype, ()))


@dataclasses.dataclass(frozen=True, eq=False)
class Stored(Origin):
    """A few values, kept."""

    kind: ClassVar[str] = "stored"
    values: np.ndarray

    def array(self) -> Array:
        return jnp.asarray(self.values)

    def to_dict(self) -> dict[str, Any]:
        return {"bytes": _encoded(self.values)}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        return cls(shape, dtype, _decoded(data["bytes"], dtype, shape))


@dataclasses.dataclass(frozen=True, eq=False)
class Keys(Origin):
    """Typed JAX keys, such as those of NNX's random streams."""

    kind: ClassVar[str] = "keys"
    words: np.ndarray

    def array(self) -> Array:
        return jax.random.wrap_key_data(jnp.asarray(self.words), impl=implementation(str(self.dtype)))

    def to_dict(self) -> dict[str, Any]:
        return {"words": self.words.tolist()}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        return cls(shape, dtype, np.asarray(data["words"], np.uint32))


@dataclasses.dataclass(frozen=True, eq=False)
class Built(Origin):
    """Values from a builder that is not ours: it is run, which needs the model's code."""

    kind: ClassVar[str] = "model"
    run: Callable[[], Array] | None = None

    def array(self) -> Array:
        if self.run is None:
            raise LookupError("the values come from a builder of the model's own")
        return self.run()

    def at(self, index: Any) -> Array:
        """The whole is not kept, as it may be large."""
        from_index(index, self.shape)  # before anything is run
        return _chosen(self.array(), index)

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, shape: Shape, dtype: Any, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, but for the code, which a file does not hold."""
        del data
        return cls(shape, dtype)


def needs_model(origin: Origin) -> bool:
    """Whether values come from a builder of the model's own, whose code is not at hand."""
    origin = getattr(origin, "whole", origin)
    return isinstance(origin, Built) and origin.run is None


def _chosen(array: Array, index: Any) -> Array:
    """Of an array, by an index that is checked, and may hold lists, as those of `Drawn` are and may."""
    from_index(index, array.shape)
    parts = index if isinstance(index, tuple) else (index,)
    return array[tuple(np.asarray(p, None if p else np.int32) if isinstance(p, list) else p for p in parts)]


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _decoded(data: str, dtype: Any, shape: Shape) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)


def implementation(dtype: str) -> str:
    """Of a key's dtype: "key<fry>" is threefry2x32."""
    tag = dtype[4:-1]
    return {"fry": "threefry2x32", "urbg": "unsafe_rbg"}.get(tag, tag)
