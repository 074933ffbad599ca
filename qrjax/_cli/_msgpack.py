"""What `flax.serialization` writes: trees of arrays in msgpack, as Flax's older checkpoints are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrjax._cli._checkpoint import Checkpoint, is_inexact, is_number, reading
from qrjax._cli._failure import Failure

# The first byte of a map: of up to 15 names, or of more.
MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)


def is_msgpack(path: Path) -> bool:
    """Whether a file without a suffix begins as a tree does."""
    with path.open("rb") as file:
        first = file.read(1)
    return bool(first) and first[0] in MAPS


def msgpack_at(path: Path) -> Checkpoint:
    """The arrays of a tree, by their paths."""
    from flax.serialization import msgpack_restore

    with reading(path):
        tree = msgpack_restore(path.read_bytes())
    if not isinstance(tree, dict):
        raise Failure(f"{str(path)!r} must hold a tree of names, got a {type(tree).__name__}; save the whole state")
    every = dict(_flat(tree, ""))
    arrays = {name: np.asarray(leaf) for name, leaf in every.items() if hasattr(leaf, "dtype")}
    inexact = {name: is_inexact(array.dtype) for name, array in arrays.items() if is_number(array.dtype)}

    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: arrays[name] for name in names}

    return Checkpoint("msgpack", inexact, read, [name for name in every if name not in inexact])


def _flat(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves with "/" between the steps; None is where an optimizer keeps nothing."""
    if isinstance(tree, dict):
        for step, below in tree.items():
            yield from _flat(below, f"{name}/{step}" if name else str(step))
    elif tree is not None:
        yield name, tree
