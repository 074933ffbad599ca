"""What qrjax does on a GPU: the committed bits, speed next to jax.random and cuRAND, whole models, autoinit.

    python tests/bench/gpu.py [--minutes 6] [--markdown] [--part digests ...] [--size 16384] [--repeats 15] [--unrolled]
    python tests/bench/gpu.py --platform cpu --size 256 --repeats 2 --model small      # tries the script out

Needs a GPU and jax with its plugin, such as `pip install "jax[cuda12]"`; cuRAND's rows appear where CuPy is installed.
Each table is printed when it is done, what is being compiled on standard error. After --minutes nothing more is begun;
each part may take its share of them, and what was left out for lack of time stands at the end.

digests: every case of tests/initializers/members.py, against tests/initializers/digests.json.
speed: size * size float32 values. Each row is compiled beforehand, takes its key at run time, and is called several
times in a row before the clock is read, so that starting a program costs next to nothing; the rows run in every round
in an order drawn anew, and times are medians over the rounds. "filling the array" is the card's own pace. cuRAND makes
its scrambled Sobol' sequence of one dimension, its default, into memory that is there already.
model: `module.init` of a decoder in bfloat16, jitted: tracing, compiling, and drawing, the median. Its 7 billion
weights are the sizes of LLaMA 7B; with --unrolled its layers are not scanned.
autoinit: of a decoder of GPT-2's sizes: tracing and walking, compiling what draws, drawing; how many of its
arrays have the bits that a CPU gives them; and how far measured second moments are from those predicted, in octaves.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sampling import HASH, LAWS, SEQUENCE, SOURCES, Report, Target, environment, show, target_report, version

import qrjax

sys.path.insert(0, str(Path(__file__).parents[1]))
from initializers.members import digests
from zoo.decoder import Decoder, Weights

COMMITTED = Path(__file__).parents[1] / "initializers" / "digests.json"
# What is dearest first; the share of the minutes at whose end a part begins nothing more.
SHARES = {"speed": 0.45, "model": 0.65, "autoinit": 0.8, "digests": 1.0}
PARTS = tuple(SHARES)
CHUNKS = 24  # of the cases of digests
FILLING, THREEFRY, RBG, CURAND = "filling the array", "jax.random, threefry", "jax.random, rbg", "cuRAND, Sobol'"
OURS = (*SOURCES, HASH)
THEIRS = {THREEFRY: ("threefry2x32", 2), RBG: ("rbg", 4)}  # a key's kind and how many words it has
SCRAMBLED_SOBOL32 = 202  # in cuRAND's enumeration of generators
BATCH = 8  # calls between two readings of the clock
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "jax-rocm7-plugin", "cupy-cuda12x", "cupy-cuda13x")
MODELS: dict[str, dict[str, Any]] = {
    "decoder_7b": {"vocabulary": 32_000, "depth": 32, "width": 4096, "heads": 32, "hidden": 11_008},
    "gpt2": {"vocabulary": 50_257, "depth": 12, "width": 768, "heads": 12, "hidden": 3072},
    "small": {"vocabulary": 64, "depth": 1, "width": 32, "heads": 2, "hidden": 64},
}
WEIGHTS = {
    "default": (qrjax.lecun_normal_qr(), qrjax.normal_qr(0.02)),
    "hash": (qrjax.lecun_normal_hash(), qrjax.normal_hash(0.02)),
    "Flax's own": (jax.nn.initializers.lecun_normal(), jax.nn.initializers.normal(0.02)),
}
DRAWING_SECONDS = 3.0  # of the model, at most
FILL_SHARE = 0.8  # of the card's own pace, at least


def device_of(platform: str) -> jax.Device | None:
    """The first device of a platform, "gpu" or "cpu"; None where there is none."""
    try:
        return jax.devices(platform)[0]
    except RuntimeError:  # how jax says that it knows of no such platform
        return None


@dataclasses.dataclass
class Clock:
    """How much time there is, and what it did not suffice for."""

    seconds: float = math.inf
    begun: float = dataclasses.field(default_factory=time.monotonic)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def allows(self, part: str, what: str) -> bool:
        """Whether to begin something of a part; says what on standard error, or notes that it was left out."""
        passed = time.monotonic() - self.begun
        if passed >= SHARES[part] * self.seconds:
            self.left_out.append(f"{part}: {what}")
            return False
        print(f"{passed:6.1f} s  {part}: {what}", file=sys.stderr, flush=True)
        return True


def wrong_digests(device: jax.Device, every: int = 1, first: int = 0) -> dict[str, str]:
    """The cases whose bits are not the committed ones."""
    return {name: value for name, value in drawn_digests(device, every, first).items() if committed()[name] != value}


def drawn_digests(device: jax.Device, every: int = 1, first: int = 0) -> dict[str, str]:
    with jax.default_device(device):
        return digests(every, first=first)


def committed() -> dict[str, str]:
    found: dict[str, str] = json.loads(COMMITTED.read_text())
    return found


@dataclasses.dataclass
class Row:
    """One way to fill an array.

    Attributes:
      start: begins one fill and returns what to wait for.
      wait: waits for all that is returned.
      reset: before each round, off the clock.
    """

    source: str
    law: str
    start: Callable[[int], Any]
    wait: Callable[[Any], Any]
    reset: Callable[[], Any] = lambda: None
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def rows(
    device: jax.Device, size: int, laws: Sequence[str] = LAWS, sources: Sequence[str] = (*OURS, *THEIRS),
    clock: Clock | None = None,
) -> list[Row]:  # fmt: skip
    clock, shape = clock or Clock(), (size, size)
    wanted = [(FILLING, ""), *((source, law) for law in laws for source in (*OURS, *THEIRS) if source in sources)]
    made = [
        jitted_row(source, law, shape, device)
        for source, law in wanted
        if clock.allows("speed", f"compiling {law} {source}")
    ]
    return made + [row for row in curand_rows(size * size, device) if row.law in laws]


def jitted_row(source: str, law: str, shape: tuple[int, int], device: jax.Device) -> Row:
    if source == FILLING:
        return compiled_row(source, law, lambda key: jnp.full(shape, key[-1].astype(jnp.float32)), device)
    if source in THEIRS:
        kind, words = THEIRS[source]
        return compiled_row(source, law, theirs(law, kind, shape), device, words)
    init = getattr(qrjax, f"{law}_{'hash' if source == HASH else 'qr'}")(1.0, **SOURCES.get(source, {}))
    return compiled_row(source, law, lambda key: init(key, shape), device)


def theirs(law: str, kind: str, shape: tuple[int, int]) -> Callable[[jax.Array], jax.Array]:
    def draw(words: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(words, impl=kind)
        if law == "truncated_normal":
            return jax.random.truncated_normal(key, -2.0, 2.0, shape)
        return jax.random.uniform(key, shape) if law == "uniform" else jax.random.normal(key, shape)

    return draw


def compiled_row(
    source: str, law: str, draw: Callable[[jax.Array], jax.Array], device: jax.Device, words: int = 2
) -> Row:
    keys = [jax.device_put(np.full(words, k, np.uint32), device) for k in range(BATCH)]
    with jax.default_device(device):
        run = jax.jit(draw).lower(keys[0]).compile()
    return Row(source, law, lambda k: run(keys[k]), jax.block_until_ready)


def curand_rows(count: int, device: jax.Device) -> list[Row]:
    """Where the device is NVIDIA's and CuPy is installed."""
    if device.platform != "gpu" or importlib.util.find_spec("cupy") is None:
        return []
    import cupy
    from cupy.cuda import curand

    with cupy.cuda.Device(device.local_hardware_id or 0):
        memory = cupy.empty(count, cupy.float32)
        generator = curand.createGenerator(SCRAMBLED_SOBOL32)

    def reset() -> None:
        curand.setGeneratorOffset(generator, 0)  # the sequence ends after 2**32 points

    def wait(_: Any) -> None:
        cupy.cuda.get_current_stream().synchronize()

    def uniform(_: int) -> None:
        curand.generateUniform(generator, memory.data.ptr, count)

    def normal(_: int) -> None:
        curand.generateNormal(generator, memory.data.ptr, count, 0.0, 1.0)

    return [Row(CURAND, "uniform", uniform, wait, reset), Row(CURAND, "normal", normal, wait, reset)]


def measure(table: Sequence[Row], repeats: int, batch: int = BATCH, clock: Clock | None = None) -> None:
    """Interleaved; the first round, in which memory is claimed, does not count."""
    order, clock = np.random.default_rng(0), clock or Clock()
    for turn in range(-1, repeats):
        if turn > 0 and not clock.allows("speed", f"round {turn + 1} of {repeats}"):
            break
        for k in order.permutation(len(table)):
            row = table[k]
            row.reset()
            row.wait(None)
            start = time.perf_counter()
            for call in range(batch):
                last = row.start(call)  # the one before is freed as soon as the device is done with it
            row.wait(last)
            elapsed = time.perf_counter() - start
            del last
            if turn >= 0:
                row.seconds.append(elapsed / batch)


def speed_report(table: Sequence[Row], size: int) -> Report:
    by_name = {(row.source, row.law): row for row in table}
    columns = ("values", "source", "ms", "values/s", "GB/s", "x filling", "x threefry", "x rbg", "x cuRAND")
    lines = []
    for row in table:
        others = [by_name.get(key) for key in ((FILLING, ""), *((s, row.law) for s in (THREEFRY, RBG, CURAND)))]
        ratios = [f"{other.median / row.median:.2f}" if other else "" for other in others]
        cells = (f"{1000 * row.median:.3f}", f"{size**2 / row.median:.2g}", f"{4 * size**2 / row.median / 1e9:.0f}")
        lines.append([row.law.replace("_", " "), row.source, *cells, *ratios])
    return Report(f"{size} x {size} float32 values, medians of {len(table[0].seconds)} rounds", columns, lines)


def fill_share(table: Sequence[Row]) -> float:
    """Of the card's own pace, of the plain sequence of uniform values."""
    by_name = {(row.source, row.law): row for row in table}
    return by_name[FILLING, ""].median / by_name[SEQUENCE, "uniform"].median


class Drawn(NamedTuple):
    """A model's initialization."""

    source: str
    parameters: int
    size: int
    temporaries: int
    trace_seconds: float
    compile_seconds: float
    seconds: float


def decoder(model: str, scanned: bool, source: str, dtype: Any) -> Decoder:
    return Decoder(**MODELS[model], scanned=scanned, weights=Weights(*WEIGHTS[source], dtype))


def draw_model(model: str, source: str, device: jax.Device, scanned: bool = True, repeats: int = 3) -> Drawn:
    module = decoder(model, scanned, source, jnp.bfloat16)
    with jax.default_device(device), jax.numpy_dtype_promotion("standard"):
        start = time.perf_counter()
        traced = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16), jnp.int32))).trace(jax.random.key(0))
        lowered, traced_at = traced.lower(), time.perf_counter()
        compiled = lowered.compile()
        compiled_at = time.perf_counter()
        seconds = [run_once(compiled, jax.random.key(k)) for k in range(repeats + 1)][1:]
    leaves = jax.tree.leaves(compiled.out_info)
    memory = compiled.memory_analysis()
    return Drawn(
        source, sum(math.prod(leaf.shape) for leaf in leaves), memory.output_size_in_bytes,
        memory.temp_size_in_bytes, traced_at - start, compiled_at - traced_at, statistics.median(seconds),
    )  # fmt: skip


def run_once(compiled: jax.stages.Compiled, key: jax.Array) -> float:
    jax.block_until_ready(key)
    start = time.perf_counter()
    jax.block_until_ready(compiled(key))
    return time.perf_counter() - start


def model_report(model: str, found: Sequence[Drawn]) -> Report:
    columns = ("weights", "parameters", "GB", "temporaries", "trace s", "compile s", "draw s", "GB/s")
    lines = [
        [
            d.source, f"{d.parameters / 1e9:.2f} G", f"{d.size / 1e9:.2f}", f"{100 * d.temporaries / d.size:.2f} %",
            f"{d.trace_seconds:.2f}", f"{d.compile_seconds:.2f}", f"{d.seconds:.3f}", f"{d.size / d.seconds / 1e9:.0f}",
        ]
        for d in found
    ]  # fmt: skip
    return Report(f"{model} in bfloat16, `jax.jit(module.init)`", columns, lines)


class Initialized(NamedTuple):
    """What `autoinit` did."""

    parameters: int
    walk_seconds: float
    compile_seconds: float
    seconds: float
    arrays: int
    equal: int
    octaves: float


def run_autoinit(model: str, device: jax.Device, length: int = 64) -> Initialized:
    module = decoder(model, False, "default", jnp.float32)
    ids = np.random.default_rng(0).integers(0, MODELS[model]["vocabulary"], (4, length), np.int32)

    def draw(key: jax.Array) -> Any:
        return qrjax.autoinit(module, jax.ShapeDtypeStruct(ids.shape, ids.dtype), key=key)

    with jax.default_device(device):
        key = jax.random.key(0)
        start = time.perf_counter()
        lowered = jax.jit(draw).trace(key).lower()
        walked_at = time.perf_counter()
        compiled = lowered.compile()
        compiled_at = time.perf_counter()
        variables = jax.block_until_ready(compiled(key))
        seconds = run_once(compiled, key)
        report = qrjax.measure(module, variables, ids)
    with jax.default_device(jax.devices("cpu")[0]):
        expected = jax.tree.leaves(jax.jit(draw)(jax.device_put(jax.random.key(0), jax.devices("cpu")[0])))
    leaves = jax.tree.leaves(variables)
    equal = sum(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(leaves, expected, strict=True))
    octaves = statistics.median(abs(row.octaves) for row in report if row.octaves is not None)
    return Initialized(
        sum(leaf.size for leaf in leaves),
        walked_at - start,
        compiled_at - walked_at,
        seconds,
        len(leaves),
        equal,
        octaves,
    )


def autoinit_report(model: str, found: Initialized) -> Report:
    columns = ("network", "parameters", "walk s", "compile s", "draw s", "bits as on a CPU", "octaves off")
    cells = [f"{seconds:.3f}" for seconds in found[1:4]]
    equal = f"{found.equal} of {found.arrays} arrays"
    line = [model, f"{found.parameters / 1e6:.0f} M", *cells, equal, f"{found.octaves:.2f}"]
    return Report("autoinit, from tracing to weights", columns, [line])


def facts(device: jax.Device) -> dict[str, str]:
    """The card and its driver before everything else."""
    card = {"card": device.device_kind, "platform": device.client.platform_version.replace("\n", " ")}
    driver = {"driver": driver_version()} if device.platform == "gpu" else {}
    plugins = {name: version(name) for name in PLUGINS if version(name) != "not installed"}
    return card | driver | environment() | plugins


def driver_version() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return done.stdout.split("\n")[0]


def targets_of(table: Sequence[Row], models: Sequence[Drawn]) -> list[Target]:
    found = []
    if {(FILLING, ""), (SEQUENCE, "uniform")} <= {(row.source, row.law) for row in table}:
        found.append(
            Target("uniform, sequence, plain: pace over filling the array", fill_share(table), ">=", FILL_SHARE)
        )
    for drawn in models:
        if drawn.source in ("default", "hash"):
            found.append(Target(f"drawing the model, {drawn.source}", drawn.seconds, "<=", DRAWING_SECONDS, "s"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--minutes", type=float, default=6.0, help="how long to begin something new")
    parser.add_argument("--part", action="append", choices=PARTS, help="what to do; all of it by default")
    parser.add_argument("--platform", default="gpu", choices=("gpu", "cpu"), help="what it runs on")
    parser.add_argument("--size", type=int, default=16384, help="rows and columns of the array")
    parser.add_argument("--repeats", type=int, default=15, help="rounds, one run of every row each")
    parser.add_argument("--model", choices=MODELS, help="of both parts with models, instead of decoder_7b and gpt2")
    parser.add_argument("--unrolled", action="store_true", help="do not scan the model's layers")
    options = parser.parse_args()
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
    device = device_of(options.platform)
    if device is None:
        raise SystemExit(f"gpu.py: jax {jax.__version__} finds no {options.platform} on this machine; see its --help")
    clock = Clock(60 * options.minutes)
    known = facts(device)
    for report in run(options, device, clock):
        show([report], known, options.markdown)
        sys.stdout.flush()
        known = {"seconds since the start": f"{time.monotonic() - clock.begun:.0f}"}


def run(options: argparse.Namespace, device: jax.Device, clock: Clock) -> Iterator[Report]:
    """The reports, each as soon as there is one."""
    parts, table, models = options.part or PARTS, list[Row](), list[Drawn]()
    if "speed" in parts:
        table = rows(device, options.size, clock=clock)
        measure(table, options.repeats, clock=clock)
        if table:
            yield speed_report(table, options.size)
    if "model" in parts:
        name = options.model or "decoder_7b"
        for source in WEIGHTS:
            if clock.allows("model", f"{name}, {source}"):
                models.append(draw_model(name, source, device, not options.unrolled))
        if models:
            yield model_report(name, models)
    name = options.model or "gpt2"
    if "autoinit" in parts and clock.allows("autoinit", name):
        yield autoinit_report(name, run_autoinit(name, device))
    if "digests" in parts:
        yield digest_report(device, clock)
    if found := targets_of(table, models):
        yield target_report(found)
    if clock.left_out:
        yield Report("Left out for lack of time", ("part and what",), [[what] for what in clock.left_out])


def digest_report(device: jax.Device, clock: Clock) -> Report:
    right, drawn = committed(), dict[str, str]()
    for first in range(CHUNKS):
        if clock.allows("digests", f"part {first + 1} of {CHUNKS}"):
            drawn |= drawn_digests(device, CHUNKS, first)
    wrong = [name for name, value in drawn.items() if right[name] != value]
    lines = [["the same bits as committed", f"{len(drawn) - len(wrong)} of {len(drawn)} drawn, {len(right)} in all"]]
    return Report("Every builder, layout and dtype", ("", "cases"), lines + [["other bits", name] for name in wrong])


if __name__ == "__main__":
    main()
