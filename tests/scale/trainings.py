"""Experiments on several devices beside those on one. Run by `devices.run`, on 8 devices."""

import pathlib
import tempfile
from typing import Any

import devices
import jax
import numpy as np

from qrjax import experiments

SMALL: dict[str, Any] = {"model": "mlp1", "units": 8, "epochs": 2, "limit": 96}


def trained(seeds: int, chunk: int, device: jax.Device | None, **options: Any) -> list[dict[str, Any]]:
    """The records of two sources, without what depends on the day; on all devices, or on this one."""
    chosen = [experiments.Settings(source=source, **SMALL | options) for source in ("random", "hash")]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder, jax.default_device(device):
        found = experiments.run(chosen, seeds, pathlib.Path(folder) / "r", chunk=chunk, progress=False)
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]


def alike(cases: list[tuple[int, int]], **options: Any) -> list[bool]:
    """Of so many seeds in such chunks: whether all devices have the results of one, but for a loss's last bits."""
    devices.strict(optimized=False)
    one = jax.local_devices()[0]
    return [
        are_alike(trained(seeds, chunk, None, **options), trained(seeds, chunk, one, **options))
        for seeds, chunk in cases
    ]


def are_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    # The program of three devices gave one loss of ten another last bit, each time.
    close = np.allclose([one["loss"] for one in found], [one["loss"] for one in expected], rtol=1e-6, atol=0)
    return bool(close) and [one | {"loss": 0} for one in found] == [one | {"loss": 0} for one in expected]


def tuned() -> list[bool]:
    """The same with rates to choose from."""
    return alike([(3, 1)], learning_rate=(1e-3, 1e-2), validation=0.25)
