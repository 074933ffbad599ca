"""What a measurement was made on, without which its figures mean nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import qrjax

PACKAGES = ("jax", "jaxlib", "numpy")


def machine() -> dict[str, str]:
    """The processor, what else it is doing, the device that JAX computes on, versions and the date."""
    import jax

    device = jax.devices()[0]
    facts = {"processor": _processor(), "cores": str(_cores()), "system": platform.system()}
    facts |= {"load average": f"{os.getloadavg()[0]:.1f}"} if hasattr(os, "getloadavg") else {}
    facts |= {"backend": jax.default_backend(), "device": device.device_kind, "python": platform.python_version()}
    facts |= {package: importlib.metadata.version(package) for package in PACKAGES}
    return facts | {"qrjax": qrjax.__version__, "date": datetime.date.today().isoformat()}


def _cores() -> int:
    """Those this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # a system without it
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
