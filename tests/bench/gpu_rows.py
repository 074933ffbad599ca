"""The rows of the GPU's table of speed: ways to fill an array, compiled and timed in turn; not a script."""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gpu_clock import Clock
from gpu_compile import launched
from sampling import HASH, LAWS, SEQUENCE, SOURCES

import qrjax

FILLING, THREEFRY, RBG, CURAND = "filling the array", "jax.random, threefry", "jax.random, rbg", "cuRAND, Sobol'"
OURS = (*SOURCES, HASH)
THEIRS = {THREEFRY: ("threefry2x32", 2), RBG: ("rbg", 4)}  # a key's kind and how many words it has
SCRAMBLED_SOBOL32 = 202  # in cuRAND's enumeration of generators
BATCH = 8  # calls between two readings of the clock


@dataclasses.dataclass
class Row:
    """One way to fill an array.

    Attributes:
      start: begins one fill and returns what to wait for.
      wait: waits for all that is returned.
      reset: before each round, off the clock.
      kernels, temporaries: of the compiled program, these as a share of the array.
    """

    source: str
    law: str
    start: Callable[[int], Any]
    wait: Callable[[Any], Any]
    reset: Callable[[], Any] = lambda: None
    kernels: int = 0
    temporaries: float = 0.0
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
    memory = run.memory_analysis()
    share = memory.temp_size_in_bytes / memory.output_size_in_bytes
    kernels = len(launched(run.as_text()))
    return Row(source, law, lambda k: run(keys[k]), jax.block_until_ready, kernels=kernels, temporaries=share)


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


def fill_share(table: Sequence[Row], source: str = SEQUENCE) -> float:
    """Of the card's own pace, of a source's uniform values."""
    by_name = {(row.source, row.law): row for row in table}
    return by_name[FILLING, ""].median / by_name[source, "uniform"].median
