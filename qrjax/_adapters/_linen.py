"""Linen modules as models."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from qrjax._adapters._initialization import chosen, initial_laws, initial_values, laws_of_arrays, path_name
from qrjax._adapters._trace import Arguments, abstract, named_inputs, named_outputs, split_arguments
from qrjax._interpreter._model import Calls, Leaf, Model


def linen_model(module: nn.Module, arguments: Arguments, options: Mapping[str, Any], variables: Any = None) -> Model:
    """The model of a Linen module; `options`: method, rngs, mutable; with its variables, if there are any yet.

    Raises:
      ValueError: if the module is bound.
    """
    if module.scope is not None:
        raise ValueError(
            f"`module` {type(module).__name__} is bound to variables; pass the unbound module, as to module.init "
            "(module.unbind() gives it)"
        )
    arrays, join = split_arguments(arguments)
    rngs, method = options.get("rngs"), options.get("method")
    names = tuple(rngs) if rngs is not None else ()

    def init(key: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        streams = {"params": key} | {n: jax.random.fold_in(key, i + 1) for i, n in enumerate(names) if n != "params"}
        more = {} if options.get("mutable") is None else {"mutable": options["mutable"]}
        return module.init(streams, *args, method=method, **more, **kwargs)

    key = jax.random.key(0)
    inputs = [abstract(a) for a in arrays]
    program: Any = None
    if variables is None:
        program, shapes = jax.make_jaxpr(init, return_shape=True)(key, *inputs)
    else:
        shapes = jax.tree.map(abstract, variables)
    calls = Calls()
    leaves, tree = jax.tree.flatten(shapes)

    def apply(variables: Any, key: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        streams = dict.fromkeys(("params", *names), key)
        mutable = nn.DenyList(("params",)) if options.get("mutable") is None else options["mutable"]
        with nn.intercept_methods(functools.partial(_named, calls)):
            return module.apply(variables, *args, rngs=streams, method=method, mutable=mutable, **kwargs)

    forward = jax.make_jaxpr(apply)(shapes, key, *inputs)
    if variables is not None:
        flat = jax.tree.leaves(variables)
        laws, materialize = functools.cache(functools.partial(laws_of_arrays, flat)), functools.partial(chosen, flat)
    else:
        laws = functools.cache(functools.partial(initial_laws, program, inputs, len(leaves)))
        materialize = functools.partial(initial_values, program, arrays)
    return Model(
        leaves=[_leaf(path, leaf) for path, leaf in zip(_paths(shapes), leaves, strict=True)],
        laws=laws,
        program=forward,
        keys=1,
        inputs=arrays,
        calls=calls,
        materialize=materialize,
        rebuild=lambda values: jax.tree.unflatten(tree, values),
    )


def _named(calls: Calls, following: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Around each call of a module: names for its outputs in the program."""
    if context.method_name != "__call__":
        return following(*args, **kwargs)
    path = "/".join(context.module.path)
    number, (args, kwargs) = named_inputs(calls, path, type(context.module), (args, kwargs))
    return named_outputs(number, following(*args, **kwargs))


def _paths(variables: Any) -> list[str]:
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]


def _leaf(path: str, leaf: Any) -> Leaf:
    collection, _, rest = path.partition("/")
    # Boxes such as nn.Partitioned add a step of their own below the parameter's name.
    rest = rest.removesuffix("/value")
    trained = collection == "params"
    return Leaf(rest if trained else f"{collection}/{rest}", tuple(leaf.shape), leaf.dtype, trained)
