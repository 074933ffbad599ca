"""A record inside a checkpoint: what training changed, without a copy of where it began.

    python examples/record_in_checkpoint.py

A record says how the weights were drawn, in a few kilobytes of JSON. It lies in the checkpoint's metadata, so that it
cannot get lost from the weights. Whoever restores the checkpoint, without the model's code, sees which weights moved.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from rich.console import Console

import qrjax


class Network(nn.Module):
    """Sixteen features, of which only the first eight ever differ from zero, to four classes."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features to logits."""
        return nn.Dense(4, name="head")(nn.relu(nn.Dense(64, name="hidden")(x)))


def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features and labels."""
    x = jax.random.normal(key, (256, 8))
    return jnp.pad(x, ((0, 0), (0, 8))), jnp.argmax(x[:, :4], axis=1)


def trained(params: Any, steps: int) -> Any:
    """The parameters after some steps of plain gradient descent."""
    descent = optax.sgd(0.1)

    @jax.jit
    def step(params: Any, state: Any, key: jax.Array) -> Any:
        x, labels = batch(key)

        def loss(params: Any) -> jax.Array:
            logits = Network().apply({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = descent.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = descent.init(params)
    for key in jax.random.split(jax.random.key(1), steps):
        params, state = step(params, state, key)
    return params


def save(folder: pathlib.Path) -> None:
    """Initializes, trains and saves: the weights as they are, and the record of how they were."""
    x, _ = batch(jax.random.key(0))
    params = qrjax.autoinit(Network(), x, seed=7, source="hash")["params"]
    record = qrjax.record(Network(), x, seed=7, source="hash")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, trained(params, 50), custom_metadata={"qrjax": record.to_dict()})


def restore(folder: pathlib.Path) -> tuple[qrjax.Record, Any]:
    """The record and the weights, from the checkpoint alone."""
    with ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(folder)
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), metadata.item_metadata.tree)
        params = checkpointer.restore(folder, shapes)
    return qrjax.Record.from_dict(metadata.custom_metadata["qrjax"]), params


def main() -> qrjax.Changes:
    """Prints what moved since the initialization, and one weight as it was and as it is."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "checkpoint"
        save(folder)
        record, params = restore(folder)
    found = qrjax.changes(record, params)
    Console().print(str(found), highlight=False, soft_wrap=True)
    asleep = qrjax.changes(record, params, threshold=1e-6)["hidden/kernel"].sleeping
    print(f"\n{asleep} of the hidden kernel's weights sleep: half of the features are always zero.")
    path, index = "hidden/kernel", (3, 5)
    before, now = record.weight(path, index), params["hidden"]["kernel"][index]
    print(f"{path}{list(index)} began as {before:.6f} and is {now:.6f} now.")
    print(f"The record takes {len(record.to_json())} bytes of the checkpoint.")
    return found


if __name__ == "__main__":
    main()
