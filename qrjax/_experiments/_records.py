"""A result: one network, trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings

Record = dict[str, Any]


def blank(settings: Settings, seed: int, scheme: Scheme) -> Record:
    """A record of this experiment before it is run: plain JSON values."""
    used = dataclasses.asdict(scheme) if settings.source == "sequence" else None
    plain = dataclasses.asdict(settings) | {"filters": list(settings.filters)}
    return {"settings": plain, "seed": seed, "scheme": used}


def identity(record: Mapping[str, Any]) -> str:
    """What makes a result this one and no other, as text."""
    return repr((sorted(record["settings"].items()), record["seed"], sorted((record["scheme"] or {}).items())))


def experiment(record: Mapping[str, Any]) -> str:
    """The same without the seed."""
    return identity({**record, "seed": None})
