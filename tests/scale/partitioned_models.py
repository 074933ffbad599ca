"""Whole models drawn in parts, by Linen, by NNX and by `autoinit`. Run by `devices.run`, on 8 devices."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import devices
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax import Array
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from partitions import MESHES, key, words
from zoo.decoder import Decoder, Weights

import qrjax

# Which axes of a mesh share out which axes of a weight, by the mesh; None: every device has all of it.
RULES: dict[tuple[int, ...], dict[str, Any]] = {
    (8,): {"width": None, "heads": "x", "hidden": "x", "vocabulary": "x"},
    (4, 2): {"width": "x", "heads": "y", "hidden": "y", "vocabulary": "y"},
    (2, 2, 2): {"width": "x", "heads": ("y", "z"), "hidden": ("y", "z"), "vocabulary": ("y", "z")},
}
SOURCES = {
    "default": (qrjax.lecun_normal_qr(), qrjax.variance_scaling_qr(1.0, "fan_in", "normal", out_axis=0)),
    "hash": (qrjax.lecun_normal_hash(), qrjax.normal_hash(0.02)),
}
IDS = jax.ShapeDtypeStruct((2, 16), jnp.int32)


class Model(NamedTuple):
    """How to draw all variables from a key, and how they are to be parted."""

    draw: Callable[[Array], Any]
    shardings: Any


def mesh_of(shape: tuple[int, ...], kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh(shape, tuple(MESHES[shape]), axis_types=(kind,) * len(shape))


def decoder(source: str, name: Callable[[Any, tuple[str, ...]], Any], scanned: bool, dtype: Any) -> Decoder:
    kernel, embedding = SOURCES[source]
    weights = Weights(kernel, embedding, dtype, name)
    return Decoder(2048, 2, 512, 8, 1024, scanned, shared_heads=4, weights=weights)


def partitioned(mesh: Mesh, draws: Callable[[Decoder], Any], **options: Any) -> Model:
    """`nn.with_partitioning`: each weight names axes of the mesh."""
    rules = RULES[mesh.axis_sizes]
    draw = draws(decoder(name=lambda init, axes: nn.with_partitioning(init, tuple(map(rules.get, axes))), **options))
    return Model(draw, nn.get_sharding(jax.eval_shape(draw, key()), mesh))


def logical(mesh: Mesh, draws: Callable[[Decoder], Any], **options: Any) -> Model:
    """`nn.with_logical_partitioning`: each weight names its own axes, and rules tell those of the mesh."""
    draw = draws(decoder(name=nn.with_logical_partitioning, **options))
    specs = nn.get_partition_spec(jax.eval_shape(draw, key()))
    return Model(draw, nn.logical_to_mesh_sharding(specs, mesh, list(RULES[mesh.axis_sizes].items())))


def by_init(module: nn.Module) -> Callable[[Array], Any]:
    return lambda k: module.init(k, jnp.zeros(IDS.shape, IDS.dtype))


def by_autoinit(module: nn.Module) -> Callable[[Array], Any]:
    return lambda k: qrjax.autoinit(module, IDS, key=k)


LINEN = {"with_partitioning": partitioned, "logical axes": logical}
DRAWS = {"init": by_init, "autoinit": by_autoinit}


class Perceptron(nnx.Module):
    """Says where its weights lie in each of the ways that NNX has: names with rules, metadata, a `Param`'s own."""

    def __init__(self, at: "Placed", rngs: nnx.Rngs):
        kernel, embedding, place = at.kernel, at.embedding, at.place
        named = nnx.with_partitioning(
            embedding("vocabulary", "width"), ("vocabulary", "width"), sharding_rules=at.rules
        )
        self.embed = nnx.Embed(2048, 512, embedding_init=named, rngs=rngs)
        metadata = {"out_sharding": place("width", "hidden")}
        widen = kernel("width", "hidden")
        self.widen = nnx.Linear(512, 2048, kernel_init=widen, kernel_metadata=metadata, rngs=rngs)
        narrow = kernel("hidden", "width")(rngs.params(), (2048, 512))
        self.narrow = nnx.Param(narrow, out_sharding=place("hidden", "width"))

    def __call__(self, ids):
        return nnx.relu(self.widen(self.embed(ids))) @ self.narrow[...]


class Placed(NamedTuple):
    """Initializers that may tell their result's place, and places by the names of axes."""

    source: str
    mesh: tuple[int, ...]
    told: bool

    @property
    def rules(self) -> tuple[tuple[str, Any], ...]:
        return tuple(RULES[self.mesh].items())

    def place(self, *axes: str) -> P:
        return P(*map(RULES[self.mesh].get, axes))

    def kernel(self, *axes: str) -> Any:
        return self._told(SOURCES[self.source][0], axes)

    def embedding(self, *axes: str) -> Any:
        return self._told(SOURCES[self.source][1], axes)

    def _told(self, init: Any, axes: tuple[str, ...]) -> Any:
        return functools.partial(init, out_sharding=self.place(*axes)) if self.told else init


def state(at: Placed, k: Array) -> Any:
    return nnx.state(Perceptron(at, nnx.Rngs(params=k)), nnx.Param)


def apart(at: Placed, k: Array) -> Any:
    """The state without a mesh, for `jit` to part."""
    with nnx.use_eager_sharding(False):
        return state(at, k)


def rescaled(at: Placed, k: Array) -> Any:
    with nnx.use_eager_sharding(False):
        return nnx.state(qrjax.autoinit(Perceptron(at, nnx.Rngs(params=k)), IDS, key=k), nnx.Param)


def lowered(draw: Callable[[Array], Any], **options: Any) -> tuple[Any, jax.stages.Compiled]:
    program = jax.jit(draw, **options).lower(key()).compile()
    return program(key()), program


def report(found: Any, expected: Any, shardings: Any, program: jax.stages.Compiled) -> dict[str, Any]:
    """What the tests ask of a model, as plain values."""
    arrays, wanted, places = (jax.tree.leaves(nn.meta.unbox(tree)) for tree in (found, expected, shardings))
    local = sum(shard.data.nbytes for array in arrays for shard in array.addressable_shards[:1])
    return {
        "equal": all(np.array_equal(words(a), words(b)) for a, b in zip(arrays, wanted, strict=True)),
        "placed": all(a.sharding.is_equivalent_to(s, a.ndim) for a, s in zip(arrays, places, strict=True)),
        "parts": sum(array.nbytes for array in arrays) / local,
        "collectives": devices.collectives(program),
        "temporaries": devices.temporaries(program),
    }


def linen(way: str, draw: str, source: str, shape: list[int], scanned: bool, within: bool) -> dict[str, Any]:
    """`within`: whether the program is made within the mesh, where Flax constrains each weight by itself too."""
    devices.strict()
    mesh = mesh_of(tuple(shape))
    model = LINEN[way](mesh, DRAWS[draw], source=source, scanned=scanned, dtype=jnp.float32)
    expected = jax.jit(model.draw)(key())
    with contextlib.ExitStack() as stack:
        if within:
            stack.enter_context(jax.set_mesh(mesh))
            stack.enter_context(nn.logical_axis_rules(list(RULES[mesh.axis_sizes].items())))
        found, program = lowered(model.draw, out_shardings=model.shardings)
    return report(found, expected, model.shardings, program)


def created(way: str, source: str, shape: list[int]) -> list[dict[str, Any]]:
    """`within`, `explicit`: the module is built within the mesh; `told`: its initializers know where."""
    devices.strict()
    kind = AxisType.Explicit if "explicit" in way else AxisType.Auto
    mesh, at = mesh_of(tuple(shape), kind), Placed(source, tuple(shape), told="told" in way)
    expected, shardings = parted(apart, at._replace(told=False), mesh)
    with jax.set_mesh(mesh):
        found, program = lowered(functools.partial(state, at))
        eager = state(at, key())
        jitted = nnx.state(nnx.jit(Perceptron, static_argnums=0)(at, nnx.Rngs(params=key())), nnx.Param)
    return [report(made, expected, shardings, program) for made in (found, eager, jitted)]


def by_jit(drawn: str, source: str, shape: list[int]) -> dict[str, Any]:
    """The module is built without a mesh, and `jit` is told."""
    devices.strict()
    at, draw = Placed(source, tuple(shape), told=False), {"init": apart, "autoinit": rescaled}[drawn]
    expected, shardings = parted(draw, at, mesh_of(at.mesh))
    found, program = lowered(functools.partial(draw, at), out_shardings=shardings)
    return report(found, expected, shardings, program)


def existing(way: str, source: str, shape: list[int]) -> list[dict[str, Any]]:
    """`autoinit` of a module that lies in parts already: in the mesh and without it, or in one program with it."""
    devices.strict()
    kind = AxisType.Explicit if "explicit" in way else AxisType.Auto
    mesh, at = mesh_of(tuple(shape), kind), Placed(source, tuple(shape), told="told" in way)
    expected, shardings = parted(rescaled, at._replace(told=False), mesh)

    def again(module: Perceptron, k: Array) -> Any:
        return nnx.state(qrjax.autoinit(module, IDS, key=k), nnx.Param)

    with jax.set_mesh(mesh):
        module = Perceptron(at, nnx.Rngs(params=key()))
        within = again(module, key())
        found, program = lowered(lambda k: again(Perceptron(at, nnx.Rngs(params=k)), k))
    return [report(made, expected, shardings, program) for made in (within, again(module, key()), found)]


def parted(draw: Callable[[Placed, Array], Any], at: Placed, mesh: Mesh) -> tuple[Any, Any]:
    """What one device draws, and how the module says that it is to be parted."""
    draw = functools.partial(draw, at)
    return jax.jit(draw)(key()), nnx.get_named_sharding(jax.eval_shape(draw, key()), mesh)
