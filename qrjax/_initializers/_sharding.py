"""Tensors laid out over devices as they are made, so that each device makes its part alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from qrjax._layouts._coordinates import Shape
from qrjax._words._meshes import axes_of

Make = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What makes a tensor from the words of a key; equal ones share their compiled programs."""

    function: Callable[..., Array]
    init: Any
    shape: Shape
    dtype: np.dtype[Any]

    def __call__(self, words: Array) -> Array:
        return self.function(self.init, words, shape=self.shape, dtype=self.dtype)


def sharded(make: Make, out_sharding: NamedSharding | PartitionSpec | None) -> Make:
    """`make` with its result laid out as `out_sharding` says, without a copy on one device first."""
    if out_sharding is None:
        return make
    if not isinstance(out_sharding, (NamedSharding, PartitionSpec)):
        raise TypeError(f"`out_sharding` must be a NamedSharding or a PartitionSpec, got {out_sharding!r}")
    mesh = out_sharding.mesh if isinstance(out_sharding, NamedSharding) else jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise ValueError(f"`out_sharding` {out_sharding} needs a mesh: use jax.set_mesh, or pass a NamedSharding")
    # Within a shard_map an axis may be neither: what is drawn there is for one device of it.
    automatic, explicit = (axes_of(mesh, kind) for kind in (AxisType.Auto, AxisType.Explicit))
    spec = out_sharding.spec if isinstance(out_sharding, NamedSharding) else out_sharding
    typed, constraint = _part(spec, explicit), _part(spec, automatic)
    _check_order(out_sharding, spec, explicit)
    if not any(typed):
        return functools.partial(_constrained, make, out_sharding)
    body = functools.partial(_constrained, make, spec) if any(constraint) else make
    place = NamedSharding(out_sharding.mesh, typed) if isinstance(out_sharding, NamedSharding) else typed
    return jax.sharding.auto_axes(body, axes=explicit, out_sharding=place)


def _check_order(out_sharding: Any, spec: PartitionSpec, explicit: tuple[str, ...]) -> None:
    for part in spec:
        named = [name in explicit for name in part] if isinstance(part, tuple) else []
        if named != sorted(named, reverse=True):  # JAX would turn them round, without a word
            raise ValueError(
                f"`out_sharding` {out_sharding} must name explicit axes first where it names several: {part}"
            )


def _part(spec: PartitionSpec, axes: tuple[str, ...]) -> PartitionSpec:
    """What a specification says about some axes of the mesh."""
    named = ([n for n in (part if isinstance(part, tuple) else (part,)) if n in axes] for part in spec)
    return PartitionSpec(*(tuple(part) or None for part in named))


def _constrained(make: Make, out_sharding: NamedSharding | PartitionSpec, words: Array) -> Array:
    # Within a program nothing is left to share, and JAX would keep each `make` that it was given.
    constrain = _constrain if isinstance(words, jax.core.Tracer) else _constrain_in_one
    return constrain(make, out_sharding, words)


def _constrain(make: Make, out_sharding: NamedSharding | PartitionSpec, words: Array) -> Array:
    return lax.with_sharding_constraint(make(words), out_sharding)


_constrain_in_one = jax.jit(_constrain, static_argnums=(0, 1))
