"""Draws of one shape and kind share one compilation, however many of them a program holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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
    return _compiled_once_p.bind(drawn, otherwise=None) if isinstance(drawn, jax.core.Tracer) else drawn


def drawn_otherwise(drawn: Array, words: Array, otherwise: Callable[[Array], Array]) -> Array:
    """`drawn`; on one CPU device made by `otherwise` from `words` instead, which must give the same bits.

    Args:
      drawn: the tensor, as all other machines make it.
      words: an array.
      otherwise: hashable, and equal to others that make the same of words; `stacked` is the same for several words.
    """
    return _compiled_once_p.bind(drawn, words, otherwise=otherwise) if isinstance(drawn, jax.core.Tracer) else drawn


def _lower(context: Any, drawn: Any, *words: Any, otherwise: Callable[..., Array] | None) -> Any:
    module, call = context.module_context, drawn.owner
    alone = getattr(module.axis_context, "num_devices", None) == 1
    on_one_cpu = alone and tuple(module.platforms) == ("cpu",)
    if on_one_cpu and otherwise is not None:
        # What `drawn` came of is then used by nothing, and falls away.
        own = context.replace(primitive=None, avals_in=context.avals_in[1:])
        return mlir.lower_fun(otherwise, multiple_results=False)(own, *words)
    if on_one_cpu and _is_call(call):
        attributes: dict[str, Any] = {name: mlir.ir.StringAttr.get(value) for name, value in ATTRIBUTES.items()}
        call.attributes["mhlo.frontend_attributes"] = mlir.ir.DictAttr.get(attributes)
    return [drawn]


def _is_call(owner: Any) -> bool:
    # A call with other results beside the weights, such as checkify's errors, XLA aborts on (seen with jax 0.10.2).
    return not isinstance(owner, mlir.ir.Block) and owner.operation.name == "func.call" and len(owner.results) == 1


def _batched(operands: Sequence[Array], axes: Sequence[int | None], *, otherwise: Any) -> tuple[Array, int]:
    drawn, *words = (jnp.moveaxis(w, k, 0) if k is not None else w for w, k in zip(operands, axes, strict=True))
    many = None if otherwise is None or None in axes else otherwise.stacked()
    return _compiled_once_p.bind(drawn, *(words if many is not None else ()), otherwise=many), 0


_compiled_once_p = Primitive(COMPILED_ONCE)
_compiled_once_p.def_impl(lambda drawn, *_words, **_: drawn)
_compiled_once_p.def_abstract_eval(lambda drawn, *_words, **_: drawn)
batching.primitive_batchers[_compiled_once_p] = _batched
# Not cached: a cached rule is lowered as a function of its own, which does not see where its operand comes from. One
# rule for all platforms: with jax 0.10 a program for several cannot hold such a primitive with one for each.
mlir.register_lowering(_compiled_once_p, _lower, cacheable=False)
