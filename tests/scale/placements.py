"""Weights laid out in unusual ways: meshes of several kinds, modules on several of them, programs within one.

Run by `devices.run`, on eight devices.
"""

import functools
import itertools
from typing import Any

import devices
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import qrjax

SHAPE = (64, 48)
KINDS = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
SPECS = (P("x", None), P(None, "y"), P("x", "y"), P(("x", "y"), None), P(None, ("y", "x")), P())
BUILDERS = ("he_normal_qr", "uniform_hash", "orthogonal_qr")


def mesh_of(x: str, y: str) -> Mesh:
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(KINDS[x], KINDS[y]))


def line(kind: AxisType = AxisType.Auto, part: slice = slice(None)) -> Mesh:
    found = jax.devices()[part]
    return Mesh(np.array(found), ("x",), axis_types=(kind,))


def asked(x: str, y: str, every: int) -> list[dict[str, Any]]:
    """`out_sharding` in a mesh with axes of these kinds: a specification or a sharding, eager or jitted.

    Of all of it every how many-th.
    """
    devices.strict(optimized=False)
    # Eight devices factorize the others on two cores for minutes.
    builders = BUILDERS if (x, y) == ("explicit", "explicit") else BUILDERS[:2]
    ways = itertools.product(builders, SPECS, ("a specification", "a sharding"), ("eager", "jitted"))
    return [ask(mesh_of(x, y), *way) for way in list(ways)[::every]]


def ask(mesh: Mesh, name: str, spec: P, told: str, wrap: str) -> dict[str, Any]:
    place, draw = NamedSharding(mesh, spec), functools.partial(getattr(qrjax, name)(), shape=SHAPE)
    asking = functools.partial(draw, out_sharding=spec if told == "a specification" else place)
    row = {"case": f"{name} {told} {spec} {wrap}"}
    with jax.set_mesh(mesh):
        if refused(mesh, spec):
            return row | {"placed": True, "equal": says_so(asking)}
        made = (jax.jit(asking) if wrap == "jitted" else asking)(jax.random.key(0))
    placed = made.sharding.is_equivalent_to(place, len(SHAPE))
    return row | {"placed": placed, "equal": np.array_equal(made, alone(name))}


@functools.cache
def alone(name: str) -> np.ndarray:
    return np.asarray(getattr(qrjax, name)()(jax.random.key(0), SHAPE))


def refused(mesh: Mesh, spec: P) -> bool:
    """Whether one axis is cut along automatic axes first and then along explicit ones, which JAX cannot say."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    parts = [[kinds[name] for name in part] for part in spec if isinstance(part, tuple)]
    return [AxisType.Auto, AxisType.Explicit] in parts


def says_so(asking: Any) -> bool:
    try:
        asking(jax.random.key(0))
    except ValueError as error:
        return "must name explicit axes first" in str(error)
    return False


def asked_within_shard_map() -> bool:
    """Manual along one axis of an explicit mesh, laid out along the other."""
    devices.strict(optimized=False)
    mesh, init = mesh_of("explicit", "explicit"), qrjax.he_normal_qr()
    with jax.set_mesh(mesh):
        draw = functools.partial(init, shape=SHAPE, out_sharding=P(None, "y"))
        made = jax.jit(jax.shard_map(draw, in_specs=P(), out_specs=P("x"), axis_names={"x"}))(jax.random.key(0))
    own = np.asarray(init(jax.random.key(0), SHAPE))
    return made.sharding.is_equivalent_to(NamedSharding(mesh, P("x", "y")), 2) and np.array_equal(made, [*own] * 4)


def compilations() -> list[list[int]]:
    """How many the first and the second of two eager calls with `out_sharding` take."""
    devices.strict(optimized=False)
    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: seen.append(event))
    found = []
    for kind, name in itertools.product(KINDS.values(), ("he_normal_qr", "uniform_hash")):
        place, counts = NamedSharding(line(kind), P("x")), []
        for key in jax.random.split(jax.random.key(0)):
            seen.clear()
            getattr(qrjax, name)()(key, SHAPE, out_sharding=place)
            counts.append(sum("backend_compile" in event for event in seen))
        found.append(counts)
    return found


def modules() -> dict[str, Any]:
    """`autoinit` of NNX modules: whether every variable lies afterwards where it did, with the same bits."""
    devices.strict(optimized=False)
    x, parts = jnp.ones((8, 16)), functools.partial(nnx.with_partitioning, nn.initializers.uniform())
    mesh, typed = line(), line(AxisType.Explicit)

    def linear(sharding: Any, rngs: nnx.Rngs, *sizes: int, **metadata: Any) -> nnx.Linear:
        return nnx.Linear(*sizes, kernel_init=parts(sharding, **metadata), rngs=rngs)

    class Stages(nnx.Module):
        """Two layers on four devices each."""

        def __init__(self, rngs):
            self.first = linear((None, "x"), rngs, 16, 64, mesh=line(part=slice(4)))
            self.second = linear(("x", None), rngs, 64, 16, mesh=line(part=slice(4, 8)))

        def __call__(self, x):
            return self.second(nnx.relu(self.first(x)))

    def moved(place: Any) -> nnx.Linear:
        module = nnx.Linear(16, 64, kernel_init=nn.initializers.uniform(), rngs=nnx.Rngs(0))
        nnx.update(module, jax.device_put(nnx.state(module), place))
        return module

    def told(**metadata: Any) -> nnx.Linear:
        return linear((None, "x"), nnx.Rngs(0), 16, 64, **metadata)

    with jax.set_mesh(typed):
        explicit = told()
    alone = moved(jax.devices()[0])
    seeds = jnp.arange(2)

    def again(module: nnx.Module) -> Any:
        return nnx.state(qrjax.autoinit(module, x, seed=1))

    return {
        "within jit, the mesh in the metadata": same_over(
            nnx.jit(lambda: again(told(mesh=mesh)))().kernel[...], again(alone).kernel[...],
            NamedSharding(mesh, P(None, "x")),
        ),
        "stages": same(Stages(nnx.Rngs(0)), again(Stages(nnx.Rngs(0)))),
        "replicated": same(moved(NamedSharding(mesh, P())), again(moved(NamedSharding(mesh, P()))), alone),
        "on another device": same(moved(jax.devices()[3]), again(moved(jax.devices()[3])), alone),
        "explicit": same(explicit, again(explicit), alone),
        "explicit, of a function": len(qrjax.changes(lambda: again(explicit), nnx.state(explicit))) == 2,
        "explicit, over seeds": same_over(
            jax.vmap(lambda s: nnx.state(qrjax.autoinit(explicit, x, seed=s)))(seeds).kernel[...],
            jax.vmap(lambda s: nnx.state(qrjax.autoinit(alone, x, seed=s)))(seeds).kernel[...],
            NamedSharding(typed, P(None, None, "x")),
        ),
    }  # fmt: skip


def same(module: nnx.Module, found: Any, alone: nnx.Module | None = None) -> bool:
    """Whether what was found lies as the module does and, where one is given, is what a module on one device gets."""
    before, after = jax.tree.leaves(nnx.state(module)), jax.tree.leaves(found)
    placed = all(a.sharding.is_equivalent_to(b.sharding, a.ndim) for a, b in zip(before, after, strict=True))
    if alone is None:
        return placed
    wanted = jax.tree.leaves(nnx.state(qrjax.autoinit(alone, jnp.ones((8, 16)), seed=1)))
    return placed and all(np.array_equal(a, b) for a, b in zip(after, wanted, strict=True))


def same_over(found: Any, wanted: Any, place: NamedSharding) -> bool:
    return found.sharding.is_equivalent_to(place, found.ndim) and np.array_equal(found, wanted)


def followed_within_a_mesh(every: int) -> list[bool]:
    """`changes`, `awakened` and `prune` in a program that has set a mesh, of weights in parts and whole."""
    devices.strict(optimized=False)
    network, x = nn.Dense(8), jax.ShapeDtypeStruct((4, 16), jnp.float32)
    record = qrjax.record(network, x, seed=1)
    now = jax.tree.map(lambda w: w * np.float32(1.25), qrjax.autoinit(network, x, seed=1))
    expected = qrjax.changes(record, now).total
    rows = []
    for kind, spec in [*itertools.product(KINDS.values(), (P("x"), P()))][::every]:
        mesh = line(kind, slice(2))  # each device has programs of its own
        held = jax.device_put(now, NamedSharding(mesh, spec))
        with jax.set_mesh(mesh):
            found = qrjax.changes(record, held).total
            stored = qrjax.changes(held, held).total.changed
            masks = qrjax.awakened(record, held, criterion="change", sparsity=0.5)
            back = qrjax.prune(held, masks, "initial", record)
        kept = sum(int(np.sum(a == b)) for a, b in zip(*map(jax.tree.leaves, (back, held)), strict=True))
        exact = (found.changed, found.max_change) == (expected.changed, expected.max_change)
        rows.append(exact and stored == 0 and 0 < kept < found.weights)
    return rows
