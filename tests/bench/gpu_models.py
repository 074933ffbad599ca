"""Whole models of the GPU's tables: their initialization jitted, and `autoinit`; not a script."""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import qrjax

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo.decoder import Decoder, Weights

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
    # Unrolled in the dtype of `run_autoinit`, whose compilation is compared with this one.
    module = decoder(model, scanned, source, jnp.bfloat16 if scanned else jnp.float32)
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
