"""What frameworks call variables, as a list of named leaves."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from qrjax._adapters._trace import abstract
from qrjax._interpreter._model import Leaf


def path_name(path: Sequence[Any]) -> str:
    """A path of a pytree, "encoder/Dense_0/kernel"."""
    return "/".join(map(str, steps_of(path)))


def steps_of(path: Sequence[Any]) -> tuple[Any, ...]:
    """The keys, indices and names of a path of a pytree."""
    return tuple(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path)


def leaves_of(variables: Any) -> list[Leaf]:
    """The leaves of an NNX module or state, of Linen variables or their "params" alone, or of any pytree.

    In the order of `jax.tree.leaves`, for a module in that of its state.
    """
    nnx = sys.modules.get("flax.nnx")  # who holds a module has loaded it
    if nnx is not None and isinstance(variables, nnx.Module):
        return nnx_leaves(nnx.split(variables)[1])
    if nnx is not None and isinstance(variables, nnx.State):
        return nnx_leaves(variables)
    if isinstance(variables, Mapping) and "params" in variables:
        return linen_leaves(variables)
    return plain_leaves(variables)


def values_of(variables: Any) -> list[Any]:
    """The arrays, in the order of `leaves_of`."""
    return jax.tree.leaves(tree_of(variables))


def holes_of(variables: Any) -> set[str]:
    """The paths, as those of leaves, of what optax's wrappers put in the place of what they leave out."""
    optax = sys.modules.get("optax")  # who has such a tree has loaded it
    if optax is None:
        return set()
    left_out = optax.MaskedNode
    flat = jax.tree_util.tree_flatten_with_path(tree_of(variables), is_leaf=lambda x: isinstance(x, left_out))[0]
    prefix = "params/" if isinstance(variables, Mapping) and "params" in variables else ""
    names = ["/".join(map(str, steps_of(_unboxed(path)))) for path, x in flat if isinstance(x, left_out)]
    return {name.removeprefix(prefix) for name in names}


def plain_leaves(variables: Any) -> list[Leaf]:
    """Those of a pytree whose leaves are all trained."""
    return [_leaf(steps, array, "", True) for steps, array in _flat(variables)]


def linen_leaves(variables: Any) -> list[Leaf]:
    """Those of Linen's collections; the parameters' paths begin below "params"."""
    return [_leaf(steps, array, "params/", steps[0] == "params") for steps, array in _flat(variables)]


def nnx_leaves(state: Any) -> list[Leaf]:
    """Those of an NNX state; parameters are trained."""
    from flax import nnx

    result = []
    for path, variable in nnx.to_flat_state(state):
        arrays = jax.tree.leaves(variable)
        trained = issubclass(getattr(variable, "type", type(variable)), nnx.Param)
        for i, array in enumerate(arrays):
            result.append(_leaf(path if len(arrays) == 1 else (*path, i), array, "", trained))
    return result


def _flat(variables: Any) -> list[tuple[tuple[Any, ...], Any]]:
    flat = jax.tree_util.tree_flatten_with_path(variables)[0]
    return [(steps_of(_unboxed(path)), array) for path, array in flat]


def _unboxed(path: tuple[Any, ...]) -> tuple[Any, ...]:
    # Boxes such as nn.Partitioned add a step of their own below the parameter's name.
    boxed = len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value"
    return path[:-1] if boxed else path


def _leaf(steps: tuple[Any, ...], array: Any, prefix: str, trained: bool) -> Leaf:
    path = "/".join(map(str, steps))
    law = abstract(array)
    return Leaf(path.removeprefix(prefix), law.shape, law.dtype, trained, steps)


def traced_variables(make: Any, key: Any) -> tuple[Any, Any, Any]:
    """The program of a function of a key that makes variables or an NNX module, their shapes, and their rebuilder."""
    graphs: list[Any] = []

    def run(key: Any) -> Any:
        made = make(key)
        nnx = sys.modules.get("flax.nnx")
        if nnx is not None and isinstance(made, nnx.Module):
            graph, made = nnx.split(made)
            graphs.append(graph)
        return made

    program, shapes = jax.make_jaxpr(run, return_shape=True)(key)
    tree = jax.tree.structure(shapes)

    def rebuild(arrays: Sequence[Any]) -> Any:
        made = jax.tree.unflatten(tree, arrays)
        return sys.modules["flax.nnx"].merge(graphs[-1], made) if graphs else made

    return program, shapes, rebuild


def tree_of(variables: Any) -> Any:
    """A pytree: for an NNX module its state."""
    nnx = sys.modules.get("flax.nnx")
    return nnx.split(variables)[1] if nnx is not None and isinstance(variables, nnx.Module) else variables


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of any pytree by path, in the order of `jax.tree.leaves`, boxes left out of the paths."""
    return [("/".join(map(str, steps)), leaf) for steps, leaf in _flat(tree)]


def trained_of(variables: Any) -> Any:
    """The parameters alone: of Linen's collections "params", of an NNX module its state of nnx.Param."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(variables, nnx.Module):
        return nnx.state(variables, nnx.Param)
    return variables["params"] if isinstance(variables, Mapping) and "params" in variables else variables


def with_values(variables: Any, arrays: Sequence[Any]) -> Any:
    """The same structure with other arrays; for an NNX module a new module."""
    tree = tree_of(variables)
    new = jax.tree.unflatten(jax.tree.structure(tree), arrays)
    return new if tree is variables else sys.modules["flax.nnx"].merge(sys.modules["flax.nnx"].split(variables)[0], new)
