"""Large tensors drawn a block at a time, where that lets words lie in memory while a table is read for them.

What a table is read by is an address, and on a CPU without fast look-ups in vector registers the compiler works out
addresses one by one, with all that leads to them: the permutations behind a layout's words then take four times as
long. Words that lie in memory are loaded. A block's words are kept until its values are made, and those until they are
in their place.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from qrjax._initializers._compilation import compiled_once, on_one_cpu
from qrjax._layouts._coordinates import Shape, whole
from qrjax._layouts._sources import Sobol, spread
from qrjax._values._distributions import values
from qrjax._words._keys import state_of

COUNT = 48  # of the blocks of a tensor, of which one is kept as words and as values
SMALLEST = 1 << 20  # weights; below, the loop takes longer to compile than it saves


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a tensor is drawn by blocks along an axis.

    Attributes:
      make: (init, words, shape, dtype) to the same tensor, all at once.
      init, shape, dtype: of the tensor.
      axis: that is cut.
      length: of a block.
    """

    make: Callable[[Any, Array, Shape, np.dtype[Any]], Array]
    init: Any
    shape: Shape
    dtype: np.dtype[Any]
    axis: int
    length: int

    def tensor(self, words: Array) -> Array:
        """From the words of a key: by blocks in a program for one CPU device, and all at once elsewhere."""
        return _blocks_p.bind(words, blocks=self)

    def at_once(self, words: Array) -> Array:
        return self.make(self.init, words, self.shape, self.dtype)

    def in_turn(self, words: Array) -> Array:
        n = self.shape[self.axis]

        def write(number: Array, tensor: Array) -> Array:
            # The last block begins where it is as long as the others: some of its weights are written twice.
            start = jnp.minimum(number * self.length, n - self.length).astype(jnp.int32)
            return lax.dynamic_update_slice_in_dim(tensor, self._block(words, start), start, self.axis)

        return lax.fori_loop(0, -(-n // self.length), write, jnp.zeros(self.shape, self.dtype))

    def _block(self, words: Array, start: Array) -> Array:
        # Each by itself: what is fused with the writing of a part of an array is done by one thread.
        return compiled_once(_values_of(self, compiled_once(_words_of_block(self, words, start.astype(jnp.uint32)))))


@functools.partial(jax.jit, static_argnums=0)
def _values_of(blocks: Blocks, bits: Array) -> Array:
    init, law = blocks.init, blocks.init.distribution
    location, scale = init.scaling.location_and_scale(blocks.shape, law, blocks.dtype)
    return values(law, bits, location, scale, blocks.dtype, init.source.exact)


@functools.partial(jax.jit, static_argnums=0)
def _words_of_block(blocks: Blocks, words: Array, start: Array) -> Array:
    extent = tuple(blocks.length if k == blocks.axis else n for k, n in enumerate(blocks.shape))
    coordinates = tuple(c + start if k == blocks.axis else c for k, c in enumerate(whole(extent)))
    roles = blocks.init.scaling.roles(blocks.shape)
    source = blocks.init.source
    state = state_of(spread(words, source.groups(coordinates, roles)))
    bits = source.words(state, blocks.shape, coordinates, roles, False)
    return jnp.broadcast_to(bits, extent)


def blocks_of(make: Callable[..., Array], init: Any, shape: Shape, dtype: np.dtype[Any]) -> Blocks | None:
    """How to draw a tensor by blocks, where it is large enough for it and its words are dear."""
    permuted = isinstance(init.source, Sobol) and init.source.layout != "sequence"
    if not (permuted and init.distribution.is_tabled and dtype.kind == "f" and math.prod(shape) >= SMALLEST):
        return None
    # Along the longest axis but the last, which vectors are made along.
    axis = max(range(max(len(shape) - 1, 1)), key=shape.__getitem__)
    if shape[axis] < COUNT or not jax.sharding.get_abstract_mesh().empty:
        return None  # on a mesh there is more than one device
    return Blocks(make, init, shape, dtype, axis, -(-shape[axis] // COUNT))


def _abstract(words: Any, *, blocks: Blocks) -> Any:
    return words.update(shape=(*words.shape[:-1], *blocks.shape), dtype=blocks.dtype)


def _lower(context: Any, words: Any, *, blocks: Blocks) -> Any:
    alone = on_one_cpu(context)
    function: Callable[[Array], Array] = blocks.in_turn if alone else blocks.at_once
    for _ in context.avals_in[0].shape[:-1]:  # of several keys
        function = functools.partial(lax.map, function) if alone else jax.vmap(function)
    return mlir.lower_fun(function, multiple_results=False)(context, words)


def _batched(operands: Any, axes: Any, *, blocks: Blocks) -> tuple[Array, int]:
    return _blocks_p.bind(jnp.moveaxis(operands[0], axes[0], 0), blocks=blocks), 0


_blocks_p = Primitive("drawn_by_blocks")
_blocks_p.def_impl(lambda words, *, blocks: blocks.at_once(words))
_blocks_p.def_abstract_eval(_abstract)
batching.primitive_batchers[_blocks_p] = _batched
# One rule for all platforms: with jax 0.10 a program for several cannot hold a primitive with one for each.
mlir.register_lowering(_blocks_p, _lower)
