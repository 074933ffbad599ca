"""Orbax checkpoints: the folder of one, or of several steps, of which each may have several items."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from qrjax._adapters._variables import path_name
from qrjax._cli._checkpoint import Checkpoint, is_inexact, is_number, reading
from qrjax._cli._failure import Failure
from qrjax._cli._steps import TREE, at_step

# What every checkpoint may have; under RECORD it may hold one of ours.
METADATA, RECORD = "_CHECKPOINT_METADATA", "qrjax"
# Seconds in which reads that are under way come to their end.
ECHO = 0.3


class Item(NamedTuple):
    """A tree of arrays: its folder, its structure, and its leaves' names and what is known of them."""

    folder: Path
    structure: Any
    leaves: dict[str, Any]


def is_orbax(folder: Path) -> bool:
    """Whether a folder has arrays of Orbax's, or in its folders."""
    return bool(_places(folder))


def orbax_at(folder: Path) -> Checkpoint:
    """The checkpoint in a folder; errors as `checkpoint_at`."""
    items = _items(folder)
    every = {name: leaf for item in items for name, leaf in item.leaves.items()}
    inexact = {name: is_inexact(leaf.dtype) for name, leaf in every.items() if _is_array(leaf)}

    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        with reading(folder), _without_echo():
            found = {name: array for item in items for name, array in _restored(item, set(names)).items()}
        return {name: found[name] for name in names}

    return Checkpoint("Orbax", inexact, read, [name for name in every if name not in inexact])


def record_in(path: Path, step: int | None) -> Any:
    """The record in a checkpoint's metadata, as plain values."""
    folder, _ = at_step(path, step)
    with reading(folder):
        file = folder / METADATA
        custom = (json.loads(file.read_text()).get("custom_metadata") or {}) if file.exists() else {}
    if RECORD not in custom:
        raise Failure(
            f"{str(folder)!r} has no record in its metadata; name the file that Record.save wrote, or save checkpoints "
            "with custom_metadata={'qrjax': record.to_dict()}"
        )
    return custom[RECORD]


def _places(folder: Path) -> list[Path]:
    """The folders of the items: itself, or some in it."""
    below = sorted(child for child in folder.iterdir() if (child / TREE).exists())
    return [folder] if (folder / TREE).exists() else below


def _items(folder: Path) -> list[Item]:
    places = _places(folder)
    if not places:
        raise Failure(f"{str(folder)!r} holds no Orbax checkpoint, or one that was never completed: it has no {TREE}")
    return [_item(place, f"{place.name}/" if len(places) > 1 else "") for place in places]


def _item(folder: Path, prefix: str) -> Item:
    import orbax.checkpoint as ocp

    with reading(folder), _without_echo():
        leaves, structure = jax.tree.flatten_with_path(ocp.PyTreeCheckpointHandler().metadata(folder).tree)
    return Item(folder, structure, {prefix + path_name(steps): leaf for steps, leaf in leaves})


def _is_array(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) is not None and is_number(leaf.dtype)


def _restored(item: Item, names: set[str]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    if not names & set(item.leaves):
        return {}
    wanted = [leaf if name in names else ocp.PLACEHOLDER for name, leaf in item.leaves.items()]
    tree = jax.tree.unflatten(item.structure, wanted)
    # As NumPy's, wherever the arrays lay when they were saved.
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    options = ocp.args.PyTreeRestore(item=tree, restore_args=how)
    found = ocp.PyTreeCheckpointHandler().restore(item.folder, args=options)
    arrays = zip(item.leaves, item.structure.flatten_up_to(found), strict=True)
    return {name: np.asarray(array) for name, array in arrays if name in names}


@contextmanager
def _without_echo() -> Iterator[None]:
    """Hides that reads under way when another one fails find no one to report to."""

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    before, sys.unraisablehook = sys.unraisablehook, hook
    try:
        yield
    except Exception:
        time.sleep(ECHO)
        raise
    finally:
        sys.unraisablehook = before
