"""Shards from a record alone: nothing of the model, of Flax or of the other processes.

Run by `devices.run`, on one device.
"""

import hashlib
import math
import sys
from typing import Any

import numpy as np

import qrjax
from qrjax._records import _origins


def digest(array: Any) -> str:
    """Of dtype, shape and bits."""
    array = np.asarray(array)
    return f"{array.dtype} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}"


def index_of(bounds: list[list[int]]) -> tuple[slice, ...]:
    return tuple(slice(*pair) for pair in bounds)


def recovered(text: str, places: list[tuple[str, list[list[int]]]]) -> dict[str, Any]:
    """The digests of shards at [path, bounds], how many weights were drawn for them, and whether Flax was loaded."""
    drawn = []

    def counting(name: str) -> Any:
        draw = getattr(_origins, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            value = draw(*args, **kwargs)
            drawn.append(value.size)
            return value

        return counted

    for name in ("box", "points"):
        setattr(_origins, name, counting(name))
    record = qrjax.Record.from_json(text)
    digests = [digest(record.weight(path, index_of(bounds))) for path, bounds in places]
    asked = [math.prod(b - a for a, b in bounds) for path, bounds in places if _is_drawn(record, path)]
    return {"digests": digests, "drawn": sum(drawn), "asked": sum(asked), "flax": "flax" in sys.modules}


def _is_drawn(record: qrjax.Record, path: str) -> bool:
    return record.entry(path).origin.kind == "drawn"
