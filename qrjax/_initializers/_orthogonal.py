"""Orthogonal initializers: a Gaussian matrix from either source, made orthogonal by a QR factorization.

These are the exception to `same bits everywhere`: the factorization is LAPACK's or the accelerator's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

from qrjax._initializers._arguments import shape_of
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._scaling import Fixed
from qrjax._initializers._sharding import Tensor, sharded
from qrjax._initializers._specification import FACTOR, KEY, law_to_dict, source_from_dict, source_to_dict
from qrjax._initializers._streams import Component, Streams
from qrjax._layouts._coordinates import Shape, from_index
from qrjax._layouts._sources import Source
from qrjax._values._distributions import Normal, check_dtype
from qrjax._words._meshes import explicit_axes
from qrjax._words._transfers import transferring


@dataclasses.dataclass(frozen=True)
class Orthogonal(Streams):
    """`init(key, shape, dtype=None, out_sharding=None)`: orthonormal rows or columns, times a scale.

    `delta`: only the centre of a convolution kernel's receptive field is not zero. `law`: what is factorized.
    """

    scale: float
    column_axis: int
    source: Source
    dtype: np.dtype[Any] | None
    delta: bool
    expression: str = dataclasses.field(compare=False)
    path: tuple[Component, ...] = ()
    law: Normal = dataclasses.field(default=Normal(), repr=False)
    __repr__ = Streams.__repr__  # a dataclass would write its own

    def __call__(
        self,
        key: Array,
        shape: Any,
        dtype: Any = None,
        out_sharding: NamedSharding | PartitionSpec | None = None,
    ) -> Array:
        """A tensor of initial weights; arguments as for every initializer.

        Raises:
          ValueError: if `shape` has fewer than 2 dimensions or, for delta-orthogonal kernels, not 3 to 5, or
            fewer outputs than inputs.
          TypeError, ValueError: as every initializer.
        """
        shape, found = self._checked(shape, dtype)
        if 0 in shape:
            return jnp.zeros(shape, found, out_sharding=out_sharding)
        kernel = Tensor(_kernel, self._without_path(), shape, found)
        return sharded(kernel, out_sharding)(self._drawn_words(key))

    @transferring
    def at(self, key: Array, shape: Any, index: Any, dtype: Any = None) -> Array:
        """`init(key, shape, dtype)[index]`. No entry of a QR factor is known before all are: costs the whole."""
        shape, found = self._checked(shape, dtype)
        # Coordinates, as for every initializer: an array's own indexing clips in silence, and takes no lists.
        coordinates, result = from_index(index, shape)
        return jnp.broadcast_to(self(key, shape, found)[coordinates], result)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. Without the path: what is recorded draws from a key that has absorbed it."""
        source, law = source_to_dict(self.source), law_to_dict(self.law)
        del law["name"]
        return {"scale": self.scale, "column_axis": self.column_axis, "source": source, "delta": self.delta} | law

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Orthogonal:
        """The inverse of `to_dict`."""
        source, law = source_from_dict(data["source"]), Normal(tabled=data.get("quantile") == "table")
        scale, axis = float(data["scale"]), int(data["column_axis"])
        return cls(scale, axis, source, None, bool(data["delta"]), "orthogonal", law=law)

    def _checked(self, shape: Any, dtype: Any) -> tuple[Shape, np.dtype[Any]]:
        shape = shape_of(shape)
        found = check_dtype(self.dtype if dtype is None else dtype)
        rank = 2 if self.delta else len(shape)
        if self.delta:
            if len(shape) not in (3, 4, 5):
                raise ValueError(f"a delta-orthogonal `shape` must have 3, 4 or 5 dimensions, got {shape}")
            if shape[-1] < shape[-2]:
                raise ValueError(f"a delta-orthogonal `shape` needs at least as many outputs as inputs, got {shape}")
        elif rank < 2:
            raise ValueError(f"an orthogonal `shape` must have at least 2 dimensions, got {shape}")
        if not -rank <= self.column_axis < rank:
            kind = "matrix" if self.delta else "shape"
            raise ValueError(f"`column_axis` {self.column_axis} is outside a {kind} of {rank} dimensions")
        return shape, found


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shape", "dtype"))
def _kernel(init: Orthogonal, words: Array, *, shape: Shape, dtype: np.dtype[Any]) -> Array:
    words = checkpoint_name(words, KEY)
    label = FACTOR + json.dumps(init.to_dict() | {"shape": shape, "dtype": dtype.name})
    if not init.delta:
        return checkpoint_name(_matrix(init, words, shape, dtype), label)
    centre = tuple((n - 1) // 2 for n in shape[:-2])
    matrix = _matrix(init, words, shape[-2:], dtype)
    return checkpoint_name(jnp.zeros(shape, dtype).at[centre].set(matrix), label)


@jax.custom_batching.custom_vmap
def _factors(matrix: Array) -> tuple[Array, Array]:
    q, r = jnp.linalg.qr(matrix)
    return q, r


@_factors.def_vmap
def _factors_of_many(_axis_size: int, _in_batched: Any, matrices: Array) -> tuple[Any, Any]:
    # One by one on a CPU: jaxlib spreads a batch over its threads and waits in one of them, so that programs with
    # several batches, such as a vmap over seeds, hang for good (seen with jax 0.10.2, its own `orthogonal` too).
    def each(many: Array) -> tuple[Array, Array]:
        one_by_one = functools.partial(lax.map, _factors)
        return lax.platform_dependent(many, cpu=one_by_one, default=lambda many: tuple(jnp.linalg.qr(many)))

    kind = jax.typeof(matrices)
    if explicit_axes(kind) and any(kind.sharding.spec):
        # No loop goes along an axis that lies on several devices: each has one over its own.
        place = kind.sharding
        each = jax.shard_map(each, mesh=place.mesh, in_specs=place.spec, out_specs=place.spec)
    return each(matrices), (True, True)


def _matrix(init: Orthogonal, words: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    columns = shape[init.column_axis]
    rows = math.prod(shape) // columns
    # Half precision has no QR; the factor is rounded afterwards.
    wide = dtype if dtype.itemsize >= 4 else np.dtype("float32")
    gaussian = Initializer(init.law, Fixed(0.0, 1.0), init.source, None, "normal")
    q, r = _factors(gaussian(words, (max(rows, columns), min(rows, columns)), wide))
    # With a positive diagonal of R the factors are unique, and Q is uniform (Mezzadri 2007, math-ph/0609050).
    q = q * jnp.sign(jnp.diagonal(r))[None, :]
    matrix = (q if rows >= columns else q.T) * jnp.asarray(init.scale, wide)
    rest = [n for axis, n in enumerate(shape) if axis != init.column_axis % len(shape)]
    return jnp.moveaxis(matrix.reshape(*rest, columns), -1, init.column_axis).astype(dtype)
