"""The program of a sweep: one device's, compiled once, and the same side by side on several."""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qrjax._adapters._variables import path_name
from qrjax._sweep import _memory
from qrjax._sweep._places import Devices, is_usual
from qrjax._sweep._seeds import as_array

SEED = as_array([0]).dtype
Shapes = Mapping[str, jax.ShapeDtypeStruct]
AXIS = "seeds"
ALONE = "mhlo.num_partitions = 1 "
# So many programs are kept for the next sweep of the same.
KEPT = 8


class Program(NamedTuple):
    """The compiled training of one chunk on each device.

    Attributes:
      chunk: seeds side by side on one device.
      devices: how many run a chunk each.
      digest: of what the results depend on, whatever the number of devices.
      shapes: of the results of one seed.
      run: from as many seeds as all devices take to the leaves of their results.
    """

    chunk: int
    devices: int
    digest: str
    shapes: Shapes
    run: Callable[[np.ndarray[Any, Any]], list[Any]]


def program(train: Callable[..., Any], seeds: int, args: Sequence[Any], chunk: int | None, devices: Devices) -> Program:
    """For so many seeds in all, in chunks of this size or of one that fits."""

    def lowered(count: int) -> _Lowered:
        return _Lowered(train, count, args, devices[: math.ceil(seeds / count)])

    if chunk is None:
        free = _memory.available(devices)
        chunk, found, compiled = _memory.fitting(lowered, math.ceil(seeds / len(devices)), free)
    else:
        found = lowered(chunk)
        compiled = found.compile()
    return Program(chunk, len(found.devices), found.digest(), found.shapes, found.running(compiled))


def digest(train: Callable[..., Any], args: Sequence[Any], chunk: int) -> str:
    """Of a program in chunks of this size, which is not compiled."""
    return _Lowered(train, chunk, args, ()).digest()


class _Lowered:
    """`train` for so many seeds on each of these devices.

    One device's program is traced first; the others run that very program, whatever a mesh around it would mean to
    `train`. It is traced for every sweep, as what `train` reads besides its arguments may have changed.
    """

    def __init__(self, train: Callable[..., Any], count: int, args: Sequence[Any], devices: Devices) -> None:
        # Arguments that are not used are kept, so that the text says which is which.
        batched = jax.jit(jax.vmap(train, in_axes=(0, *(None for _ in args))), keep_unused=True)
        self._traced = batched.trace(jax.ShapeDtypeStruct((count,), SEED), *args)
        self.shapes = _shapes(self._traced.out_info)
        self._alone = self._traced.lower()
        self._text = self._alone.as_text()
        # A program that spreads over devices itself is left as it is.
        self.devices = devices if ALONE in self._text[:1000] else devices[:1]
        self._is_usual = self.devices is not devices or is_usual(devices)
        self._count, self._args = count, args

    def compile(self) -> Any:
        # The text of a callback does not say which function is called.
        if "callback" in self._text:
            return self._compiled()
        # What a setting changes in the compiler is not in the text.
        arguments = str(self._traced.jaxpr.in_avals), str(jax.tree.structure(self._args)), str(self.shapes)
        places = "" if self._is_usual else str([(device.platform, device.id) for device in self.devices])
        name = "\0".join((self._text, *arguments, places, repr(jax.config.values)))
        key = hashlib.sha256(name.encode()).hexdigest()
        found = _KEPT.pop(key) if key in _KEPT else self._compiled()
        _KEPT[key] = found
        while len(_KEPT) > KEPT:
            _KEPT.popitem(last=False)
        return found

    def _compiled(self) -> Any:
        return self._alone.compile() if self._is_usual else self._side_by_side().compile()

    def _side_by_side(self) -> Any:
        function = jaxpr_as_fun(self._traced.jaxpr)
        places = [PartitionSpec(AXIS), *(PartitionSpec() for _ in jax.tree.leaves(self._args))]
        mesh = self._sharding().mesh
        sharded = jax.shard_map(
            lambda *leaves: function(*leaves), mesh=mesh, in_specs=tuple(places), out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )  # fmt: skip
        seeds = jax.ShapeDtypeStruct(
            (self._count * len(self.devices),), SEED, sharding=NamedSharding(mesh, PartitionSpec(AXIS))
        )
        return jax.jit(sharded).lower(seeds, *self._placed())

    def _sharding(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec())

    def _placed(self) -> list[Any]:
        return jax.device_put(jax.tree.leaves(self._args), self._sharding())

    def running(self, compiled: Any) -> Callable[[np.ndarray[Any, Any]], list[Any]]:
        if self._is_usual:
            return lambda seeds: jax.tree.leaves(compiled(seeds, *self._args))
        leaves = self._placed()  # once, for all chunks
        return lambda seeds: jax.tree.leaves(compiled(seeds, *leaves))

    def digest(self) -> str:
        """Of what the results depend on: the program and its arguments."""
        found = hashlib.sha256(self._text.encode())
        for leaf in jax.tree.leaves(self._args):
            is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            data = jax.random.key_data(leaf) if is_key else leaf
            found.update(np.ascontiguousarray(data).tobytes())
        return found.hexdigest()


_KEPT: collections.OrderedDict[str, Any] = collections.OrderedDict()


def _shapes(results: Any) -> Shapes:
    """Of one seed's results by name, from those of a chunk."""
    leaves = jax.tree_util.tree_flatten_with_path(results)[0]
    if not leaves:
        raise TypeError(f"`train` must return numbers or arrays, got {results!r}")
    named = {path_name(path) or "value": jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for path, leaf in leaves}
    if len(named) < len(leaves):
        names = [path_name(path) or "value" for path, _ in leaves]
        raise TypeError(f"`train` must return results of different names, got {sorted(names)}")
    for name, leaf in named.items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or np.issubdtype(leaf.dtype, np.complexfloating):
            raise TypeError(f"`train` must return real numbers, got {name!r} of dtype {leaf.dtype}")
    return named
