"""What a call returns: a program returns arrays alone, a module objects that hold them, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._adapters._trace import split


@jax.tree_util.register_pytree_node_class
class Held:
    """An object that JAX does not know, as a tree of the arrays that it holds itself.

    Attributes:
      arrays: those that a program computes.
      like: makes such an object of others.
    """

    def __init__(self, arrays: Sequence[Any], like: Callable[[Sequence[Any]], Any]):
        self.arrays, self.like = arrays, like

    def tree_flatten(self) -> tuple[Sequence[Any], Callable[[Sequence[Any]], Any]]:
        return self.arrays, self.like

    @classmethod
    def tree_unflatten(cls, like: Callable[[Sequence[Any]], Any], arrays: Sequence[Any]) -> Held:
        return cls(arrays, like)


def returned(outputs: Any) -> Any:
    """What a call returns, as a program can: of objects that JAX does not know, as distributions, their own arrays."""
    return jax.tree.map(_held, outputs)


def as_returned(outputs: Any, arrays: Sequence[Any]) -> Any:
    """What the call itself returns, of a tree by `returned`, with these arrays in the places of its own.

    Raises:
      TypeError: if an object that JAX does not know cannot be made of them.
    """
    made = jax.tree.unflatten(jax.tree.structure(outputs), arrays)
    return jax.tree.map(lambda n: n.like(n.arrays) if _is_held(n) else n, made, is_leaf=_is_held)


def _is_held(node: Any) -> bool:
    return isinstance(node, Held)


def _held(leaf: Any) -> Any:
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        return leaf
    kind: Any = type(leaf)
    found, join = split(_attributes(leaf), _holds_traced)
    arrays = [part for part in found if _is_traced(part)]
    deeper = [type(part).__name__ for part in found if not _is_traced(part)]
    made = None if found else leaf  # which would keep traced arrays

    def like(others: Sequence[Any]) -> Any:
        if made is not None:
            return made
        try:
            if deeper:
                raise TypeError(f"its arrays lie deeper, in an object of type {deeper[0]}")
            new = kind.__new__(kind)
        except TypeError as error:
            raise TypeError(
                f"`loss` gets what the model returns, but no object of type {kind.__name__} can be made with other "
                f"arrays: {error}; register the class with jax.tree_util, or return arrays"
            ) from error
        vars(new).update(join(others))
        return new

    return Held(arrays, like)


def _attributes(value: Any) -> dict[str, Any]:
    return {} if isinstance(value, jax.core.Tracer) else dict(getattr(value, "__dict__", {}))


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _holds_traced(value: Any) -> bool:
    return _is_traced(value) or any(map(_is_traced, _attributes(value).values()))
