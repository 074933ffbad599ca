"""A result: one network, trained."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qrjax._datasets._dataset import Dataset
from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings

Record = dict[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]
# What every record has.
NAMES = ("settings", "seed", "scheme", "data", "dim", "loss", "accuracy")


# Settings that older files do not name, with what they meant.
ADDED = {"depth": 1, "norms": True, "validation": 0.0}


class Job(NamedTuple):
    """A network to train: its record without results, and the rate."""

    blank: Record
    rate: float


def filled(record: Mapping[str, Any]) -> Record:
    """A record of any version with all settings that there are now."""
    return {**record, "settings": {**ADDED, **record["settings"]}}


def blank(settings: Settings, seed: int, scheme: Scheme, data: str) -> Record:
    """A record of this experiment before it is run: plain JSON values. `data` is the examples' digest."""
    used = dataclasses.asdict(scheme) if settings.source == "sequence" else None
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(settings).items()}
    return {"settings": plain, "seed": seed, "scheme": used, "data": data}


def identity(record: Mapping[str, Any]) -> str:
    """What makes a result this one and no other, as text."""
    scheme = sorted((record["scheme"] or {}).items())
    return repr((sorted((ADDED | record["settings"]).items()), record["seed"], scheme, record["data"]))


def experiment(record: Mapping[str, Any]) -> str:
    """The same without the seed."""
    return identity({**record, "seed": None})


def stopped(record: Mapping[str, Any]) -> Floats:
    """The test accuracy that each epoch stands for: of the best epoch so far on the validation examples, if any."""
    accuracies = np.asarray(record["accuracy"], np.float64)
    if not record.get("validation"):
        return accuracies
    validation = np.asarray(record["validation"])
    best = [int(np.argmax(validation[: epoch + 1])) for epoch in range(len(validation))]
    return accuracies[best]


def digest(data: Dataset) -> str:
    """Of the examples, so that results of other files are not taken for theirs."""
    found = hashlib.sha256()
    for array in (data.train_inputs, data.train_labels, data.test_inputs, data.test_labels):
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
