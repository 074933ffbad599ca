"""What it takes to initialize a decoder of 70 billion parameters over many devices: a table of the book.

    python tests/bench/sharded_init.py [--markdown] [--mesh 8x8] [--layers 80] [--unrolled] [--weights default ...]

The decoder has the sizes of Llama 3 70B, bfloat16 weights and names for their axes (`nn.with_partitioning`), of
which the first axis of the mesh shares out the width, and the second the heads, hidden units and vocabulary.
`jax.jit(decoder.init, out_shardings=...)` is compiled ahead of time for that mesh of forced host devices, and not
run; each row in a process of its own. The layers are scanned; --unrolled adds rows in which they are not. In the
row "autoinit", `qrjax.autoinit` takes the place of `decoder.init`. The time to trace is that until there is a
program to compile, with the weights' shapes and shardings and with autoinit's walk.

Memory of one device is the program's output and temporaries, as the compiler counts them. Its shard is what its
share of the weights takes by their shapes: norms' scales are whole everywhere. Collectives are counted in the
compiled program.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import AxisType, Mesh
from sampling import Report, environment, show

import qrjax

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo.decoder import Decoder, Weights
from zoo.large import decoder_70b

AXES = {"width": "x", "heads": "y", "hidden": "y", "vocabulary": "y"}
DEFAULT = Weights(qrjax.lecun_normal_qr(), qrjax.variance_scaling_qr(1.0, "fan_in", "normal", out_axis=0))
AUTOINIT = "autoinit"
SOURCES = {
    "Flax's default": Weights(),
    "default": DEFAULT,
    "hash": Weights(qrjax.lecun_normal_hash(), qrjax.variance_scaling_hash(1.0, "fan_in", "normal", out_axis=0)),
    AUTOINIT: DEFAULT,
}
COLLECTIVE = r"\b(?:all-[\w-]+|ragged-all-to-all|reduce-scatter|collective-[\w-]+|send|recv)(?:-start)?\("
MEBIBYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Found:
    """Of one program; bytes are those of one device."""

    source: str
    scanned: bool
    parameters: int
    trace_seconds: float
    compile_seconds: float
    shard: int
    output: int
    temporaries: int
    collectives: int

    @property
    def ratio(self) -> float:
        return (self.output + self.temporaries) / self.shard


def partitioned(init: Any, axes: tuple[str, ...]) -> Any:
    return nn.with_partitioning(init, tuple(AXES[axis] for axis in axes))


def decoder(source: str, scanned: bool, **sizes: int) -> Decoder:
    weights = dataclasses.replace(SOURCES[source], dtype=jnp.bfloat16, name=partitioned)
    return dataclasses.replace(decoder_70b(scanned=scanned, weights=weights), **sizes)


def drawing(source: str, module: Decoder) -> Callable[[jax.Array], Any]:
    if source == AUTOINIT:
        return lambda key: qrjax.autoinit(module, jax.ShapeDtypeStruct((1, 16), jnp.int32), key=key)
    return lambda key: module.init(key, jnp.zeros((1, 16), jnp.int32))


def compiled(source: str, scanned: bool, mesh: Mesh, **sizes: int) -> Found:
    draw, key = drawing(source, decoder(source, scanned, **sizes)), jax.random.key(0)
    begin = time.perf_counter()
    shapes = jax.eval_shape(draw, key)
    shardings = nn.get_sharding(shapes, mesh)
    traced = jax.jit(draw, out_shardings=shardings).lower(key)
    middle = time.perf_counter()
    program = traced.compile()
    end = time.perf_counter()
    memory, leaves = program.memory_analysis(), jax.tree.leaves(shapes)
    parts = [s.shard_shape(x.shape) for x, s in zip(leaves, jax.tree.leaves(shardings), strict=True)]
    return Found(
        source, scanned, sum(x.size for x in leaves), middle - begin, end - middle,
        sum(math.prod(part) * x.dtype.itemsize for part, x in zip(parts, leaves, strict=True)),
        memory.output_size_in_bytes, memory.temp_size_in_bytes, len(re.findall(COLLECTIVE, program.as_text())),
    )  # fmt: skip


def measured(source: str, scanned: bool, mesh: tuple[int, int], **sizes: int) -> Found:
    """In a process that has as many devices as the mesh; `sizes` are fields of the decoder."""
    flags = f"--xla_force_host_platform_device_count={math.prod(mesh)}"
    request = json.dumps({"source": source, "scanned": scanned, "mesh": mesh} | sizes)
    done = subprocess.run(
        [sys.executable, __file__, "--request", request], capture_output=True, text=True,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return Found(**json.loads(done.stdout))


def answer(request: dict[str, Any]) -> str:
    mesh = jax.make_mesh(tuple(request.pop("mesh")), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    return json.dumps(dataclasses.asdict(compiled(**request, mesh=mesh)))


def cells(found: Found) -> list[str]:
    return [
        found.source,
        "scanned" if found.scanned else "unrolled",
        f"{found.parameters / 1e9:.2f} bn",
        f"{found.trace_seconds:.1f}",
        f"{found.compile_seconds:.1f}",
        f"{found.shard / MEBIBYTE:,.1f}",
        f"{found.temporaries / MEBIBYTE:,.1f}",
        f"{found.ratio:.4f}",
        str(found.collectives),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--mesh", default="8x8", help="devices along its two axes")
    parser.add_argument("--layers", type=int, default=80, help="of the decoder")
    parser.add_argument("--unrolled", action="store_true", help="each layer by itself as well; takes long")
    parser.add_argument("--weights", nargs="+", choices=SOURCES, default=list(SOURCES), help="rows; all by default")
    parser.add_argument("--request", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.request:
        print(answer(options.request))
        return
    facts, mesh = environment(), tuple(map(int, options.mesh.split("x")))
    kinds = [(source, scanned) for scanned in (True, *[False] * options.unrolled) for source in options.weights]
    lines = [cells(measured(source, scanned, mesh, depth=options.layers)) for source, scanned in kinds]
    columns = ("weights", "layers", "parameters", "trace s", "compile s", "shard, MiB", "temporaries, MiB")
    title = f"A decoder of {options.layers} layers, bfloat16, compiled for {options.mesh} devices; memory of one device"
    report = Report(title, (*columns, "(output + temporaries) / shard", "collectives"), lines)
    show([report], facts, options.markdown)


if __name__ == "__main__":
    main()
