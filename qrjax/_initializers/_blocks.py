"""Large tensors drawn a block at a time, where that lets words lie in memory while a table is read for them.

What a table is read by is an address, and on a CPU without fast look-ups in vector registers the compiler works out
addresses one by one, with all that leads to them: the permutations behind a layout's words then take four times as
long. Words that lie in memory are loaded. A block's words, a part in 32 of the tensor, are kept; then come its values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._initializers._compilation import compiled_once
from qrjax._layouts._coordinates import Shape, whole
from qrjax._layouts._sources import Sobol
from qrjax._values._distributions import values
from qrjax._words._keys import from_key

COUNT = 32  # of the blocks of a tensor
SMALLEST = 1 << 13  # fewer words are made sooner than a kernel is started


@dataclasses.dataclass(frozen=True)
class Blocks:
    """`blocks(words)` is the tensor that `init` draws from the words of a key, drawn by blocks along an axis."""

    init: Any
    shape: Shape
    dtype: np.dtype[Any]
    axis: int
    length: int  # of a block

    def __call__(self, words: Array) -> Array:
        n = self.shape[self.axis]

        def write(number: Array, tensor: Array) -> Array:
            # The last block begins where it is as long as the others: some of its weights are written twice.
            start = jnp.minimum(number * self.length, n - self.length).astype(jnp.int32)
            return lax.dynamic_update_slice_in_dim(tensor, self._block(words, start), start, self.axis)

        return lax.fori_loop(0, -(-n // self.length), write, jnp.zeros(self.shape, self.dtype))

    def stacked(self) -> Stack:
        return Stack(self)

    def _block(self, words: Array, start: Array) -> Array:
        init, law = self.init, self.init.distribution
        location, scale = init.scaling.location_and_scale(self.shape, law, self.dtype)
        bits = compiled_once(_words_of_block(self, words, start.astype(jnp.uint32)))
        return values(law, bits, location, scale, self.dtype, init.source.exact)


@dataclasses.dataclass(frozen=True)
class Stack:
    """The tensors of several keys, one after another."""

    each: Blocks | Stack

    def __call__(self, words: Array) -> Array:
        return lax.map(self.each, words)

    def stacked(self) -> Stack:
        return Stack(self)


@functools.partial(jax.jit, static_argnums=0)
def _words_of_block(blocks: Blocks, words: Array, start: Array) -> Array:
    extent = tuple(blocks.length if k == blocks.axis else n for k, n in enumerate(blocks.shape))
    coordinates = tuple(c + start if k == blocks.axis else c for k, c in enumerate(whole(extent)))
    roles = blocks.init.scaling.roles(blocks.shape)
    bits = blocks.init.source.words(from_key(words), blocks.shape, coordinates, roles, False)
    return jnp.broadcast_to(bits, extent)


def blocks_of(init: Any, shape: Shape, dtype: np.dtype[Any]) -> Blocks | None:
    """How to draw a tensor by blocks, where it is large enough for it and its words are dear."""
    permuted = isinstance(init.source, Sobol) and init.source.layout != "sequence"
    if not (permuted and init.distribution.is_tabled and dtype.kind == "f" and math.prod(shape) >= COUNT * SMALLEST):
        return None
    # Along the longest axis but the last, which vectors are made along.
    axis = max(range(max(len(shape) - 1, 1)), key=shape.__getitem__)
    return Blocks(init, shape, dtype, axis, -(-shape[axis] // COUNT)) if shape[axis] >= COUNT else None
