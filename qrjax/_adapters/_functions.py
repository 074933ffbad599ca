"""A plain pair (init, apply) as a model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from qrjax._adapters._initialization import chosen, initial_laws, initial_values, laws_of_arrays, path_name
from qrjax._adapters._trace import Arguments, abstract, split_arguments
from qrjax._interpreter._model import Calls, Leaf, Model

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def functions_model(pair: Pair, arguments: Arguments, variables: Any = None) -> Model:
    """The model of init(key, *inputs) -> params and apply(params, *inputs) -> outputs."""
    init, apply = pair
    arrays, join = split_arguments(arguments)

    def initialize(key: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        return init(key, *args, **kwargs)

    def forward(params: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        return apply(params, *args, **kwargs)

    inputs = [abstract(a) for a in arrays]
    program: Any = None
    if variables is None:
        program, shapes = jax.make_jaxpr(initialize, return_shape=True)(jax.random.key(0), *inputs)
    else:
        shapes = jax.tree.map(abstract, variables)
    flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
    leaves = [Leaf(path_name(path), tuple(leaf.shape), leaf.dtype, True) for path, leaf in flat]
    if variables is not None:
        values = jax.tree.leaves(variables)
        laws, materialize = (
            functools.cache(functools.partial(laws_of_arrays, values)),
            functools.partial(chosen, values),
        )
    else:
        laws = functools.cache(functools.partial(initial_laws, program, inputs, len(leaves)))
        materialize = functools.partial(initial_values, program, arrays)
    return Model(
        leaves=leaves,
        laws=laws,
        program=jax.make_jaxpr(forward)(shapes, *inputs),
        keys=0,
        inputs=arrays,
        calls=Calls(),
        materialize=materialize,
        rebuild=lambda values: jax.tree.unflatten(tree, values),
    )
