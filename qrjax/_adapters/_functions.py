"""A plain pair (init, apply) as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from qrjax._adapters._axes import program_of
from qrjax._adapters._initialization import origin
from qrjax._adapters._trace import Arguments, abstract, split_arguments
from qrjax._adapters._variables import plain_leaves
from qrjax._interpreter._model import Calls, Model

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def functions_model(pair: Pair, arguments: Arguments, sizes: Mapping[Any, int], variables: Any = None) -> Model:
    """The model of init(key, *inputs) -> params and apply(params, *inputs) -> outputs."""
    init, apply = pair
    arrays, join = split_arguments(arguments)

    def initialize(key: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        return init(key, *args, **kwargs)

    def forward(params: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        return apply(params, *args, **kwargs), ()

    begin = origin(initialize, arrays, variables, sizes)
    program, outputs, axes, assumed = program_of(forward, [begin.shapes, *map(abstract, arrays)], sizes)
    tree = jax.tree.structure(begin.shapes)
    return Model(
        leaves=plain_leaves(begin.shapes),
        laws=begin.laws,
        program=program,
        outputs=outputs,
        keys=0,
        inputs=arrays,
        calls=Calls(),
        materialize=begin.materialize,
        rebuild=lambda values: jax.tree.unflatten(tree, values),
        initialization=begin.program,
        axes=axes,
        assumed=assumed,
    )
