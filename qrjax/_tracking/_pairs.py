"""Trained weights beside where their initial values come from."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend
import numpy as np

from qrjax._adapters._variables import leaves_of, path_name, traced_variables, tree_of, values_of
from qrjax._interpreter._model import Leaf, check_distinct
from qrjax._records._entries import Entry, check_code, held, programmed
from qrjax._records._leaves import check_leaves
from qrjax._records._origins import Drawn, Origin
from qrjax._records._record import Record
from qrjax._terminal._received import received


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """One trained variable: its leaf, its array now, and its initial values."""

    leaf: Leaf
    array: Any
    origin: Origin


def pairs(initial: Any, params: Any) -> list[Pair]:
    """Every trained floating-point variable with its origin.

    Args:
      initial: a Record, a function without arguments that returns variables, or variables.
      params: variables, or their "params" alone.

    Raises:
      ValueError: if paths, shapes or dtypes differ; the first that does is named.
      TypeError: if `initial` is none of these.
    """
    entries = {entry.leaf.path: entry for entry in _entries(initial)}
    given = list(trained(params))
    check_leaves([e.leaf for e in entries.values() if _counts(e.leaf)], [leaf for leaf, _ in given])
    for leaf, _ in given:
        check_code(entries[leaf.path])
    return [Pair(leaf, array, entries[leaf.path].origin) for leaf, array in given]


def check_arrays(name: str, tree: Any) -> None:
    """Nothing, if every leaf is an array.

    Raises:
      TypeError: otherwise; the first that is none is named.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree_of(tree))[0]:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            place = f" at {path_name(path)!r}" if path else ""
            raise TypeError(f"`{name}` must hold arrays, got {received(leaf)}{place}")


def check_not_traced(name: str, *trees: Any) -> None:
    """Nothing, if no leaf is traced.

    Raises:
      TypeError: otherwise.
    """
    leaves = [leaf for tree in trees if not callable(tree) for leaf in jax.tree.leaves(tree_of(tree))]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise traced_error(name)


def traced_error(name: str) -> TypeError:
    """What to say of a function that needs numbers and was given traced arrays."""
    return TypeError(
        f"qrjax.{name} gives Python's numbers, so call it outside of jit and vmap, on the params that come out of "
        "them; qrjax.mask and qrjax.prune work inside too"
    )


def trained(params: Any) -> Iterator[tuple[Leaf, Any]]:
    """The trained floating-point variables.

    Raises:
      TypeError: if a leaf is no array.
      ValueError: if two have one path.
    """
    check_arrays("params", params)
    leaves = leaves_of(params)
    check_distinct(leaves)
    for leaf, array in zip(leaves, values_of(params), strict=True):
        if _counts(leaf):
            yield leaf, array


def _counts(leaf: Leaf) -> bool:
    return leaf.trained and bool(jax.numpy.issubdtype(leaf.dtype, np.inexact))


def _entries(initial: Any) -> list[Entry]:
    if isinstance(initial, Record):
        return list(initial.entries)
    if callable(initial) and not _is_module(initial):
        program, shapes, _ = traced_variables(lambda _: initial(), jax.random.key(0))
        leaves = leaves_of(shapes)
        if any(isinstance(const, jax.core.Tracer) for const in program.consts):
            # It depends on the program that this is called in, as on a key that is mapped over, and becomes its part.
            arrays = jax.extend.core.jaxpr_as_fun(program)(jax.random.key(0))
            return [Entry(leaf, held(leaf, a)) for leaf, a in zip(leaves, arrays, strict=True)]
        with jax.ensure_compile_time_eval():  # inside a program too
            origins = programmed(program, leaves, [True] * len(leaves), [jax.random.key(0)])
        return [Entry(leaf, origin) for leaf, origin in zip(leaves, origins, strict=True)]
    if initial is None or isinstance(initial, (str, bytes)):
        raise TypeError(
            "`record_or_init_fn` must be a qrjax.Record, a function () -> variables, or variables, got "
            f"{received(initial)}"
        )
    check_arrays("record_or_init_fn", initial)
    return [Entry(leaf, held(leaf, a)) for leaf, a in zip(leaves_of(initial), values_of(initial), strict=True)]


def _is_module(value: Any) -> bool:
    """Whether a callable is a module, which holds variables, rather than a function."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def depth(origin: Origin) -> int:
    """How many axes in front are layers, each drawn by itself."""
    return len(origin.layers) if isinstance(origin, Drawn) else 0
