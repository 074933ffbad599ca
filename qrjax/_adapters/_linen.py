"""Linen modules as models."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.core.scope import in_filter
from flax.errors import ScopeCollectionNotFound

from qrjax._adapters._axes import Program, program_of
from qrjax._adapters._initialization import origin
from qrjax._adapters._trace import Arguments, abstract, named_inputs, named_outputs, split_arguments
from qrjax._adapters._variables import linen_leaves
from qrjax._interpreter._model import Calls, Model

# Where Flax's attention keeps the keys and values of earlier tokens. `init` takes its size from a whole sequence, and
# the call that finds it there wants one token: what is walked is the call that makes it, as it is in `init`.
CACHE = "cache"


class Unshared(Collection[str]):
    """Names of collections, never listed alike twice, by which nn.jit traces each of equal modules anew.

    What it traced before has the names that calls of another module, or of another trace, have in the program.
    """

    counter = itertools.count()

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        yield from self.names
        yield f"trace {next(self.counter)}"

    def __len__(self) -> int:
        return len(self.names)


def unshared(mutable: Any) -> Any:
    """The collections that a call may write to, so that equal modules share no traces."""
    if isinstance(mutable, bool):
        return nn.DenyList(Unshared(())) if mutable else Unshared(())
    if isinstance(mutable, nn.DenyList):
        return nn.DenyList(unshared(mutable.deny))
    return Unshared((mutable,) if isinstance(mutable, str) else mutable)


class Call(NamedTuple):
    """A module with its settings, as functions of keys and arrays alone."""

    module: nn.Module
    join: Callable[[Sequence[Any]], Arguments]
    options: Mapping[str, Any]
    calls: Calls
    begins: bool  # whether the variables are those that `init` makes

    def streams(self, key: Any, others: Callable[[int], Any]) -> dict[str, Any]:
        """The key of each random stream: its own, or one that is made."""
        own, names = self.options.get("keys") or {}, self.options.get("names") or ()
        return {"params": key} | {n: own[n] if n in own else others(i) for i, n in enumerate(names)}

    def init(self, key: Any, *inputs: Any) -> Any:
        """The module's own variables."""
        args, kwargs = self.join(inputs)
        streams = self.streams(key, lambda i: jax.random.fold_in(key, i + 1))
        mutable = self.options.get("mutable")
        # One that leaves out the parameters, as apply's ["batch_stats"], says nothing of how they are made.
        more = {"mutable": mutable} if mutable is not None and in_filter(mutable, "params") else {}
        return self.module.init(streams, *args, method=self.options.get("method"), **more, **kwargs)

    def apply(self, variables: Any, key: Any, *inputs: Any) -> tuple[Any, Any]:
        """The call's outputs and what the module writes, with names in the program around the calls of its parts."""
        args, kwargs = self.join(inputs)
        streams = self.streams(key, lambda _: key)
        mutable = nn.DenyList(("params",)) if self.options.get("mutable") is None else self.options["mutable"]
        if self.begins and in_filter(mutable, CACHE):
            variables = {name: values for name, values in variables.items() if name != CACHE}
        method = self.options.get("method")
        with nn.intercept_methods(functools.partial(_named, self.calls)):
            made: tuple[Any, Any] = self.module.apply(
                variables, *args, rngs=streams, method=method, mutable=unshared(mutable), **kwargs
            )
        return made


def linen_model(module: nn.Module, arguments: Arguments, options: Mapping[str, Any], variables: Any = None) -> Model:
    """The model of a Linen module; with its variables, if there are any yet.

    `options`: method, mutable, the names of random streams, the keys of some, and the sizes of named axes.

    Raises:
      ValueError: if the module is bound.
    """
    if module.scope is not None:
        raise ValueError(
            f"`module` {type(module).__name__} is bound to variables; pass the unbound module, as to module.init "
            "(module.unbind() gives it)"
        )
    arrays, join = split_arguments(arguments)
    sizes = options.get("axes") or {}
    call = Call(module, join, options, Calls(), begins=variables is None)
    begin = origin(call.init, arrays, variables, sizes)
    inputs = [begin.shapes, jax.random.key(0), *map(abstract, arrays)]
    program, outputs, axes, assumed = _program_of(call, inputs, sizes)
    tree = jax.tree.structure(begin.shapes)
    return Model(
        leaves=linen_leaves(begin.shapes),
        laws=begin.laws,
        program=program,
        outputs=outputs,
        keys=1,
        inputs=arrays,
        calls=call.calls,
        materialize=begin.materialize,
        rebuild=lambda values: jax.tree.unflatten(tree, values),
        initialization=begin.program,
        axes=axes,
        assumed=assumed,
    )


def _program_of(call: Call, inputs: Any, sizes: Mapping[Any, int]) -> Program:
    try:
        return program_of(call.apply, inputs, sizes, call.calls.forget)
    except ScopeCollectionNotFound:  # of nn.map_variables, where a call may write something, but not parameters
        if call.options.get("mutable") is not None:
            raise
        call = call._replace(options={**call.options, "mutable": False})
        return program_of(call.apply, inputs, sizes, call.calls.forget)


def _named(calls: Calls, following: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Around each call of a module: names for its outputs in the program."""
    if context.method_name != "__call__":
        return following(*args, **kwargs)
    path = "/".join(context.module.path)
    number, (args, kwargs) = named_inputs(calls, path, type(context.module), (args, kwargs))
    return named_outputs(number, following(*args, **kwargs))
