"""Experiments on several devices beside those on one. Run by `devices.run`, on 8 devices."""

import pathlib
import tempfile
from typing import Any

import devices
import jax

from qrjax import experiments

SMALL: dict[str, Any] = {"model": "mlp1", "units": 8, "epochs": 2, "limit": 96}


def trained(seeds: int, chunk: int, device: jax.Device | None, **options: Any) -> list[dict[str, Any]]:
    """The records of two sources, without what depends on the day; on all devices, or on this one."""
    chosen = [experiments.Settings(source=source, **SMALL | options) for source in ("random", "hash")]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, jax.default_device(device):
        found = experiments.run(chosen, seeds, pathlib.Path(folder) / "r", chunk=chunk, progress=False)
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]


def equal(cases: list[tuple[int, int]]) -> list[bool]:
    """Of so many seeds in such chunks: whether all devices have the bits of one."""
    devices.strict(optimized=False)
    one = jax.local_devices()[0]
    return [trained(seeds, chunk, None) == trained(seeds, chunk, one) for seeds, chunk in cases]


def tuned() -> list[bool]:
    """The same with rates to choose from."""
    devices.strict(optimized=False)
    several = {"learning_rate": (1e-3, 1e-2), "validation": 0.25}
    return [trained(3, 1, None, **several) == trained(3, 1, jax.local_devices()[0], **several)]
