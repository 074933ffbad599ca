"""How long a GPU's compiler takes for whole models' initialization, and what it makes of it, on a machine without one.

    pip install -e '.[test,gpu-compiler]'       # three wheels, 560 MB, no driver
    python tests/bench/gpu_compile.py [--markdown] [--models GPT-2 ...] [--kinds Flax qr ...]
    python tests/bench/gpu_compile.py --draws [--markdown]  # one tensor at a time, every layout

Nothing runs, as there is no card: programs are compiled for an H100. Seconds are those of processors, of ptxas and all
threads too, since a machine of many cores compiles kernels side by side and one of two does not; what counts is their
ratio to Flax's own in the same process, in which kinds take turns. "wall" is the clock's. Kernels are those launched;
"different" is how many the compiler had to work through, as it takes equal ones for one. Temporaries are of the output.

What was found (GPT-2, processor seconds; Flax's own 41 with jax 0.10.2, 66 with 0.12.0): most of it is the pass that
fuses, whose work goes with the operations of all draws together. Every call inlined: default layout 44, hash 33,
autoinit 48 (0.12: 63 and 53). Units, which 0.10.1 and 0.10.2 know: some 18 for the default layout, where 74
derivations of keys take the most; these as units too: 7.4, hash 5, autoinit 7. Calls that may not be inlined, in
versions without units: each operation is a kernel of its own, 1,700 for three draws.

Scanned, a draw of the default layout was four to six kernels, as states of rows, and what of an order belongs to a row,
were made ahead. With orders, scrambles and SplitMix64 as one operation each (maps) it is three, in .53 of Flax's time
where it was .65 the same day. Every call inlined, three layers: .68 where it was .89.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from sampling import Report, environment, show

NEEDED = ("jax_plugins.xla_cuda13", "jax_cuda13_plugin")


def installed() -> bool:
    """Whether the wheels are there."""
    try:
        return all(importlib.util.find_spec(name) for name in NEEDED) and any(_assemblers())
    except ModuleNotFoundError:  # of the package that would hold one of them
        return False


def _assemblers() -> Iterator[pathlib.Path]:
    for place in map(pathlib.Path, sys.path):
        yield from place.glob("nvidia/cu13/bin/ptxas")


def prepare() -> None:
    """Before JAX looks for its plugins, which it does when it is first asked for a device."""
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # it would ask for cuDNN, which initializers do not need
    os.environ["PATH"] = os.pathsep.join([*(str(path.parent) for path in _assemblers()), os.environ["PATH"]])


H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
BASE, SCANNED = "Flax", "GPT-2, scanned"
KINDS = (BASE, "qr", "hash", "autoinit")
WORDS = jax.ShapeDtypeStruct((2,), jnp.uint32)  # of a key
LAYOUTS = ("outputs", "neurons", "shuffled", "points", "sequence")
SHAPES = ((4096, 4096), (3, 3, 512, 512), (512, 50264))
DTYPES = ("float32", "bfloat16", "float8_e4m3fn")


class Compiled(NamedTuple):
    """A program and what it took to compile it.

    Attributes:
      seconds: of processors, with all threads and ptxas.
      wall: by the clock.
      temporaries: as a share of the output.
      kernels: how many are launched.
      different: how many of them differ.
    """

    seconds: float
    wall: float
    temporaries: float
    kernels: int
    different: int


def compile_for_h100(function: Callable[..., Any], *arguments: Any) -> Compiled:
    """`function` of arrays; `arguments` are arrays or jax.ShapeDtypeStruct."""
    lowered = lowered_for_h100(function, *arguments)
    processors, clock = _processor_seconds(), time.perf_counter()
    compiled = lowered.compile()
    seconds, wall = _processor_seconds() - processors, time.perf_counter() - clock
    memory, bodies = compiled.memory_analysis(), launched(compiled.as_text())
    share = memory.temp_size_in_bytes / max(memory.output_size_in_bytes, 1)
    return Compiled(seconds, wall, share, len(bodies), len(set(bodies)))


def compiled_for_h100(function: Callable[..., Any], *arguments: Any) -> jax.stages.Compiled:
    """The compiled program itself."""
    return lowered_for_h100(function, *arguments).compile()


def lowered_for_h100(function: Callable[..., Any], *arguments: Any) -> jax.stages.Lowered:
    """A program for a card that is not there."""
    topology = topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=H100)
    place = NamedSharding(topologies.make_mesh(topology, (1,), ("x",)), PartitionSpec())
    jitted = jax.jit(function, in_shardings=place, out_shardings=place)
    return jitted.trace(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments)).lower()


def _processor_seconds() -> float:
    return sum(os.times()[:4])  # those of finished child processes too


def launched(text: str) -> list[str]:
    """The kernels of a compiled program, each as what it computes, but for names."""
    parts = {m[2]: m[0] for m in re.finditer(r"^(ENTRY )?%([\w.-]+) \(.*?^\}", text, re.MULTILINE | re.DOTALL)}
    entry = next(name for name, body in parts.items() if body.startswith("ENTRY"))
    return list(_launched(parts, entry))


def _launched(parts: dict[str, str], name: str) -> Iterator[str]:
    for line in parts[name].splitlines():
        if called := re.search(r" fusion\(.*calls=%([\w.-]+)", line):
            yield _unnamed(parts[called[1]])
        elif called := re.search(r" (?:call\(.*to_apply|while\(.*body)=%([\w.-]+)", line):
            yield from _launched(parts, called[1])


def _unnamed(body: str) -> str:
    _, _, body = body.partition("\n")  # its name, and those of its parameters
    body = re.sub(r", metadata=\{[^}]*\}", "", body)
    return re.sub(r"%[\w.-]+", "%", body)


def program(model: str, kind: str) -> Callable[[jax.Array], Any]:
    """Words of a key -> all variables."""
    from whole_models import initialization

    init = _scanned(kind) if model == SCANNED else initialization(model, kind)
    return lambda words: init(jax.random.wrap_key_data(words))


def _scanned(kind: str) -> Callable[[jax.Array], Any]:
    from gpu_models import decoder

    import qrjax

    names = {BASE: "Flax's own", "qr": "default", "hash": "hash", "autoinit": "default"}
    module, ids = decoder("gpt2", True, names[kind], jnp.float32), jax.ShapeDtypeStruct((1, 16), jnp.int32)
    if kind == "autoinit":
        return lambda key: qrjax.autoinit(module, ids, key=key)
    return lambda key: module.init(key, jnp.zeros(ids.shape, ids.dtype))


def measured(model: str, kinds: Sequence[str]) -> dict[str, Compiled]:
    found = {}
    for kind in kinds:
        found[kind] = compile_for_h100(program(model, kind), WORDS)
        print(f"{model}, {kind}: {json.dumps(found[kind]._asdict())}", file=sys.stderr, flush=True)
    return found


def table(model: str, found: dict[str, Compiled]) -> Report:
    base = found.get(BASE)
    columns = ("", "processor s", f"x {BASE}", "wall s", "kernels", "different", "temporaries")
    lines = []
    for kind, one in found.items():
        ratio = f"{one.seconds / base.seconds:.2f}" if base else ""
        counts = (str(one.kernels), str(one.different), f"{100 * one.temporaries:.2f} %")
        lines.append([kind, f"{one.seconds:.1f}", ratio, f"{one.wall:.1f}", *counts])
    return Report(f"Compiling jit(init) of {model} for an H100", columns, lines)


def draws() -> Iterator[Report]:
    """What single tensors keep beside themselves, in each layout and type."""
    import qrjax

    builders = {layout: qrjax.he_normal_qr(layout=layout) for layout in LAYOUTS} | {"hash": qrjax.he_normal_hash()}
    builders["points, linear"] = qrjax.he_normal_qr(layout="points", scramble="linear")
    columns = ["he_normal", *(f"{shape}" for shape in SHAPES), "processor s", "kernels"]
    for dtype in DTYPES:
        lines = []
        for name, init in builders.items():
            found = [compile_for_h100(_of_words(init, shape, dtype), WORDS) for shape in SHAPES]
            shares = [f"{100 * one.temporaries:.1f} %" for one in found]
            lines.append([name, *shares, f"{found[0].seconds:.1f}", str(found[0].kernels)])
        title = f"{dtype}: temporaries beside a tensor on an H100; seconds and kernels are the first shape's"
        yield Report(title, columns, lines)


def _of_words(init: Any, shape: tuple[int, ...], dtype: str) -> Callable[[jax.Array], jax.Array]:
    return lambda words: init(jax.random.wrap_key_data(words), shape, dtype)


def main() -> None:
    from whole_models import MODELS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*MODELS, SCANNED)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--models", nargs="+", choices=every, default=list(every), metavar="MODEL",
                        help=f"of {'; '.join(every)}; all by default")  # fmt: skip
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="all by default")
    parser.add_argument("--draws", action="store_true", help="single tensors in every layout, and no models")
    options = parser.parse_args()
    if not installed():
        raise SystemExit("gpu_compile.py: the GPU's compiler is not installed; pip install -e '.[test,gpu-compiler]'")
    prepare()
    models = (table(model, measured(model, options.kinds)) for model in options.models)
    reports = list(draws() if options.draws else models)
    show(reports, environment(), options.markdown)


if __name__ == "__main__":
    main()
