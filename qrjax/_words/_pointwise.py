"""Primitives on uint32 words whose program is chosen where they are lowered, by what the processor multiplies.

CPUs and GPUs have 64-bit words, TPUs do not, and StableHLO for one is no good for the other; on a CPU words may be
faster held in 64 bits, on a GPU not. A primitive is one equation in a jaxpr, which traces faster than the twenty or
hundred that it stands for, and becomes operations at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import batching, mlir
from jax.sharding import AxisType

Words = Callable[..., Sequence[Array]]


@dataclasses.dataclass(frozen=True)
class OneByOne:
    """A function of scalars, with one result, as a form that is mapped over the words.

    XLA takes a map for one operation, whatever is in it. So what reads a table at a place that it has worked out is
    fused with all before and after it, which a look-up of arrays is not: for that, words would be kept in memory, or
    made once for the place and once more for the rest.
    """

    function: Words


def pointwise(name: str, results: int, form: Words, **forms: Words | OneByOne) -> Words:
    """A function of words that broadcast, applied element by element, lowered in a way of the platform's own.

    Args:
      name: of the primitive, for who reads a jaxpr.
      results: how many words it returns, each of the operands' common shape.
      form: the function as operations, for all platforms but those of `forms`.
      **forms: by platform ("cpu", "cuda", "tpu"), other operations for the same bits.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    def call(*words: Array) -> Sequence[Array]:
        return primitive.bind(*aligned(*words))

    def batched(words: Sequence[Array], axes: Sequence[int | None]) -> tuple[Sequence[Array], list[int]]:
        pairs = zip(words, axes, strict=True)
        return call(*(jnp.expand_dims(w, 0) if k is None else jnp.moveaxis(w, k, 0) for w, k in pairs)), [0] * results

    jitted = jax.jit(primitive.bind)
    # Under jax.disable_jit nothing is lowered, and a jitted primitive would only call itself.
    primitive.def_impl(lambda *words: (form if jax.config.jax_disable_jit else jitted)(*words))  # type: ignore[attr-defined]
    primitive.def_abstract_eval(lambda first, *_: [first] * results)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(form, multiple_results=True))
    for platform, own in forms.items():
        rule = _mapped(own.function, form) if isinstance(own, OneByOne) else mlir.lower_fun(own, multiple_results=True)
        mlir.register_lowering(primitive, rule, platform=platform)
    return call


def _mapped(function: Words, form: Words) -> Callable[..., Any]:
    lower, plain = (mlir.lower_fun(one, multiple_results=True) for one in (function, form))

    def rule(context: Any, *words: Any) -> Any:
        if _is_explicit(context.avals_out[0]):
            # There XLA does not take the parts that are asked for later through a map: each device would make all.
            return plain(context, *words)
        result = words[0].type  # as every word's
        scalars = [jax.core.ShapedArray((), aval.dtype) for aval in context.avals_in]
        operation = stablehlo.MapOp(result, words, ir.DenseI64ArrayAttr.get(range(len(result.shape))))
        block = operation.computation.blocks.append(*[ir.RankedTensorType.get([], result.element_type)] * len(words))
        with ir.InsertionPoint(block):
            inner = context.replace(primitive=None, avals_in=scalars, avals_out=scalars[:1])
            stablehlo.return_(list(lower(inner, *block.arguments)))
        return operation.results

    return rule


def _is_explicit(aval: Any) -> bool:
    """Whether it lies on a mesh with explicit axes."""
    return AxisType.Explicit in (getattr(aval.sharding.mesh, "axis_types", None) or ())


def in_64_bits(function: Words) -> Words:
    """A function of uint64 that hold words of 32 bits, as one of uint32; of the results the low words are left."""

    def wide(*words: Array) -> Sequence[Array]:
        with jax.enable_x64(True):
            results = function(*(lax.convert_element_type(w, np.uint64) for w in words))
            return [lax.convert_element_type(w, np.uint32) for w in results]

    return wide


def aligned(*words: Array) -> list[Any]:
    """The words, broadcast to one shape and, on a mesh, to one type."""
    shape = jnp.broadcast_shapes(*(w.shape for w in words))
    full = [w if w.shape == shape else jnp.broadcast_to(w, shape) for w in words]
    if len({jax.typeof(w) for w in full}) > 1:
        # They vary over different devices of a mesh; an operation of JAX's own gives the type of them all.
        nothing = full[0] & 0
        for w in full[1:]:
            nothing = nothing & w
        full = [w ^ nothing for w in full]
    return full
