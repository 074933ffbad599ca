"""How many seeds fit side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

# Of the memory that is free, so that what the caller does besides has a place.
SHARE = 0.5
CONTAINER = Path("/sys/fs/cgroup")


def fitting(lowered: Callable[[int], Any], seeds: int, free: float) -> tuple[int, Any, Any]:
    """The largest number of seeds, evenly divided, whose program needs at most `free` bytes, and that program.

    `lowered` gives the program of so many seeds. Returns the number, the lowered program and the compiled one.
    """
    chunk = seeds
    while True:
        program = lowered(chunk)
        compiled = program.compile()
        need = _bytes(compiled)
        if chunk == 1 or need <= free:
            return chunk, program, compiled
        # What does not grow with the seeds makes this too small at most; it shrinks, so this ends.
        most = max(1, min(chunk - 1, math.floor(chunk * free / need)))
        chunk = math.ceil(seeds / math.ceil(seeds / most))


def _bytes(compiled: Any) -> int:
    found = compiled.memory_analysis()
    if found is None:  # some backends do not say
        return 0
    return int(found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes)


def available(devices: Sequence[jax.Device]) -> float:
    """Bytes that a program may use on each of the devices at once."""
    return min(_on(device, sum(other.platform == "cpu" for other in devices)) for device in devices)


def _on(device: jax.Device, sharing: int) -> float:
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    # Devices made of one machine's processors share its memory.
    return SHARE * min(_of_the_machine(), _of_the_container()) / max(1, sharing)


def _of_the_machine() -> float:
    names = getattr(os, "sysconf_names", {})
    pages = next((name for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if name in names), None)
    return math.inf if pages is None else float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))


def _of_the_container() -> float:
    try:
        limit, used = ((CONTAINER / name).read_text() for name in ("memory.max", "memory.current"))
        return float(limit) - float(used)
    except (OSError, ValueError):  # not in one, or without a limit: "max"
        return math.inf
