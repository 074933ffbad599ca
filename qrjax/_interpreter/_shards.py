"""Programs with named axes, run: every shard gets the same arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax


def in_shards(function: Callable[..., Any], axes: Mapping[Any, int]) -> Callable[..., Any]:
    """The function with names of axes bound: run for every shard on the same arguments; the first one's results."""
    for name, size in axes.items():
        function = _first(jax.vmap(function, in_axes=None, axis_name=name, axis_size=size))
    return function


def _first(shards: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: jax.tree.map(lambda result: result[0], shards(*arguments))
