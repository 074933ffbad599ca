"""A result: one network, trained."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from qrjax._datasets._dataset import Dataset
from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings

Record = dict[str, Any]
# What every record has.
NAMES = ("settings", "seed", "scheme", "data", "dim", "loss", "accuracy")


def blank(settings: Settings, seed: int, scheme: Scheme, data: str) -> Record:
    """A record of this experiment before it is run: plain JSON values. `data` is the examples' digest."""
    used = dataclasses.asdict(scheme) if settings.source == "sequence" else None
    plain = dataclasses.asdict(settings) | {"filters": list(settings.filters)}
    return {"settings": plain, "seed": seed, "scheme": used, "data": data}


def identity(record: Mapping[str, Any]) -> str:
    """What makes a result this one and no other, as text."""
    scheme = sorted((record["scheme"] or {}).items())
    return repr((sorted(record["settings"].items()), record["seed"], scheme, record["data"]))


def experiment(record: Mapping[str, Any]) -> str:
    """The same without the seed."""
    return identity({**record, "seed": None})


def digest(data: Dataset) -> str:
    """Of the examples, so that results of other files are not taken for theirs."""
    found = hashlib.sha256()
    for array in (data.train_inputs, data.train_labels, data.test_inputs, data.test_labels):
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
