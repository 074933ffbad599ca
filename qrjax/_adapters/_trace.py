"""What all adapters do: sort arguments into inputs and the rest, trace, name modules' calls, run parts of a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.interpreters import partial_eval

from qrjax._interpreter._model import INPUT, OUTPUT, Call, Calls
from qrjax._rules._modules import rule_of
from qrjax._rules._registry import KNOWN_SIZE, Known, Opaque, Value
from qrjax._signals._signal import Signal

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def is_array(leaf: Any) -> bool:
    """Whether an argument is an input of the program, rather than a setting."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct, jax.core.Tracer))


def split_arguments(arguments: Arguments) -> tuple[list[Any], Callable[[Sequence[Any]], Arguments]]:
    """The arrays among the arguments, and how to put others in their places."""
    leaves, tree = jax.tree.flatten(arguments)
    places = [i for i, leaf in enumerate(leaves) if is_array(leaf)]

    def join(arrays: Sequence[Any]) -> Arguments:
        filled = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array
        joined: Arguments = jax.tree.unflatten(tree, filled)
        return joined

    return [leaves[place] for place in places], join


def abstract(array: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype alone."""
    return jax.ShapeDtypeStruct(np.shape(array), array.dtype)


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


def part_of(closed: Any, needed: Sequence[bool]) -> tuple[Any, list[bool]]:
    """The program of the needed outputs alone, and which arguments it takes."""
    body, used = partial_eval.dce_jaxpr(closed.jaxpr, list(needed))
    constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    return jax.extend.core.ClosedJaxpr(body, [constants[v] for v in body.constvars]), used


def run_part(closed: Any, needed: Sequence[bool], arguments: Sequence[Any]) -> list[Any]:
    """The needed outputs, computed without the others."""
    part, used = part_of(closed, needed)
    kept = [a for a, use in zip(arguments, used, strict=True) if use]
    run = jax.jit(jax.extend.core.jaxpr_as_fun(part))
    return list(run(*kept))


def chosen(values: Sequence[Any], key: Any, needed: Sequence[bool]) -> list[Any]:
    """Variables that exist already."""
    del key
    return [value for value, need in zip(values, needed, strict=True) if need]


def laws_of_arrays(values: Sequence[Any]) -> list[Value]:
    """The laws of actual arrays."""
    return [law_of_array(value) for value in values]


def law_of_array(value: Any) -> Value:
    """The law of an actual array: itself if it is small, else its mean and its variance, without a copy."""
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Opaque(tuple(value.shape))
    if value.size <= KNOWN_SIZE:
        return Known(np.asarray(value))
    mean, variance = float(jnp.mean(value, dtype=jnp.float32)), float(jnp.var(value.astype(jnp.float32)))
    return Signal.normal(tuple(value.shape), mean, variance, np.dtype(value.dtype))
