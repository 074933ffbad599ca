"""A model as a record needs it: what it is called with, and how its own initialization makes its variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array

from qrjax._adapters._trace import Arguments
from qrjax._autoinit._calls import arguments_of
from qrjax._interpreter._model import Leaf, Model
from qrjax._records._entries import Entry, held, kept, programmed, uses
from qrjax._records._origins import Built, Origin
from qrjax._terminal._received import received

# Of autoinit, and of the framework; everything else is the module's own.
OPTIONS = (
    "target", "input_mean", "input_variance", "distribution", "source", "layout", "select", "tied", "head", "branches",
)  # fmt: skip
FRAMEWORK = ("method", "rngs", "mutable", "axes")


def framework(options: dict[str, Any]) -> dict[str, Any]:
    """What is the framework's."""
    return {name: options.get(name) for name in FRAMEWORK}


def _rest(options: dict[str, Any]) -> dict[str, Any]:
    """What is the module's own."""
    return {name: value for name, value in options.items() if name not in (*OPTIONS, *FRAMEWORK, "call_kwargs")}


def called(module: Any, sample_input: Any, args: tuple[Any, ...], options: dict[str, Any], **taken: Any) -> Arguments:
    """What the module is called with."""
    own, method = options.get("call_kwargs"), options.get("method")
    taken |= {name: options.get(name) for name in (*OPTIONS, "axes")}
    return arguments_of(module, sample_input, args, _rest(options), own, method, **taken)


def others(model: Model, needed: Sequence[bool], key: Array, compiled: bool) -> list[Origin]:
    """The origins of the needed variables: from the model's own initialization, or the arrays that it holds."""
    if model.initialization is not None:
        found = programmed(model.initialization, model.leaves, needed, arguments(model, key), compiled)
        return [origin for origin in found if origin is not None]
    leaves = [leaf for leaf, need in zip(model.leaves, needed, strict=True) if need]
    arrays = model.materialize(key, needed)
    return [kept(leaf, array) or held(leaf, array) for leaf, array in zip(leaves, arrays, strict=True)]


def arguments(model: Model, key: Array) -> list[Any]:
    """Of the initialization; inputs of which only shapes are known as zeros, which it hardly ever reads."""
    shapes = [jax.numpy.zeros(a.shape, a.dtype) if isinstance(a, jax.ShapeDtypeStruct) else a for a in model.inputs]
    return [key, *shapes]


def check_initialized(model: Model) -> None:
    """Nothing, if the model has an initialization."""
    if model.initialization is None:
        raise TypeError(
            "`module` holds its variables already, so their key is not known; pass the function that makes it: "
            "qrjax.record(lambda key: Network(rngs=nnx.Rngs(key)), key=key, by='init'), and so to with_model"
        )


def check_inputs(model: Model, entries: Sequence[Entry]) -> None:
    """Nothing, if no initial value is computed from an input of which only the shape is known."""
    shapes = [isinstance(a, jax.ShapeDtypeStruct) for a in model.inputs]
    for number, entry in enumerate(entries if any(shapes) else ()):
        if not isinstance(entry.origin, Built):
            continue
        if any(a and b for a, b in zip(shapes, uses(model.initialization, number)[1:], strict=True)):
            raise ValueError(
                f"the initial values of {entry.leaf.path!r} depend on `sample_input`, of which only the shape is "
                "given; pass the array that module.init was called with"
            )


def constructed(make: Any, key: Array) -> tuple[list[Entry], Callable[[Sequence[Any]], Any]]:
    """From a function of a key."""
    from qrjax._adapters._variables import leaves_of, traced_variables

    if not callable(make):
        raise TypeError(
            f"`module` must be a module, or a function of a key where no sample input is given, got {received(make)}"
        )
    program, shapes, rebuild = traced_variables(make, key)
    leaves: list[Leaf] = leaves_of(shapes)
    origins = programmed(program, leaves, [True] * len(leaves), [key])
    return [Entry(leaf, origin) for leaf, origin in zip(leaves, origins, strict=True)], rebuild
