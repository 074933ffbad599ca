"""One model over several machines: the same weights as on one, and a lost machine's share from the record alone.

    python examples/multihost.py

starts two processes on this machine that stand for two. On two machines, the first of which is 10.0.0.1:

    python examples/multihost.py --coordinator 10.0.0.1:9911 --processes 2 --process 0 --folder /shared/run  # on one
    python examples/multihost.py --coordinator 10.0.0.1:9911 --processes 2 --process 1 --folder /shared/run  # the other

Each process draws its own shards of a transformer, and all save them together with Orbax, in a new folder that all
see. The record in the checkpoint's metadata is a few kilobytes. By it every process recovers what its neighbour holds,
as if that one were lost: nothing is sent, and nothing else is drawn. Compare the digests that they print.

A process waits --timeout seconds (120) for the others to begin, and as long for one that falls silent; then JAX aborts
it, with a stack trace. JAX's own lines, such as those that begin with [Gloo] on CPUs, say that the processes have met.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
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
LIMIT = 300  # seconds for all that is started here


class Transformer(nn.Module):
    """Tokens to the logits of the next, of sizes that many numbers of devices divide."""

    vocabulary: int = 3840
    width: int = 240
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
    """Every parameter cut over all devices of all processes, along the longest axis that their number divides."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))

    def cut(array: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(array.shape) if size % mesh.size == 0]
        names = (*[None] * max(axes, key=array.shape.__getitem__), "devices") if axes else ()
        return NamedSharding(mesh, PartitionSpec(*names))

    return jax.tree.map(cut, jax.eval_shape(params))


def save(folder: pathlib.Path, sharded: Any) -> None:
    """Each process writes what it holds; the first one adds the record."""
    record = qrjax.record(Transformer(), TOKENS, seed=7)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, sharded, custom_metadata={"qrjax": record.to_dict()})


def held(sharded: Any) -> Iterator[np.ndarray]:
    """This process's shards, by parameter and device; of copies on several devices, one."""
    for _, array in sorted(flatten_dict(sharded, sep="/").items()):
        shards = sorted(array.addressable_shards, key=lambda shard: shard.device.id)
        for shard in {str(shard.index): shard for shard in shards}.values():
            yield np.asarray(shard.data)


def recovered(folder: pathlib.Path, places: Any, process: int) -> Iterator[np.ndarray]:
    """The shards that another process held when it began, from the record in the checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        record = qrjax.Record.from_dict(checkpointer.metadata(folder).custom_metadata["qrjax"])
    shapes = {entry.leaf.path: entry.leaf.shape for entry in record.entries}
    for path, sharding in sorted(flatten_dict(places, sep="/").items()):
        indices = sharding.devices_indices_map(shapes[path])
        devices = sorted((device for device in indices if device.process_index == process), key=lambda one: one.id)
        for index in {str(indices[device]): indices[device] for device in devices}.values():
            yield np.asarray(record.weight(path, index))


def summary(shards: Iterable[np.ndarray]) -> str:
    """How many weights, and a digest of their bits."""
    count, digest = 0, hashlib.sha256()
    for shard in shards:
        count += shard.size
        digest.update(np.ascontiguousarray(shard))
    return f"{count:,} weights, sha256 {digest.hexdigest()[:16]}"


def take_part(coordinator: str, processes: int, process: int, folder: pathlib.Path, timeout: int) -> None:
    """One process of several; all do the same."""
    print(f"waiting at {coordinator} until {processes} processes are there, for at most {timeout} s", flush=True)
    jax.distributed.initialize(
        coordinator_address=coordinator, num_processes=processes, process_id=process,
        initialization_timeout=timeout, heartbeat_timeout_seconds=timeout,
    )  # fmt: skip
    places = shardings()
    sharded = jax.jit(params, out_shardings=places)()
    print(f"process {process} drew {summary(held(sharded))}", flush=True)
    save(folder / "checkpoint", sharded)
    other = (process + 1) % processes
    print(f"process {process} recovered of process {other}: {summary(recovered(folder / 'checkpoint', places, other))}")


def start_all(command: Sequence[str], processes: int, folder: pathlib.Path) -> list[str]:
    """All processes on this machine, with two devices each; what they print. When one fails, none stays."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command = [*command, f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--processes={processes}"]
    files = [folder / f"{i}.txt" for i in range(processes)]
    deadline = time.monotonic() + LIMIT
    with contextlib.ExitStack() as stack:
        started = []
        for i, file in enumerate(files):
            says = stack.enter_context(file.open("w"))
            here = [*command, f"--process={i}"]
            process = stack.enter_context(subprocess.Popen(here, stdout=says, stderr=subprocess.STDOUT, env=env))
            stack.callback(process.kill)
            started.append(process)
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    said = [file.read_text().splitlines() for file in files]
    # Where none failed, those that time was too short for.
    failed = [i for i, code in enumerate(codes) if code] or [i for i, code in enumerate(codes) if code is None]
    if failed:
        fates = {i: f"ended with status {codes[i]}" if codes[i] else f"was not done after {LIMIT} s" for i in failed}
        sys.exit("\n".join("\n".join([f"process {i} {fates[i]}; it said", *said[i][-20:]]) for i in failed))
    return [line for each in said for line in each if line.startswith("process")]


def main(argv: Sequence[str] | None = None) -> list[str]:
    """Is one of several processes, or starts them all; returns what they print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; default: all here")
    parser.add_argument("--processes", type=int, default=2, help="how many there are")
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    parser.add_argument("--folder", type=pathlib.Path, help="a new one for the checkpoint, which all processes see")
    parser.add_argument("--timeout", type=int, default=120, help="seconds to wait for another process")
    given = parser.parse_args(argv)
    if given.coordinator is None:
        if given.process is not None:
            parser.error("--process says which of several this one is; give the --coordinator of all too")
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            command = [sys.executable, __file__, f"--folder={given.folder or folder}", f"--timeout={given.timeout}"]
            printed = start_all(command, given.processes, folder)
        print("\n".join(printed))
        return printed
    if given.process is None or given.folder is None:
        parser.error("--coordinator needs a --folder, the same for all processes, and a --process, which this one is")
    for number in (signal.SIGINT, signal.SIGTERM):  # Python's own handlers would wait until JAX has met the others
        signal.signal(number, signal.SIG_DFL)
    try:
        take_part(given.coordinator, given.processes, given.process, given.folder.absolute(), given.timeout)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # the usual way out waits for the others, which wait for this one
    return []


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and so takes what it started with it
    main()
