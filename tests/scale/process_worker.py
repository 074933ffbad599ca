"""One of several processes: initializes, saves, restores and prunes sharded variables, and reports what it holds.

    python process_worker.py FOLDER PORT PROCESSES PROCESS

Then it waits to be told the number of a process that was lost, reports that one's shards from the record alone, and
stays until its standard input ends.
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import devices
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from recovery import digest

import qrjax
from qrjax._adapters._nnx import _places
from qrjax._adapters._variables import leaves_of, values_of

SEED = 7
TOKENS = jax.ShapeDtypeStruct((2, 16), jnp.int32)
# Where each lies in a mesh of (processes, devices of each); by rank within the stacked layers.
SPECS = {
    "Embed_0/embedding": P("rows", "columns"), "head/kernel": P(None, ("rows", "columns")),
    "norm/scale": P(("rows", "columns")), "mixed": P("rows"), "first/kernel": P("columns", "rows"),
    "both": P("rows", "columns"), "layers": P("columns", None, "rows"), "half": P("columns"),
}  # fmt: skip
STACKED = {2: P(None, "rows"), 3: P("columns", "rows"), 4: P("columns", "rows")}
CRITERIA = {
    "change": {"sparsity": 0.4, "scope": "global"},
    "magnitude": {"sparsity": 0.37, "scope": "layer"},
    "random": {"threshold": 0.25},
    "filters": {"criterion": "magnitude", "sparsity": 0.5, "whole": "filter"},
    "pattern": {"criterion": "magnitude", "sparsity": "2:4"},
    "floor": {"criterion": "magnitude", "sparsity": 0.9, "scope": "global", "at_least": 0.2},
}


class Block(nn.Module):
    """A step of `nn.scan`."""

    @nn.compact
    def __call__(self, x, _):
        x = x + nn.MultiHeadDotProductAttention(num_heads=4, use_bias=False)(nn.RMSNorm()(x))
        hidden = nn.gelu(nn.Dense(64, use_bias=False)(nn.RMSNorm()(x)))
        return x + nn.Dense(32, use_bias=False, param_dtype=jnp.bfloat16, dtype=jnp.float32)(hidden), None


class Transformer(nn.Module):
    """Tokens to logits; two layers, stacked by a scan."""

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(96, 32)(ids)
        layers = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = layers(name="layers")(x, None)
        return nn.Dense(96, name="head")(x)


def initialized() -> Any:
    """The transformer's variables."""
    return qrjax.autoinit(Transformer(), TOKENS, seed=SEED)


def recorded() -> qrjax.Record:
    """How they were made."""
    return qrjax.record(Transformer(), TOKENS, seed=SEED)


class Normed(nnx.Module):
    """Holds its variables, whose values `autoinit` looks at."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.mixed = nnx.Param(jnp.arange(16.0))

    def __call__(self, x):
        return self.norm(self.first(x)) * jnp.expand_dims(self.mixed[...], 0)


def rescaled(module: nnx.Module) -> tuple[dict[str, jax.Array], str]:
    """An NNX module's variables, and its record."""
    x = jax.ShapeDtypeStruct((1, 8), jnp.float32)
    variables = nnx.state(qrjax.autoinit(module, x, seed=SEED, source="hash"))
    return dict(named(variables)), qrjax.record(module, x, seed=SEED, source="hash").to_json()


def sharded_module() -> nnx.Module:
    """Its variables spread over all processes."""
    graph, state = nnx.split(Normed(nnx.Rngs(SEED)))
    arrays = spread({path: np.asarray(array) for path, array in named(state)})
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), [arrays[path] for path, _ in named(state)]))


def begin(key: jax.Array) -> dict[str, jax.Array]:
    """Variables to follow: drawn with one key or one a layer, and of one value."""
    layer = qrjax.uniform_hash()
    return {
        "both": qrjax.he_normal_hash()(key, (32, 64)),
        "layers": jax.vmap(lambda k: layer(k, (8, 16)))(jax.random.split(key, 2)),
        "half": jnp.full((2, 12), 0.5, jnp.bfloat16),
        "bias": jnp.zeros(12),
    }


def trained(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """Of each some weights moved, in its own dtype."""
    rng, result = np.random.default_rng(SEED), {}
    for path in sorted(arrays):
        array = np.asarray(arrays[path])
        step = rng.normal(0, 0.02, array.shape) * (rng.random(array.shape) < 0.4)
        result[path] = (array.astype(np.float64) + step).astype(array.dtype)
    return result


def shardings(variables: Any) -> Any:
    """In the variables' structure; a row of the mesh is a process."""
    grid = np.array(jax.devices()).reshape(jax.process_count(), -1)
    mesh = Mesh(grid, ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)
    return jax.tree.unflatten(
        jax.tree.structure(variables),
        [NamedSharding(mesh, _spec(leaf.path, len(leaf.shape))) for leaf in leaves_of(variables)],
    )


def _spec(path: str, rank: int) -> P:
    return STACKED[rank] if path.startswith("layers/") else SPECS.get(path, P())


def spread(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """From what every process has."""
    places = shardings(arrays)
    return {
        path: jax.make_array_from_callback(whole.shape, places[path], whole.__getitem__)
        for path, whole in arrays.items()
    }


def bounds(index: Any, shape: tuple[int, ...]) -> list[list[int]]:
    """Of a shard: [start, stop] along each axis."""
    return [list(s.indices(n)[:2]) for s, n in zip(index, shape, strict=True)]


def named(variables: Any) -> Iterator[tuple[str, Any]]:
    """The arrays with their paths."""
    return zip([leaf.path for leaf in leaves_of(variables)], values_of(variables), strict=True)


def shards(variables: Any) -> list[Any]:
    """What lies in this process: [path, bounds, digest] of each."""
    return [
        [path, bounds(shard.index, array.shape), digest(shard.data)]
        for path, array in named(variables)
        for shard in array.addressable_shards
    ]


def shards_of(process: int, record: qrjax.Record, variables: Any) -> list[Any]:
    """As `shards`, of another process, by the record: of the variables only the places are read."""
    return [
        [path, bounds(index, array.shape), digest(record.weight(path, index))]
        for path, array in named(variables)
        for device, index in array.sharding.devices_indices_map(array.shape).items()
        if device.process_index == process
    ]


def saved_and_restored(folder: pathlib.Path, variables: Any, record: qrjax.Record) -> Any:
    """Through Orbax, with the record in its metadata."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, variables, custom_metadata={"qrjax": record.to_dict()})
        checkpointer.wait_until_finished()
        places = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), variables)
        return checkpointer.restore(folder, places)


def followed() -> dict[str, Any]:
    """What tracking finds with initial values of every kind: by address, spread over processes, and whole in each."""
    key = jax.random.key(SEED)
    record = qrjax.record(begin, key=key, by="init")
    arrays = {path: np.asarray(array) for path, array in begin(key).items()}
    now = spread(trained(arrays))
    forms = {"record": record, "spread": spread(arrays), "whole": arrays}
    found: dict[str, Any] = {}
    for name, form in forms.items():
        changes = qrjax.changes(form, now, 0.001)
        found[f"changes, {name}"] = json.loads(changes.to_json())
        found[f"delta, {name}"] = shards({path: changes.delta(path) for path in now})
        found[f"initial, {name}"] = shards(qrjax.prune(now, jax.tree.map(lambda a: a > 1e9, now), "initial", form))
    masks = {name: qrjax.mask(record, now, **{"criterion": name, **options}) for name, options in CRITERIA.items()}
    found |= {name: shards(mask) for name, mask in masks.items()}
    found["heat map"] = heat_map(qrjax.changes(record, now, 0.001))
    found["zero"] = shards(qrjax.prune(now, masks["change"]))
    return found


def heat_map(changes: Any) -> str:
    """What the picture shows of one kernel."""
    import matplotlib as mpl

    mpl.use("agg")
    _, _, heat = qrjax.plot.changes(changes, kernel="both")
    return digest(np.ma.filled(heat.images[0].get_array(), -1.0))


def main(folder: pathlib.Path, port: str, processes: int, process: int) -> None:
    """Does it all, and writes it down."""
    devices.join(port, processes, process)
    variables = jax.jit(initialized, out_shardings=shardings(jax.eval_shape(initialized)))()
    record = recorded()
    variables_of_module, text = rescaled(sharded_module())
    report = {
        "record": record.to_json(),
        "weights": shards(variables),
        "restored": shards(saved_and_restored(folder / "checkpoint", variables, record)),
        "followed": followed(),
        "module": [shards(variables_of_module), text],
        "module here": [str(place) for place in _places(nnx.state(Normed(nnx.Rngs(SEED))))],
    }
    devices.write(folder / f"report.{process}", report)
    lost = int(sys.stdin.readline())
    devices.write(folder / f"recovered.{process}", shards_of(lost, record, variables))
    sys.stdin.read()  # the coordinator takes all others with it when it goes


if __name__ == "__main__":
    # What it draws is compared with what is drawn by programs that were compiled with more effort.
    devices.strict(optimized=False)
    devices.end_by(main)
