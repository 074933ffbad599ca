"""Draws of one shape and kind share one compilation, however many of them a program holds."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

# XLA compiles a call with these attributes by itself, once for all calls of one function, and puts the result in
# their places, where it otherwise inlines the function into each and works through every copy.
ATTRIBUTES = {"compilation_unit": "qrjax", "inlineable": "false"}
COMPILED_ONCE = "compiled_once"


def compiled_once(drawn: Array) -> Array:
    """`drawn`, as it is; the jitted call that it comes from is compiled apart, where that is known to be good.

    That is on one CPU device: among several the call would be compiled without their shardings, and each device
    would make all of the result to keep its part of it. On GPUs and TPUs nobody has tried it.
    """
    return _compiled_once_p.bind(drawn) if isinstance(drawn, jax.core.Tracer) else drawn


def on_one_cpu(context: Any) -> bool:
    """Whether what is lowered is for one CPU device."""
    module = context.module_context
    return getattr(module.axis_context, "num_devices", None) == 1 and tuple(module.platforms) == ("cpu",)


def _lower(context: Any, drawn: Any) -> list[Any]:
    call = drawn.owner
    if on_one_cpu(context) and _is_call(call):
        attributes: dict[str, Any] = {name: mlir.ir.StringAttr.get(value) for name, value in ATTRIBUTES.items()}
        call.attributes["mhlo.frontend_attributes"] = mlir.ir.DictAttr.get(attributes)
    return [drawn]


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
