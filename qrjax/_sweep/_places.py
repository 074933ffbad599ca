"""Where seeds run: the devices of this process, and its part of what several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

Devices = tuple[jax.Device, ...]


def devices_of(devices: Any) -> Devices:
    """This process's devices that were asked for; None: all, but the default one alone where one was set.

    Raises:
      TypeError: if they are no devices.
      ValueError: if there are none, or one is another process's or comes twice.
    """
    if devices is None:
        return _here() if _default() is None else (_usual(),)
    found = tuple(devices) if isinstance(devices, Sequence) else (devices,)
    if not all(isinstance(device, jax.Device) for device in found):
        raise TypeError(f"`devices` must be devices of JAX, got {devices!r}; for example jax.local_devices()[:2]")
    if not found or len(set(found)) < len(found):
        raise ValueError(f"`devices` must be different devices, one or several, got {devices!r}")
    if any(device.process_index != jax.process_index() for device in found):
        raise ValueError(f"`devices` must be this process's, got {devices!r}; choose from jax.local_devices()")
    return found


def is_usual(devices: Devices) -> bool:
    """Whether a program that says nothing of devices runs on this one."""
    return devices == (_usual(),)


def _here() -> Devices:
    return tuple(jax.local_devices())


def _default() -> Any:
    return getattr(jax.config, "jax_default_device", None)  # set for all, or for a block; it has no type


def _usual() -> jax.Device:
    found = _default()
    if isinstance(found, str):
        return jax.local_devices(backend=found)[0]
    return _here()[0] if found is None else found


class Group(NamedTuple):
    """The processes of `jax.distributed` that run one sweep together; one alone waits for nobody."""

    process: int
    processes: int

    def share(self, parts: Sequence[Any]) -> list[Any]:
        return list(parts[self.process :: self.processes])

    def every(self, number: int) -> tuple[int, ...]:
        """All processes' numbers, below 2**31; none goes on before each has given its own."""
        if self.processes == 1:
            return (number,)
        return tuple(multihost_utils.process_allgather(np.int32(number)).ravel().tolist())

    def wait(self, place: str) -> None:
        """Until every process is here."""
        if self.processes > 1:
            multihost_utils.sync_global_devices(f"qrjax.sweep {place}")


def group() -> Group:
    return Group(jax.process_index(), jax.process_count())
