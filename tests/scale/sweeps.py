"""Sweeps on several devices beside those on one. Run by `devices.run`, on 8 devices."""

import itertools
import json
import pathlib
import tempfile
from typing import Any

import devices
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import qrjax

X = np.linspace(-1, 1, 96, dtype=np.float32).reshape(12, 8)
RATES = {"rate": 0.1, "key": jax.random.key(5)}


def train(seed, x, rates):
    """A network of two layers, trained for a few steps."""
    key = jax.random.key(seed)
    kernels = [qrjax.uniform_hash()(key, (8, 32)), jax.random.normal(key, (32, 1))]
    noise = jax.random.normal(rates["key"], (12, 1))

    def loss(kernels):
        return ((jnp.tanh(x @ kernels[0]) @ kernels[1] - noise) ** 2).mean()

    def step(kernels, _):
        value, gradients = jax.value_and_grad(loss)(kernels)
        return [k - jnp.float32(rates["rate"]) * g for k, g in zip(kernels, gradients, strict=True)], value

    kernels, losses = jax.lax.scan(step, kernels, length=5)
    return {"loss": losses, "largest": kernels[0].max(), "seed": seed}


def swept(seeds: Any, **options: Any) -> qrjax.Sweep:
    return qrjax.sweep(train, seeds, X, RATES, progress=False, **options)


def bits(found: qrjax.Sweep) -> dict[str, str]:
    return {name: values.tobytes().hex() for name, values in found.items()}


def equal(cases: list[tuple[int, int, int]], optimized: bool) -> list[bool]:
    """Of so many seeds in such chunks on so many devices: whether they have the bits of one device."""
    devices.strict(optimized)
    one = jax.local_devices()[:1]
    return [
        bits(swept(seeds, chunk=chunk, devices=jax.local_devices()[:count]))
        == bits(swept(seeds, chunk=chunk, devices=one))
        for seeds, chunk, count in cases
    ]


def continued() -> dict[str, Any]:
    """A file that was begun on one device, continued on eight and then on three."""
    devices.strict(optimized=False)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "f"
        swept(4, chunk=2, file=file, devices=jax.local_devices()[:1])
        swept(21, file=file)
        found = swept(27, file=file, devices=jax.local_devices()[5:])
        seeds = [json.loads(line)["seed"] for line in file.read_text().splitlines()[2:]]
    alone = swept(27, chunk=2, devices=jax.local_devices()[:1])
    return {"seeds": seeds, "equal": bits(found) == bits(alone)}


def places() -> dict[str, Any]:
    """Where the programs of some sweeps run."""
    from qrjax._sweep import _places, _programs

    devices.strict(optimized=False)
    seen: list[list[int]] = []

    def noted(seed):
        return seed * jnp.uint32(1 + len(seen))

    def number(count: int, **options: Any) -> int:
        return _programs.program(noted, count, (), options.get("chunk"), _places.devices_of(None)).devices

    with jax.default_device(jax.local_devices()[3]):
        one = number(64)
    mesh = Mesh(np.array(jax.local_devices()), ("x",))
    spread = jax.device_put(np.ones((8, 2), np.float32), NamedSharding(mesh, P("x")))
    own = qrjax.sweep(lambda seed, x: x.sum() + seed.astype("float32"), 3, spread, progress=False)
    return {
        "64": number(64), "3": number(3), "chunk": number(20, chunk=8), "default": one, "own": own["value"].tolist()
    }  # fmt: skip


def callbacks() -> list[int]:
    """What a function of the host is asked, on all devices."""
    asked = []

    def note(n):
        asked.append(int(n))
        return n

    def calling(seed):
        return jax.pure_callback(note, jax.ShapeDtypeStruct((), "uint32"), seed, vmap_method="sequential")

    found = qrjax.sweep(calling, 11, progress=False)["value"]
    assert found.tolist() == list(range(11))
    return sorted(set(asked))


def wrong_devices() -> str:
    try:
        swept(2, devices=list(itertools.repeat(jax.local_devices()[0], 2)))
    except ValueError as error:
        return str(error)
    return ""
