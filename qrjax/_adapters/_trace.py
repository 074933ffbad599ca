"""What all adapters do: sort arguments into inputs and the rest, trace, name modules' calls, run parts of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from qrjax._interpreter._model import INPUT, OUTPUT, Call, Calls
from qrjax._rules._modules import rule_of

T = TypeVar("T")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def is_array(leaf: Any) -> bool:
    """Whether an argument is an input of the program, rather than a setting."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct, jax.core.Tracer))


def hides_arrays(leaf: Any) -> bool:
    """Whether a leaf is a dataclass with arrays, which nothing sees; NumPy's numbers in one are settings."""
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, type):
        return False
    held = (getattr(leaf, field.name, None) for field in dataclasses.fields(leaf))
    return any(is_array(value) and not isinstance(value, np.generic) for value in held)


UNSEEN = (
    "whose arrays JAX does not see; register the class with jax.tree_util.register_dataclass, or use a dict or tuple"
)


def split_arguments(arguments: Arguments) -> tuple[list[Any], Callable[[Sequence[Any]], Arguments]]:
    """The arrays among the arguments, and how to put others in their places."""
    return _split(arguments, is_array)


def _split(whole: T, is_one: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Sequence[Any]], T]]:
    leaves, tree = jax.tree.flatten(whole)
    places = [i for i, leaf in enumerate(leaves) if is_one(leaf)]
    arrays = [leaves[place] for place in places]
    for place in places:  # where they are kept, traced arrays would outlive their trace
        leaves[place] = None

    def join(others: Sequence[Any]) -> T:
        filled = list(leaves)
        for place, array in zip(places, others, strict=True):
            filled[place] = array
        joined: T = jax.tree.unflatten(tree, filled)
        return joined

    return arrays, join


def abstract(array: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype alone, of Python's numbers too, which variables may be."""
    if hasattr(array, "dtype"):
        return jax.ShapeDtypeStruct(np.shape(array), array.dtype)
    return jax.ShapeDtypeStruct((), jax.numpy.result_type(array), weak_type=True)


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
    found, join = _split(_attributes(leaf), _holds_traced)
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


def named_inputs(calls: Calls, path: str, kind: type, arguments: Arguments) -> tuple[int, Arguments]:
    """Registers a call; where its module's type has a rule, its inputs get names."""
    rule = rule_of(kind)
    number = calls.record(Call(path, kind.__name__, rule))
    if rule is None:
        return number, arguments
    return number, jax.tree.map(
        lambda leaf: checkpoint_name(leaf, f"{INPUT}{number}") if _is_number(leaf) else leaf, arguments
    )


def named_outputs(number: int, outputs: Any) -> Any:
    """Gives a call's outputs their names."""
    leaves, tree = jax.tree.flatten(outputs)
    numeric = [i for i, leaf in enumerate(leaves) if _is_number(leaf)]
    for order, i in enumerate(numeric):
        leaves[i] = checkpoint_name(leaves[i], f"{OUTPUT}{number} {order} {len(numeric)}")
    return jax.tree.unflatten(tree, leaves)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and bool(jax.numpy.issubdtype(leaf.dtype, np.floating))
