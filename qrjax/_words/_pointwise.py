"""Primitives on uint32 words whose program is chosen where they are lowered, by what the processor multiplies.

CPUs and GPUs have 64-bit words, TPUs do not, and StableHLO for one is no good for the other; on a CPU words may be
faster held in 64 bits, on a GPU not. A primitive is one equation in a jaxpr, which traces faster than the twenty or
hundred that it stands for, and becomes operations at the end.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Primitive
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import batching, mlir

from qrjax._words._meshes import explicit_axes
from qrjax._words._scalars import halves, is_plain, traced, written

Words = Callable[..., Sequence[Array]]


@dataclasses.dataclass(frozen=True)
class OneByOne:
    """A function of scalars, with one result, as a form that is mapped over the words.

    XLA takes a map for one operation, whatever is in it. So what reads a table at a place that it has worked out is
    fused with all before and after it, which a look-up of arrays is not: for that, words would be kept in memory, or
    made once for the place and once more for the rest.
    """

    function: Words
    is_wide: bool = False  # one result of 64 bits, whose words are the primitive's


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
    found = _FORMS[primitive] = Forms(form, forms)
    mlir.register_lowering(primitive, functools.partial(_lower, found, None))
    for platform in forms:
        mlir.register_lowering(primitive, functools.partial(_lower, found, platform), platform=platform)
    return call


class Forms(NamedTuple):
    """Of one primitive: that for all platforms but those of `own`, and these."""

    form: Words
    own: Mapping[str, Words | OneByOne]

    def on(self, platform: str | None) -> Words | OneByOne:
        return self.own.get(platform or "", self.form)


_FORMS: dict[Any, Forms] = {}


def _lower(forms: Forms, platform: str | None, context: Any, *words: Any) -> Sequence[Any]:
    platforms, aval = context.platforms or context.module_context.platforms, context.avals_out[0]
    own = forms.on(platform)
    # On explicit axes JAX gives each operation its place, and XLA does not take the parts that are asked for later
    # through a map: each device would make all. Of a length that is not known yet constants cannot be written here.
    if explicit_axes(aval) or not ir.RankedTensorType(words[0].type).has_static_shape:
        plain = forms.form if isinstance(own, OneByOne) else own
        return _lowered(plain, context, words, aval.shape)
    if len(platforms) > 1 and not isinstance(own, OneByOne):
        return _lowered(own, context, words, aval.shape)  # of several forms of what is in it JAX makes a choice
    return _written(forms, platform or platforms[0], context, words)


def _written(forms: Forms, platform: str, context: Any, words: Sequence[Any]) -> Sequence[Any]:
    own, kind = forms.on(platform), ir.RankedTensorType(words[0].type)
    if not isinstance(own, OneByOne):
        return _operations(own, platform, context, words)
    if not kind.shape:
        results = _operations(own.function, platform, context, words)
    else:
        element = ir.IntegerType.get_unsigned(64) if own.is_wide else kind.element_type
        axes, result = ir.DenseI64ArrayAttr.get(range(len(kind.shape))), ir.RankedTensorType.get(kind.shape, element)
        operation = stablehlo.MapOp(result, words, axes)
        block = operation.computation.blocks.append(*[ir.RankedTensorType.get([], kind.element_type)] * len(words))
        with ir.InsertionPoint(block):
            stablehlo.return_(list(_operations(own.function, platform, context, list(block.arguments))))
        results = operation.results
    return halves(results[0]) if own.is_wide else results


def _operations(function: Words, platform: str, context: Any, words: Sequence[Any]) -> Sequence[Any]:
    program = _program(function, len(words))
    if not is_plain(program, _FORMS.__contains__):
        is_scalar = not ir.RankedTensorType(words[0].type).shape
        return _lowered(function, context, words, () if is_scalar else context.avals_out[0].shape)
    return written(program, words, lambda e, values: _written(_FORMS[e.primitive], platform, context, values))


@functools.lru_cache(maxsize=1024)
def _program(function: Words, operands: int) -> ClosedJaxpr:
    return traced(function, operands)


def _lowered(function: Words, context: Any, words: Sequence[Any], shape: tuple[Any, ...]) -> Sequence[Any]:
    """By JAX, which traces it."""
    lower = mlir.lower_fun(function, multiple_results=True)
    if shape == context.avals_out[0].shape:
        return lower(context, *words)
    scalar = jax.core.ShapedArray((), np.uint32)
    inner = context.replace(primitive=None, avals_in=[scalar] * len(words), avals_out=[scalar])
    return lower(inner, *words)


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
