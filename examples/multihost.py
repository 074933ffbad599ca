"""One model over several machines: the same weights as on one, and a lost machine's share from the record alone.

    python examples/multihost.py

starts two processes on this machine that stand for two. On two machines, the first of which is 10.0.0.1:

    python examples/multihost.py --coordinator 10.0.0.1:9911 --processes 2 --process 0 --folder /shared/run  # on one
    python examples/multihost.py --coordinator 10.0.0.1:9911 --processes 2 --process 1 --folder /shared/run  # the other

Each process draws its own shards of a transformer, and all save them together with Orbax, in a new folder that all
see. The record in the checkpoint's metadata is a few kilobytes. By it every process recovers what its neighbour holds,
as if that one were lost: nothing is sent, and nothing else is drawn. Compare the digests that they print.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import qrjax

TOKENS = jax.ShapeDtypeStruct((1, 64), jnp.int32)


class Transformer(nn.Module):
    """Tokens to the logits of the next."""

    vocabulary: int = 4096
    width: int = 256
    depth: int = 2

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """One logit for every token of the vocabulary."""
        x = nn.Embed(self.vocabulary, self.width)(ids)
        for _ in range(self.depth):
            x = x + nn.MultiHeadDotProductAttention(num_heads=8)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(self.vocabulary, name="head")(nn.LayerNorm()(x))


def params() -> Any:
    """The whole model's parameters; nobody computes them all."""
    return qrjax.autoinit(Transformer(), TOKENS, seed=7)["params"]


def shardings() -> Any:
    """Every parameter cut along its longest axis, over all devices of all processes, where their number divides it."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))

    def cut(array: Any) -> NamedSharding:
        axis = int(np.argmax(array.shape))
        names = (*[None] * axis, "devices") if array.shape[axis] % mesh.size == 0 else ()
        return NamedSharding(mesh, PartitionSpec(*names))

    return jax.tree.map(cut, jax.eval_shape(params))


def save(folder: pathlib.Path, sharded: Any) -> None:
    """Each process writes what it holds; the first one adds the record."""
    record = qrjax.record(Transformer(), TOKENS, seed=7)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, sharded, custom_metadata={"qrjax": record.to_dict()})


def held(sharded: Any) -> Iterator[np.ndarray]:
    """This process's shards, by parameter and device."""
    for _, array in sorted(flatten_dict(sharded, sep="/").items()):
        for shard in sorted(array.addressable_shards, key=lambda shard: shard.device.id):
            yield np.asarray(shard.data)


def recovered(folder: pathlib.Path, places: Any, process: int) -> Iterator[np.ndarray]:
    """The shards that another process held when it began, from the record in the checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        record = qrjax.Record.from_dict(checkpointer.metadata(folder).custom_metadata["qrjax"])
    shapes = {entry.leaf.path: entry.leaf.shape for entry in record.entries}
    for path, sharding in sorted(flatten_dict(places, sep="/").items()):
        indices = sharding.devices_indices_map(shapes[path])
        for device in sorted(indices, key=lambda device: device.id):
            if device.process_index == process:
                yield np.asarray(record.weight(path, indices[device]))


def summary(shards: Iterable[np.ndarray]) -> str:
    """How many weights, and a digest of their bits."""
    count, digest = 0, hashlib.sha256()
    for shard in shards:
        count += shard.size
        digest.update(np.ascontiguousarray(shard))
    return f"{count:,} weights, sha256 {digest.hexdigest()[:16]}"


def take_part(coordinator: str, processes: int, process: int, folder: pathlib.Path) -> None:
    """One process of several; all do the same."""
    jax.distributed.initialize(coordinator_address=coordinator, num_processes=processes, process_id=process)
    places = shardings()
    sharded = jax.jit(params, out_shardings=places)()
    print(f"process {process} drew {summary(held(sharded))}", flush=True)
    save(folder / "checkpoint", sharded)
    other = (process + 1) % processes
    print(f"process {process} recovered of process {other}: {summary(recovered(folder / 'checkpoint', places, other))}")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A free port, bound here so that nobody else gets it, but not listened on."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def start_all(processes: int, folder: pathlib.Path) -> list[str]:
    """All processes on this machine, with two devices each; what they print."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, __file__, "--processes", str(processes), "--folder", str(folder)]
    with reserved_port() as port, contextlib.ExitStack() as running:
        command += ["--coordinator", f"127.0.0.1:{port}", "--process"]
        started = [
            running.enter_context(subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True, env=env))
            for i in range(processes)
        ]
        for process in started:
            running.callback(process.kill)
        printed = "".join(process.communicate(timeout=300)[0] for process in started)
    if any(process.returncode for process in started):
        raise RuntimeError(f"a process failed; they printed:\n{printed}")
    return [line for line in printed.splitlines() if line.startswith("process")]


def main(argv: Sequence[str] | None = None) -> list[str]:
    """Is one of several processes, or starts them all; returns what they print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; without it all are started here")
    parser.add_argument("--processes", type=int, default=2, help="how many there are")
    parser.add_argument("--process", type=int, default=0, help="which one this is, from 0")
    parser.add_argument("--folder", type=pathlib.Path, help="a new one for the checkpoint, which all processes see")
    options = parser.parse_args(argv)
    if options.coordinator is not None and options.folder is None:
        parser.error("--coordinator needs a --folder, the same for all processes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or pathlib.Path(temporary)).absolute()
        if options.coordinator is not None:
            take_part(options.coordinator, options.processes, options.process, folder)
            return []
        lines = start_all(options.processes, folder)
    print("\n".join(lines))
    return lines


if __name__ == "__main__":
    main()
