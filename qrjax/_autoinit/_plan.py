"""How each weight is drawn once the walk has found its gain: what `autoinit` carries out and a record keeps."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding

from qrjax._autoinit._names import Drawn
from qrjax._autoinit._names import Source as SourceName
from qrjax._autoinit._narrow import is_narrow, offsets, shrinkage
from qrjax._initializers._builders import DISTRIBUTIONS, orthogonal_hash, orthogonal_qr
from qrjax._initializers._compilation import compiled_once
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._scaling import Fixed
from qrjax._initializers._sharding import sharded
from qrjax._interpreter._model import Leaf, Model
from qrjax._interpreter._walk import Walk
from qrjax._layouts._coordinates import Shape
from qrjax._layouts._sources import Hash, Layout, Roles, Sobol
from qrjax._signals._weight import Weight
from qrjax._values._distributions import Distribution
from qrjax._values._floats import rounded

BATCH = 64  # of keys


@dataclasses.dataclass(frozen=True)
class Unit(Fixed):
    """Mean 0 and variance 1, where the axes that a neuron sums over are known."""

    inputs: tuple[int, ...]

    def location_and_scale(self, shape: Shape, distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
        """As of any fixed range; the two parts of complex weights have the variance 1 together."""
        if dtype.kind == "c":
            return 0.0, 1 / distribution.complex_stddev
        return super().location_and_scale(shape, distribution, dtype)

    def allows_complex(self, distribution: Distribution) -> bool:
        """Any, as there is no twin of JAX's to be like."""
        del distribution
        return True

    def roles(self, shape: Shape) -> Roles:
        """The neurons' own axes, found where the weight meets its input."""
        return Roles(self.inputs, tuple(a for a in range(len(shape)) if a not in self.inputs))


@dataclasses.dataclass(frozen=True)
class Draw:
    """How weights are drawn, but for their gains."""

    distribution: Drawn
    source: SourceName
    layout: Layout

    def initializer(self, inputs: tuple[int, ...]) -> Initializer:
        """Weights of unit variance."""
        law = DISTRIBUTIONS[self.distribution]
        source = Hash() if self.source == "hash" else Sobol(self.layout, None, "owen")
        return Initializer(law, Unit(0.0, 1 / law.stddev, inputs), source, None, "autoinit")

    def unit(self, key: Array, shape: Shape, inputs: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Weights of unit variance, float32 or complex64."""
        if self.distribution == "orthogonal":
            return Arranged.of(self, shape, inputs).array(key, dtype)
        return self.initializer(inputs).drawn(key, shape, dtype)

    def check(self, shape: Shape, inputs: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raises or warns where such weights cannot be had, or are not good to have."""
        if self.distribution != "orthogonal":
            self.initializer(inputs).check(shape, dtype)


@dataclasses.dataclass(frozen=True)
class Arranged:
    """An orthogonal matrix of unit variance, laid out as a weight tensor."""

    build: Orthogonal
    matrix: tuple[int, int]
    axes: tuple[int, ...]
    shape: Shape

    @classmethod
    def of(cls, draw: Draw, shape: Shape, inputs: tuple[int, ...]) -> Arranged:
        """The matrix from `inputs` to the other axes."""
        outputs = tuple(a for a in range(len(shape)) if a not in inputs)
        rows, columns = (math.prod(shape[a] for a in axes) for axes in (inputs, outputs))
        hashed = draw.source == "hash"
        build = orthogonal_hash() if hashed else orthogonal_qr(layout=draw.layout)
        return cls(build, (rows, columns), (*inputs, *outputs), shape)

    def array(self, key: Array, dtype: np.dtype[Any]) -> Array:
        """The tensor, float32 or complex64; a unitary one."""
        # Entries of an orthonormal matrix have the variance 1 / (the longer side).
        matrix = self.build(key, self.matrix, dtype) * np.asarray(math.sqrt(max(self.matrix)), dtype)
        ordered = matrix.reshape([self.shape[a] for a in self.axes])
        return jnp.transpose(ordered, [int(a) for a in np.argsort(self.axes)])


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How one weight is drawn.

    Attributes:
      leaf: the parameter.
      draw: the settings.
      stack: the parameter's axes that layers lie along.
      inputs: the axes that a neuron sums over, of one layer where layers are stacked.
      gains: standard deviations, float32: one, or one for each layer of a stack.
      equal: whether all entries, of each layer, are the gain itself.
      place: how the module's own value is laid out over devices, and so the weight; None for one device.
    """

    leaf: Leaf
    draw: Draw
    stack: tuple[int, ...]
    inputs: tuple[int, ...]
    gains: np.ndarray
    equal: bool
    place: NamedSharding | None

    @property
    def shape(self) -> Shape:
        """Of one layer."""
        return tuple(n for axis, n in enumerate(self.leaf.shape) if axis not in self.stack)

    @property
    def unit_dtype(self) -> np.dtype[Any]:
        """In which the weights are drawn before they are scaled and rounded."""
        return unit_dtype(np.dtype(self.leaf.dtype))

    @property
    def narrow(self) -> bool:
        """Whether it is a head of a few units, whose norms and sums are fixed."""
        by_default = self.draw.layout == "outputs" and self.draw.source == "sobol"
        drawn = self.draw.distribution in DISTRIBUTIONS and np.dtype(self.leaf.dtype).kind != "c"
        return by_default and drawn and is_narrow(self.shape, self.inputs)

    @property
    def unit_draw(self) -> Draw:
        """How its weights of variance 1 are drawn."""
        return dataclasses.replace(self.draw, layout="neurons") if self.narrow else self.draw

    @property
    def factors(self) -> np.ndarray:
        """What they are multiplied with, float32."""
        return self.gains * shrinkage(self.shape, self.inputs) if self.narrow else self.gains

    def offsets(self, keys: Array) -> Array:
        """What is added to a narrow head's weights of variance 1, for every layer."""
        offset = functools.partial(offsets, shape=self.shape, inputs=self.inputs)
        for _ in self.gains.shape:
            offset = jax.vmap(offset)
        return offset(keys)

    def keys(self, key: Array) -> Array:
        """The key that the parameter's path makes of the model's; where layers are stacked, one for each."""
        return self.keys_of_layers(path_key(key, self.leaf.path))

    def keys_of_layers(self, own: Array) -> Array:
        """The key of each layer, from the parameter's own, which it is where no layers are stacked."""
        if not self.gains.ndim:
            return own
        return _keys_of_layers(own, self.gains.shape)

    def array(self, keys: Array, number: int) -> Array:
        """The weights, from the parameter's own key, which is one of several."""
        return sharded(functools.partial(self._array, np.uint32(number)), self.place)(keys)

    def _array(self, number: np.uint32 | None, keys: Array) -> Array:
        if self.equal:
            rest = tuple(a for a in range(len(self.leaf.shape)) if a not in self.stack)
            levels = jnp.asarray(np.expand_dims(self.gains, rest), self.leaf.dtype)
            return jnp.broadcast_to(levels, self.leaf.shape)
        self.draw.check(self.shape, self.inputs, self.unit_dtype)
        draw, factors, dtype = self.unit_draw, jnp.asarray(self.factors), np.dtype(self.leaf.dtype)
        # An orthogonal matrix has other factors before the gain; compiled together they would round differently.
        scaled = _scaled if self.draw.distribution == "orthogonal" else _scaled_in_one
        if self.stack:
            own = compiled_once(_words_of_layers(keys, number, self.gains.shape))
            keys, number = jax.random.wrap_key_data(own, impl=jax.random.key_impl(keys)), None
        drawn = scaled(draw, keys, number, factors, self.inputs, self.shape, dtype, self.narrow)
        drawn = compiled_once(drawn)
        # Outside of a program even a move of no axes is one of its own, and a copy of the weights.
        return jnp.moveaxis(drawn, tuple(range(len(self.stack))), self.stack) if self.stack else drawn


def _keys_of_layers(own: Array, layers: Shape) -> Array:
    numbers = jnp.arange(math.prod(layers), dtype=jnp.uint32)
    return jax.vmap(lambda i: jax.random.fold_in(own, i))(numbers).reshape(layers)


@functools.partial(jax.jit, static_argnums=2)
def _words_of_layers(keys: Array, number: np.uint32, layers: Shape) -> Array:
    """By a program of its own, which all weights of so many layers share."""
    own = lax.dynamic_index_in_dim(keys, number, keepdims=False)
    return jax.random.key_data(_keys_of_layers(own, layers))


def unit_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The single precision of a kind of numbers."""
    return np.dtype(np.complex64 if dtype.kind == "c" else np.float32)


def _scaled(
    draw: Draw, keys: Array, number: np.uint32 | None, gains: Array, inputs: tuple[int, ...], shape: Shape,
    dtype: np.dtype[Any], narrow: bool,
) -> Array:  # fmt: skip
    # Gains are arguments, so that weights of one shape share one program, and so is the place of the key among all: to
    # take each out first is a kernel more for each weight. Where there is none, the keys are those of its layers.
    own = keys if number is None else lax.dynamic_index_in_dim(keys, number, keepdims=False)

    def unit(key: Array) -> Array:
        drawn = draw.unit(key, shape, inputs, unit_dtype(dtype))
        return drawn + offsets(key, shape, inputs) if narrow else drawn

    for _ in gains.shape:
        unit = jax.vmap(unit)
    weights = unit(own)
    return rounded(weights * gains.reshape(*gains.shape, *[1] * len(shape)).astype(weights.dtype), dtype)


_scaled_in_one = jax.jit(_scaled, static_argnums=(0, 4, 5, 6, 7))


def plans(model: Model, walk: Walk, chosen: Callable[[str], bool], draw: Draw) -> dict[str, Plan]:
    """The plan of every weight, by path."""
    weights: dict[str, tuple[Weight, tuple[int, ...] | None]] = {}
    for e in walk.ledger.entries.values():
        if e.weight is not None and chosen(e.weight.path):
            for path in (e.weight.path, *e.weight.also):
                weights.setdefault(path, (e.weight, e.axes))
        for beside in e.beside:
            weights.setdefault(beside.path, (beside, None))
    decided = {path for path, _ in walk.gains.variances}
    weights = {path: found for path, found in weights.items() if path in decided}
    places = model.places or [None] * len(model.leaves)
    return {
        leaf.path: _plan(leaf, walk, *weights[leaf.path], draw, place)
        for leaf, place in zip(model.leaves, places, strict=True)
        if leaf.path in weights
    }


def _plan(
    leaf: Leaf, walk: Walk, weight: Weight, axes: tuple[int, ...] | None, draw: Draw, place: NamedSharding | None
) -> Plan:
    stack = tuple(axis for axis, _ in weight.layer)
    rest = [axis for axis in range(len(leaf.shape)) if axis not in stack]
    decided = {layer: variance for (path, layer), variance in walk.gains.variances.items() if path == leaf.path}
    # A loop is walked until it repeats itself: the layers that are left are like the last one.
    last = list(decided.values())[-1]
    gains = np.empty([leaf.shape[axis] for axis in stack])
    for layer in np.ndindex(*gains.shape):
        gains[layer] = math.sqrt(decided.get(tuple(zip(stack, layer, strict=True)), last))
    # Where the program regroups axes, a neuron sums over all but the last, as by convention.
    inputs = tuple(range(len(rest) - 1)) if axes is None else tuple(rest.index(a) for a in axes if a in rest)
    equal = weight.equal or not (stack or gains.any())  # a head of zeros
    return Plan(leaf, draw, stack, inputs, np.asarray(gains, np.float32), equal, place)


def path_key(key: Array, path: str) -> Array:
    """The key of one parameter: it depends on the key and on the path, and on nothing else in the model."""
    return _fold(key, _digest(path))


def path_keys(key: Array, paths: Sequence[str]) -> Array:
    """`path_key` of each path, and then some. In one batch, as to compile each by itself takes seconds.

    Their number is rounded up, so that models of many sizes share what is compiled for a weight.
    """
    digests = np.zeros((max(1, -(-len(paths) // BATCH)) * BATCH, 2), np.uint32)
    digests[: len(paths)] = np.array([_digest(path) for path in paths], np.uint32).reshape(-1, 2)
    if jax.random.key_impl(key) == "unsafe_rbg":  # whose batches are other numbers
        return jnp.stack([_fold(key, digest) for digest in digests])
    return _folds(key, digests)


def _digest(path: str) -> tuple[int, int]:
    digest = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def _fold(key: Array, digest: Any) -> Array:
    return jax.random.fold_in(jax.random.fold_in(key, digest[0]), digest[1])


_folds = jax.jit(jax.vmap(_fold, (None, 0)))
