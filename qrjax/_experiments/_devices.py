"""Stacked seeds spread over devices, a chunk on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qrjax._sweep._places import Devices, is_usual

AXIS = "seeds"


class Side:
    """Devices side by side, each of which runs one device's program on its own seeds.

    Attributes:
      devices: how many.
    """

    def __init__(self, devices: Devices) -> None:
        self.devices = len(devices)
        self._mesh = None if is_usual(devices) else Mesh(np.array(devices), (AXIS,))

    def spread(self, function: Callable[[Any, Any], Any]) -> Any:
        """The program of (what all share, states of stacked seeds); the states are used up."""
        if self._mesh is not None:
            # Without a check of what varies, which would put operations into the program that one device has not.
            function = jax.shard_map(
                function, mesh=self._mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
                out_specs=PartitionSpec(AXIS), check_vma=False,
            )  # fmt: skip
        return jax.jit(function, donate_argnums=1)

    def same(self, tree: Any) -> Any:
        """The arrays, on every device."""
        return tree if self._mesh is None else jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def apart(self, tree: Any) -> Any:
        """Arrays of stacked seeds, or their shapes, each device's part on it."""
        if self._mesh is None:
            return tree
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
        return jax.device_put(tree, sharding)
