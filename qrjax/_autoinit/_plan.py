"""How each weight is drawn once the walk has found its gain: what `autoinit` carries out and a record keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._initializers._builders import DISTRIBUTIONS, orthogonal_hash, orthogonal_qr
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._scaling import Fixed
from qrjax._interpreter._model import Leaf, Model
from qrjax._interpreter._walk import Walk
from qrjax._layouts._coordinates import Shape
from qrjax._layouts._sources import Hash, Roles, Sobol
from qrjax._signals._signal import Weight

SOURCES = ("sobol", "hash")


@dataclasses.dataclass(frozen=True)
class Unit(Fixed):
    """Mean 0 and variance 1, where the axes that a neuron sums over are known."""

    inputs: tuple[int, ...]

    def roles(self, shape: Shape) -> Roles:
        """The neurons' own axes, found where the weight meets its input."""
        return Roles(self.inputs, tuple(a for a in range(len(shape)) if a not in self.inputs))


@dataclasses.dataclass(frozen=True)
class Draw:
    """How weights are drawn, but for their gains."""

    distribution: str
    source: str
    layout: str

    def initializer(self, inputs: tuple[int, ...]) -> Initializer:
        """Weights of unit variance."""
        law = DISTRIBUTIONS[self.distribution]
        source = Hash() if self.source == "hash" else Sobol(self.layout, None, "owen")  # type: ignore[arg-type]
        return Initializer(law, Unit(0.0, 1 / law.stddev, inputs), source, None, "autoinit")

    def unit(self, key: Array, shape: Shape, inputs: tuple[int, ...]) -> Array:
        """Weights of unit variance, float32."""
        if self.distribution == "orthogonal":
            return Arranged.of(self, shape, inputs).array(key)
        return self.initializer(inputs)(key, shape, jnp.float32)


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
        build = orthogonal_hash() if hashed else orthogonal_qr(layout=draw.layout)  # type: ignore[arg-type]
        return cls(build, (rows, columns), (*inputs, *outputs), shape)

    def array(self, key: Array) -> Array:
        """The tensor, float32."""
        # Entries of an orthonormal matrix have the variance 1 / (the longer side).
        matrix = self.build(key, self.matrix, jnp.float32) * np.float32(math.sqrt(max(self.matrix)))
        ordered = matrix.reshape([self.shape[a] for a in self.axes])
        return jnp.transpose(ordered, [int(a) for a in np.argsort(self.axes)])


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How one weight is drawn.

    Attributes:
      leaf: the parameter.
      draw: the settings.
      inputs: the axes that a neuron sums over, of one layer where layers are stacked.
      gains: standard deviations, float32: one, or one for each layer of a stack.
      equal: whether all entries are the gain itself.
    """

    leaf: Leaf
    draw: Draw
    inputs: tuple[int, ...]
    gains: np.ndarray
    equal: bool

    @property
    def shape(self) -> Shape:
        """Of one layer."""
        return self.leaf.shape[self.gains.ndim :]

    def keys(self, key: Array) -> Array:
        """The key that the parameter's path makes of `key`; where layers are stacked, one for each."""
        own = path_key(key, self.leaf.path)
        if not self.gains.ndim:
            return own
        return jax.vmap(lambda i: jax.random.fold_in(own, i))(jnp.arange(len(self.gains), dtype=jnp.uint32))

    def array(self, key: Array) -> Array:
        """The weights, from the key of the whole model."""
        if self.equal:
            return jnp.full(self.leaf.shape, self.gains, self.leaf.dtype)
        if not self.gains.ndim:
            unit = self.draw.unit(self.keys(key), self.shape, self.inputs)
        else:
            unit = jax.vmap(lambda k: self.draw.unit(k, self.shape, self.inputs))(self.keys(key))
        gains = self.gains.reshape(*self.gains.shape, *[1] * len(self.shape))
        return (unit * gains).astype(self.leaf.dtype)


def plans(model: Model, walk: Walk, chosen: Callable[[str], bool], draw: Draw) -> dict[str, Plan]:
    """The plan of every weight, by path."""
    weights = {
        path: (e.weight, e.axes)
        for e in walk.ledger.entries.values()
        if e.weight is not None and chosen(e.weight.path)
        for path in (e.weight.path, *e.weight.also)
    }
    return {leaf.path: _plan(leaf, walk, *weights[leaf.path], draw) for leaf in model.leaves if leaf.path in weights}


def _plan(leaf: Leaf, walk: Walk, weight: Weight, axes: tuple[int, ...] | None, draw: Draw) -> Plan:
    variances = walk.gains.variances
    if weight.index is None:
        gains, shape = np.sqrt(np.float64(variances[leaf.path, None])), leaf.shape
    else:
        gains, shape = np.sqrt([variances.get((leaf.path, i), 0.0) for i in range(leaf.shape[0])]), leaf.shape[1:]
    # Where the program regroups axes, a neuron sums over all but the last, as by convention.
    inputs = tuple(range(len(shape) - 1)) if axes is None else axes
    return Plan(leaf, draw, inputs, np.asarray(gains, np.float32), weight.equal and weight.index is None)


def path_key(key: Array, path: str) -> Array:
    """The key of one parameter: it depends on the key and on the path, and on nothing else in the model."""
    digest = hashlib.sha256(path.encode()).digest()
    for start in (0, 4):
        key = jax.random.fold_in(key, int.from_bytes(digest[start : start + 4], "little"))
    return key
