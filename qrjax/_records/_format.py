"""The JSON of a record: its version, its checks, and files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._files._replacing import replacing
from qrjax._interpreter._model import Leaf
from qrjax._records._derived import named, origin_of
from qrjax._records._entries import Entry
from qrjax._records._origins import implementation

FORMAT = "qrjax.record"
# 1: the layers of a stack lay along leading axes, and autoinit's were drawn with inputs and outputs swapped, as their
# entries say and keep. 2: layers may lie along any axes, and are drawn as the same weights by themselves. 3: an entry
# says where a normal quantile is read from a table; those that do not, evaluate the polynomials of before.
VERSION = 3


def to_dict(entries: Sequence[Entry], made: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values."""
    data = {"format": FORMAT, "version": VERSION, "made": dict(made)}
    data |= {"leaves": [_leaf_to_dict(entry) for entry in entries]}
    return data | {"sha256": _digest(data)}


def from_dict(data: Any) -> tuple[tuple[Entry, ...], Mapping[str, Any]]:
    """The inverse of `to_dict`.

    Raises:
      ValueError: if this is no record, was altered, or has a later format.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ValueError(f"this is no record: its `format` is not {FORMAT!r}")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(
            f"the record's `version` is {version}, and this qrjax reads up to {VERSION}; install a later one"
        )
    leaves = data.get("leaves")
    if not isinstance(version, int) or version < 1 or not isinstance(leaves, list):
        raise ValueError("the record is incomplete: `version` and `leaves` are missing or of the wrong type")
    if data.get("sha256") != _digest(data):
        raise ValueError("the record was altered after it was written: its `sha256` does not fit its content")
    try:
        return tuple(map(_entry, leaves)), dict(data["made"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the record's `leaves` are not what version {version} has: {error!r}") from error


def write(file: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _digest(data: Mapping[str, Any]) -> str:
    """Of all but the digest itself; spaces and the order of names do not count."""
    content = {name: value for name, value in data.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _leaf_to_dict(entry: Entry) -> dict[str, Any]:
    leaf = entry.leaf
    return {
        "path": leaf.path,
        "steps": list(map(_plain, leaf.steps)),
        "shape": list(leaf.shape),
        "dtype": _dtype_name(leaf.dtype),
        "trained": leaf.trained,
        "origin": named(entry.origin),
    }


def _plain(step: Any) -> str | int:
    """A key of a dict or an index; of other kinds what they are called."""
    return int(step) if isinstance(step, (int, np.integer)) else str(step)


def _entry(data: Mapping[str, Any]) -> Entry:
    dtype = _dtype_of(data["dtype"])
    leaf = Leaf(data["path"], tuple(map(int, data["shape"])), dtype, bool(data["trained"]), tuple(data["steps"]))
    return Entry(leaf, origin_of(leaf.shape, leaf.dtype, data["origin"]))


def _dtype_name(dtype: Any) -> str:
    return str(dtype) if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).name


def _dtype_of(name: str) -> Any:
    if name.startswith("key<"):
        return jax.random.key(0, impl=implementation(name)).dtype
    return np.dtype(name)
