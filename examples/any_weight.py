"""One weight of a tensor that is nowhere: what a weight's address is good for.

    python examples/any_weight.py

Draws single weights, a slice and one device's shard of an embedding of 38 million weights without making the
embedding; gives query, key and value streams of their own from one key; widens a layer and keeps what it had.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import qrjax

SHAPE = (50_257, 768)


def alone(key: jax.Array, shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """A weight and a block: each costs as much as what it is, not as what it is part of."""
    init = qrjax.he_normal_hash()
    return init.at(key, shape, (shape[0] - 1, 5)), init.at(key, shape, (slice(0, 8), ...))


def shards(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The embedding by rows over all devices, every shard made where it will lie."""
    init = qrjax.he_normal_qr()
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
    return jax.make_array_from_callback(shape, rows, lambda index: init.at(key, shape, index))


def projections(key: jax.Array, width: int) -> dict[str, jax.Array]:
    """Three matrices of one layer from one key, each from a stream of its own name."""
    init = qrjax.lecun_normal_qr()
    return {name: init.stream("layer", 3, name)(key, (width, width)) for name in ("query", "key", "value")}


def wider(key: jax.Array, width: int, more: int) -> tuple[jax.Array, jax.Array]:
    """A layer before and after it was given more outputs: what it had stays what it was."""
    init = qrjax.lecun_normal_hash()
    return init(key, (width, width)), init(key, (width, width + more))


def main(shape: tuple[int, int] = SHAPE) -> dict[str, bool]:
    """Says what is so, and checks it."""
    key = jax.random.key(7)
    weight, block = alone(key, shape)
    whole = qrjax.he_normal_hash()(key, shape)
    before, after = wider(key, 256, 64)
    parts = list(projections(key, 256).values())
    devices = jax.devices()
    facts = {
        f"one weight of {shape[0] * shape[1]:,} equals the tensor's": bool(weight == whole[-1, 5]),
        "a block of eight rows equals the tensor's": bool((block == whole[:8]).all()),
        f"shards on {len(devices)} device(s) make up the tensor": bool(
            (jax.device_put(shards(key, shape), devices[0]) == qrjax.he_normal_qr()(key, shape)).all()
        ),
        "query, key and value differ": all(bool((a != b).mean() > 0.99) for a, b in itertools.pairwise(parts)),
        "a layer that grew kept its weights": bool(jnp.array_equal(after[:, :256], before)),
    }
    for fact, holds in facts.items():
        print(f"{'yes' if holds else 'NO '}  {fact}")
    return facts


if __name__ == "__main__":
    main()
