"""The closures that builders return: values that compare, hash and print by what configured them."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

from qrjax._initializers._antithetic import is_symmetric, paired
from qrjax._initializers._arguments import shape_of
from qrjax._initializers._blocks import blocks_of
from qrjax._initializers._compilation import compiled_once
from qrjax._initializers._scaling import Fixed, Scaling
from qrjax._initializers._sharding import Tensor, sharded
from qrjax._initializers._specification import KEY, Resolved, Specification
from qrjax._initializers._streams import Component, Streams
from qrjax._layouts._coordinates import Coordinates, Shape, from_index, whole
from qrjax._layouts._sources import Hash, Source, collapses, spread
from qrjax._values._distributions import Distribution, check_dtype, complex_values, values
from qrjax._words._keys import state_of
from qrjax._words._splitmix import absorb

# Absorbed into the state for the second word of a complex weight.
SECOND = 0x32646E32


class RankCollapseWarning(UserWarning):
    """A tensor was filled in an order that makes it numerically low in rank."""


@dataclasses.dataclass(frozen=True)
class Initializer(Streams):
    """`init(key, shape, dtype=None, out_sharding=None)`, and `init.at` for single weights.

    Made by the builders, such as `qrjax.he_normal_qr()`. Two made with equal arguments are equal, so
    that a Flax module holding one compares equal to its twin, and `jax.jit` compiles once for both.
    """

    distribution: Distribution
    scaling: Scaling
    source: Source
    dtype: np.dtype[Any] | None
    expression: str = dataclasses.field(compare=False)
    path: tuple[Component, ...] = ()
    _warned: set[Shape] = dataclasses.field(default_factory=set, compare=False, repr=False)
    __repr__ = Streams.__repr__  # a dataclass would write its own

    def __post_init__(self) -> None:
        location = self.scaling.location if isinstance(self.scaling, Fixed) else 0.0
        if isinstance(self.source, Hash) and self.source.zero_mean and not is_symmetric(self.distribution, location):
            raise ValueError(
                f"`zero_mean` needs values that are symmetric about 0, got {self.expression}; give it a mean of 0 "
                "and opposite bounds, as in random_uniform_hash(-0.01, 0.01, zero_mean=True)"
            )

    def __call__(
        self,
        key: Array,
        shape: Any,
        dtype: Any = None,
        out_sharding: NamedSharding | PartitionSpec | None = None,
    ) -> Array:
        """A tensor of initial weights.

        Args:
          key: a JAX key, typed or raw; may be traced. The draw uses it up, as jax.random's do: under
            jax.debug_key_reuse(True) a second one is an error. `at`, and a path of `stream`, do not.
          shape: the shape of the tensor, static; an integer is the length of one axis.
          dtype: float32, bfloat16, float16, float64, one of 8 bits (float8_e4m3fn, float8_e5m2, ...) or, where JAX's
            twin has it, complex; None means the builder's, and where that has none JAX's default.
          out_sharding: how to lay the result out over devices: a NamedSharding, or a PartitionSpec for the mesh of
            jax.set_mesh, whose axes may be of any type.

        Raises:
          TypeError: if `key` is not a key, `shape` neither an integer nor a sequence of integers, or `out_sharding`
            neither of the two.
          ValueError: if `shape` or `dtype` does not fit this initializer, there is no mesh for `out_sharding`, or it
            cuts one axis along automatic axes of the mesh and then along explicit ones.
        """
        shape, found = self.check(shape, dtype)
        if 0 in shape:
            return jnp.zeros(shape, found, out_sharding=out_sharding)
        tensor = Tensor(_filled, self._without_path(), shape, found)
        return sharded(tensor, out_sharding)(self._drawn_words(key))

    def drawn(self, key: Array, shape: Shape, dtype: Any) -> Array:
        """What the call returns, as a part of a program that is to be compiled as one; checked by the caller."""
        return _fill(self._without_path(), self._words(key), shape=shape, dtype=np.dtype(dtype))

    def check(self, shape: Any, dtype: Any) -> tuple[Shape, np.dtype[Any]]:
        """The shape and dtype in canonical form; errors and warnings as for the call."""
        shape, found = self._checked(shape, dtype)
        if 0 not in shape:
            self._warn_of_collapse(shape)
        return shape, found

    def at(self, key: Array, shape: Any, index: Any, dtype: Any = None) -> Array:
        """`init(key, shape, dtype)[index]`, bit for bit, computing those weights alone.

        Args:
          key, shape, dtype: as in the call that makes the whole tensor.
          index: integers, slices, an Ellipsis, integer arrays (traced ones are clipped to the shape) and
            static boolean arrays, or a tuple of these.

        Raises:
          IndexError: if a static index lies outside `shape`.
          TypeError, ValueError: as the call.
        """
        shape, found = self._checked(shape, dtype)
        coordinates, result = from_index(index, shape)
        if 0 in result:
            return jnp.zeros(result, found)
        weights = evaluate(self._without_path(), self._words(key), coordinates, shape=shape, dtype=found)
        return jnp.broadcast_to(weights, result)

    def specification(self, shape: Shape, dtype: np.dtype[Any]) -> Specification:
        """What a tensor of this shape and dtype is, with nothing left to work out."""
        location, scale = self.scaling.location_and_scale(shape, self.distribution, dtype)
        resolved = Resolved(location, scale, *self.scaling.roles(shape))
        return Specification(self.distribution, resolved, self.source, shape, dtype)

    def _checked(self, shape: Any, dtype: Any) -> tuple[Shape, np.dtype[Any]]:
        shape = shape_of(shape)
        allow_complex = self.scaling.allows_complex(self.distribution)
        found = check_dtype(self.dtype if dtype is None else dtype, allow_complex=allow_complex)
        self.scaling.location_and_scale(shape, self.distribution, found)  # raises where they do not exist
        self.source.check_shape(shape, self.scaling.roles(shape))
        return shape, found

    def _warn_of_collapse(self, shape: Shape) -> None:
        if shape not in self._warned and collapses(self.source, shape):
            self._warned.add(shape)
            warnings.warn(
                f"layout='sequence' fills shape {shape} row by row from one Sobol' dimension, so rows are XORs of "
                "each other and the matrix has an effective rank of a few: fit to reproduce the paper, not to train. "
                "The default layout='outputs' does not collapse.",
                RankCollapseWarning,
                stacklevel=4,
            )


def _filled(init: Initializer, words: Array, *, shape: Shape, dtype: np.dtype[Any]) -> Array:
    return compiled_once(_fill(init, words, shape=shape, dtype=dtype))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shape", "dtype"))
def _fill(init: Initializer, words: Array, *, shape: Shape, dtype: np.dtype[Any]) -> Array:
    # What is drawn, and from which key, rides along for who reads the program without running it.
    words = checkpoint_name(words, KEY)
    blocks = blocks_of(_tensor, init, shape, dtype)
    value = blocks.tensor(words) if blocks else _tensor(init, words, shape, dtype)
    return checkpoint_name(value, init.specification(shape, dtype).label)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shape", "dtype"))
def evaluate(init: Initializer, words: Array, coordinates: Coordinates, *, shape: Shape, dtype: np.dtype[Any]) -> Array:
    return _weights(init, words, coordinates, shape, dtype, is_whole=False)


def _tensor(init: Initializer, words: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    return jnp.broadcast_to(_weights(init, words, whole(shape), shape, dtype, is_whole=True), shape)


def _weights(
    init: Initializer, words: Array, coordinates: Coordinates, shape: Shape, dtype: np.dtype[Any], is_whole: bool
) -> Array:
    """The weights at the coordinates; everything random comes from `words`, the data of the key."""
    roles, law = init.scaling.roles(shape), init.distribution
    state = state_of(spread(words, init.source.groups(coordinates, roles)))
    location, scale = init.scaling.location_and_scale(shape, law, dtype)
    pairs = init.source.antithetic(state, shape, coordinates, roles)
    if pairs is not None:
        coordinates, scale, law = pairs.coordinates, scale * pairs.stretch, paired(law, pairs)
    draw = functools.partial(init.source.words, shape=shape, coordinates=coordinates, roles=roles, whole=is_whole)
    bits = draw(state)
    if dtype.kind != "c":
        return values(law, bits, location, scale, dtype, init.source.exact)
    return complex_values(law, bits, draw(absorb(state, SECOND)), scale, dtype)
