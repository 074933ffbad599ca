"""Draws of one shape and kind share one compilation, however many of them a program holds."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from qrjax._words._keys import KEY_SIZES

# XLA compiles a call with these attributes by itself, once for all calls of one function, and puts the result in
# their places, where it otherwise inlines the function into each and works through every copy.
UNIT = {"compilation_unit": "qrjax"}
# A GPU's compiler knows units in jax 0.10.1 and 0.10.2, others inline such a call; one that it may not inline they
# would split into a kernel for each operation. A CPU's takes the unit for one only where it may not inline it.
ATTRIBUTES = {("cpu",): {**UNIT, "inlineable": "false"}, ("cuda",): UNIT}
COMPILED_ONCE = "compiled_once"
KEYS = tuple((size,) for size in KEY_SIZES)  # the shapes of their words


def compiled_once(drawn: Array) -> Array:
    """`drawn`, as it is; the jitted call that it comes from is compiled apart, where that is known to be good.

    That is on one device: among several the call would be compiled without their shardings, and each device would
    make all of the result to keep its part of it. On TPUs nobody has tried it.
    """
    return _compiled_once_p.bind(drawn) if isinstance(drawn, jax.core.Tracer) else drawn


def on_one_cpu(context: Any) -> bool:
    """Whether what is lowered is for one CPU device."""
    return on_one_device(context) and tuple(context.module_context.platforms) == ("cpu",)


def on_one_device(context: Any) -> bool:
    """Whether what is lowered is for one device."""
    return getattr(context.module_context.axis_context, "num_devices", None) == 1


def _lower(context: Any, drawn: Any) -> list[Any]:
    call = drawn.owner
    attributes = ATTRIBUTES.get(tuple(context.module_context.platforms))
    if attributes and on_one_device(context) and _is_call(call):
        named: dict[str, Any] = {name: mlir.ir.StringAttr.get(value) for name, value in attributes.items()}
        for one in (call, *_keys_of(call)):
            one.attributes["mhlo.frontend_attributes"] = mlir.ir.DictAttr.get(named)
    return [drawn]


def _keys_of(call: Any) -> list[Any]:
    """The calls that made the keys drawn from: Flax folds a hash of its path into each layer's."""
    return [one.owner for one in call.operands if _is_key(one.type) and _is_call(one.owner)]


def _is_key(kind: Any) -> bool:
    return kind.element_type == mlir.ir.IntegerType.get_unsigned(32) and tuple(kind.shape) in KEYS


def _is_call(owner: Any) -> bool:
    # A call with other results beside the weights, such as checkify's errors, XLA aborts on (seen with jax 0.10.2).
    return not isinstance(owner, mlir.ir.Block) and owner.operation.name == "func.call" and len(owner.results) == 1


_compiled_once_p = Primitive(COMPILED_ONCE)
_compiled_once_p.def_impl(lambda drawn: drawn)
_compiled_once_p.def_abstract_eval(lambda drawn: drawn)
batching.defvectorized(_compiled_once_p)
# Not cached: a cached rule is lowered as a function of its own, which does not see where its operand comes from. One
# rule for all platforms: with jax 0.10 a program for several cannot hold such a primitive with one for each.
mlir.register_lowering(_compiled_once_p, _lower, cacheable=False)
