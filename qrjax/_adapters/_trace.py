"""What all adapters do: sort arguments into inputs and the rest, and name modules' calls in the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
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
    """Whether a leaf is a dataclass with arrays, which nothing sees."""
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, type):
        return False
    return _holds_arrays(getattr(leaf, field.name, None) for field in dataclasses.fields(leaf))


def _holds_arrays(held: Iterable[Any]) -> bool:
    """Whether one of these is an array; NumPy's numbers in an object are settings."""
    return any(is_array(value) and not isinstance(value, np.generic) for value in held)


def types_with_arrays(arguments: Arguments) -> list[str]:
    """The types of leaves that are objects with arrays, which nothing sees."""
    held = (leaf for leaf in jax.tree.leaves(arguments) if not isinstance(leaf, type) and not is_array(leaf))
    found = [type(leaf).__name__ for leaf in held if _holds_arrays(getattr(leaf, "__dict__", {}).values())]
    return list(dict.fromkeys(found))


UNSEEN = (
    "whose arrays JAX does not see; register the class with jax.tree_util.register_dataclass, or use a dict or tuple"
)


def split_arguments(arguments: Arguments) -> tuple[list[Any], Callable[[Sequence[Any]], Arguments]]:
    """The arrays among the arguments, and how to put others in their places."""
    return split(arguments, is_array)


def split(whole: T, is_one: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Sequence[Any]], T]]:
    """The leaves that are one, and how to put others in their places."""
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
