"""NNX modules as models. The module itself is never written to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from qrjax._adapters._axes import program_of
from qrjax._adapters._initialization import law_of_array, origin
from qrjax._adapters._trace import Arguments, abstract, named_inputs, named_outputs, split_arguments
from qrjax._adapters._variables import nnx_leaves, steps_of
from qrjax._interpreter._model import Calls, Model
from qrjax._rules._operands import Opaque, Value
from qrjax._signals._recipe import UNKNOWN
from qrjax._signals._signal import Signal
from qrjax._terminal._received import is_key, received

# What multiplies starts with one, as a rule; what is added, biases, with zero.
STARTING_AT_ONE = ("scale", "gamma", "var")


class Construction:
    """A function of a key that makes an NNX module, traced when it is asked for; no array is made."""

    def __init__(self, make: Callable[[Any], Any]):
        self.make = make
        self._traces: dict[Any, tuple[Any, nnx.Module]] = {}

    @property
    def module(self) -> nnx.Module:
        """The module, with shapes in the place of arrays."""
        return self._traced(jax.random.key(0))[1]

    def variables(self, key: Any, *inputs: Any) -> list[Any]:
        """The module's own, from a key."""
        del inputs  # whatever it is called with
        found: list[Any] = jax.extend.core.jaxpr_as_fun(self._traced(key)[0])(key)
        return found

    def _traced(self, key: Any) -> tuple[Any, nnx.Module]:
        """The program (key) -> variables and the module, once for each kind of keys, as they differ in size."""
        kind = jax.random.key_impl(key)
        if kind not in self._traces:
            self._traces[kind] = self._trace(jax.random.key(0, impl=kind))
        return self._traces[kind]

    def _trace(self, key: Any) -> tuple[Any, nnx.Module]:
        graphs: list[Any] = []

        def state(key: Any) -> Any:
            made = self.make(key)
            if not isinstance(made, nnx.Module):
                raise TypeError(
                    f"`module`, where it is a function, must make a flax.nnx.Module of a key, got {received(made)}; of "
                    "functions init(key, x) and apply(params, x) pass the pair (init, apply)"
                )
            graph, found = nnx.split(made)
            graphs.append(graph)
            return found

        program, shapes = jax.make_jaxpr(state, return_shape=True)(key)
        module: nnx.Module = nnx.merge(graphs[-1], shapes)
        return program, module


def constructed_model(made: Construction, arguments: Arguments, options: Mapping[str, Any]) -> Model:
    """The model of an NNX module that is still to be made, whose own values are computed where they are needed."""
    model = nnx_model(made.module, arguments, options)
    begin = origin(made.variables, model.inputs, None, options.get("axes") or {})
    return dataclasses.replace(model, laws=begin.laws, materialize=begin.materialize, initialization=begin.program)


def nnx_model(module: nnx.Module, arguments: Arguments, options: Mapping[str, Any]) -> Model:
    """The model of an NNX module, whose variables may be arrays or, from nnx.eval_shape, shapes."""
    arrays, join = split_arguments(arguments)
    graph, state = nnx.split(module)
    values, tree = jax.tree.flatten(state)
    _check_values(state)
    calls, sizes = Calls(), options.get("axes") or {}
    method = options.get("method") or "__call__"
    keys = options.get("keys") or {}
    if options.get("strict"):
        _check_streams(module, keys)

    def apply(values: Any, *inputs: Any) -> Any:
        args, kwargs = join(inputs)
        model = nnx.merge(graph, jax.tree.unflatten(tree, values))
        if keys:
            nnx.reseed(model, policy="match_shape", **keys)
        _name_calls(model, calls)
        call = method if callable(method) else getattr(type(model), method)
        return call(model, *args, **kwargs), ()

    shapes, leaves = [abstract(v) for v in values], nnx_leaves(state)
    program, outputs, axes, assumed = program_of(apply, [shapes, *map(abstract, arrays)], sizes, calls.forget)
    return Model(
        leaves=leaves,
        laws=functools.cache(lambda: [_law(v, leaf.steps[-1]) for v, leaf in zip(values, leaves, strict=True)]),
        program=program,
        outputs=outputs,
        keys=0,
        inputs=arrays,
        calls=calls,
        materialize=lambda _, needed: [_actual(v) for v, need in zip(values, needed, strict=True) if need],
        rebuild=lambda new: nnx.merge(graph, jax.tree.unflatten(tree, new)),
        places=_places(state),
        axes=axes,
        assumed=assumed,
    )


def _check_values(state: Any) -> None:
    """Nothing, if variables hold arrays, shapes or, as nnx.Param(1.0), numbers of Python's."""
    for path, value in jax.tree_util.tree_leaves_with_path(state):
        if not hasattr(value, "dtype") and not isinstance(value, (bool, int, float, complex)):
            name = "/".join(map(str, steps_of(path))).removesuffix("/value")
            raise TypeError(f"`module` must hold arrays in its variables, got {received(value)} at {name!r}")


def _check_streams(module: nnx.Module, keys: Mapping[str, Any]) -> None:
    streams = {str(node.tag) for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngStream)}
    lacking = [name for name in keys if name not in streams and name not in ("params", "default")]
    if lacking:
        named = ", ".join(map(repr, sorted(streams))) or "none"
        raise ValueError(
            f"`rngs` has a key for {lacking[0]!r}, which no random stream of the module is; streams: {named}"
        )


def with_variables(module: nnx.Module, variables: Any) -> nnx.Module:
    """The module that holds these variables: a module itself, or a state or dict of them for `module`.

    Raises:
      ValueError: if the module lacks one of them, or has another shape for it.
    """
    if variables is None:
        return module
    if isinstance(variables, nnx.Module):
        return variables
    graph, state = nnx.split(module)
    own = dict(nnx.to_flat_state(state))
    for path, given in _flat(variables):
        value = given.get_value() if isinstance(given, nnx.Variable) else given
        if path not in own:
            known = ", ".join("/".join(map(str, path)) for path in list(own)[:20])
            raise ValueError(f"`variables` has {'/'.join(map(str, path))!r}, which `module` lacks; paths: {known}")
        if np.shape(value) != np.shape(own[path].get_value()):
            raise ValueError(
                f"`variables` has {'/'.join(map(str, path))!r} as {received(value)}, which `module` has as "
                f"{received(own[path].get_value())}"
            )
        own[path] = given if isinstance(given, nnx.Variable) else own[path].replace(value)
    result: nnx.Module = nnx.merge(graph, nnx.from_flat_state(list(own.items())))
    return result


def _flat(variables: Any) -> Any:
    if isinstance(variables, nnx.State):
        return nnx.to_flat_state(variables)
    return nnx.traversals.flatten_mapping(variables).items()


def _law(value: Any, name: Any) -> Value:
    if is_key(value):
        return Opaque(tuple(value.shape))
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.core.Tracer)):
        return law_of_array(value)
    # Values that were never computed, or will be when a jitted function runs, tell nothing but their names.
    made = Signal.constant(float(name in STARTING_AT_ONE), tuple(value.shape), value.dtype)
    return made if name in STARTING_AT_ONE else dataclasses.replace(made, recipe=UNKNOWN)


def _actual(value: Any) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(
            "`module` holds shapes instead of arrays, as nnx.eval_shape makes it, so its biases and scales have no "
            "values to keep; pass the function that makes it: autoinit(lambda key: Network(rngs=nnx.Rngs(key)), x)"
        )
    return value


def _places(state: Any) -> list[NamedSharding | None]:
    """How each value is laid out over devices, if not by default; of one that is to be made, as its variable says."""
    variables = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))
    return [_place(variable, value) for variable in variables for value in jax.tree.leaves(variable)]


def _place(variable: Any, value: Any) -> NamedSharding | None:
    found = getattr(value, "sharding", None)
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.core.Tracer)):
        # By default is on the first of this process's devices: other processes have another, and must draw alike.
        if isinstance(found, SingleDeviceSharding) and found.device_set != {jax.local_devices()[0]}:
            return NamedSharding(Mesh(np.array(list(found.device_set)), ("device",)), PartitionSpec())
        return found if isinstance(found, NamedSharding) and found.num_devices > 1 else None
    if isinstance(variable, nnx.Variable):
        mesh: Any = variable.get_metadata().get("mesh") or jax.sharding.get_abstract_mesh()
        if not mesh.empty:
            found = jax.tree.leaves(nnx.get_named_sharding({"it": variable}, mesh))[0]
    return found if isinstance(found, NamedSharding) and any(axes is not None for axes in found.spec) else None


def _name_calls(model: nnx.Module, calls: Calls) -> None:
    """Gives the modules of a private copy of the model a class whose calls leave names in the program."""
    for path, node in nnx.iter_graph(model):
        kind = type(node)
        if isinstance(node, nnx.Module) and callable(node):
            object.__setattr__(node, "__class__", _naming(kind, "/".join(map(str, path)), calls))


def _naming(kind: type, path: str, calls: Calls) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        number, (args, kwargs) = named_inputs(calls, path, kind, (args, kwargs))
        return named_outputs(number, kind.__call__(self, *args, **kwargs))

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
