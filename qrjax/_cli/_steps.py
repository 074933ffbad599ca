"""Folders of several checkpoints, one for each step of a training."""

from __future__ import annotations

import re
from pathlib import Path

import click

from qrjax._cli._msgpack import is_msgpack

SUFFIXES = (".npz", ".safetensors", ".msgpack", ".h5", ".keras")
LONG_SUFFIXES = (".json", ".weights")
# What every folder of Orbax's arrays has.
TREE = "_METADATA"
# A step's name, "20" or "checkpoint_00000020"; one that was not completed has a dot in it.
STEP = re.compile(r"(?!.*-of-\d+$)(?:[^.]*[_-])?(\d+)")


def at_step(path: Path, step: int | None) -> tuple[Path, int | None]:
    """The checkpoint of the step in a folder, or of the last; the folder itself if it has none."""
    path = path.absolute()
    steps = {number: child for child in path.iterdir() if (number := step_of(child)) is not None and _is_one(child)}
    if (path / TREE).exists() or not steps:
        if step is not None:
            raise click.BadParameter(
                f"belongs to folders of several steps, and {str(path)!r} is none", param_hint="--step"
            )
        return path, None
    number = max(steps) if step is None else step
    if number not in steps:
        known = ", ".join(map(str, sorted(steps)))
        raise click.BadParameter(f"must be one of {known}, got {step}", param_hint="--step")
    return steps[number], number


def step_of(path: Path) -> int | None:
    """The number that a checkpoint's name ends with, if it does."""
    name = path.name
    for suffix in (*SUFFIXES, *LONG_SUFFIXES):
        name = name.removesuffix(suffix)
    found = STEP.fullmatch(name)
    return int(found[1]) if found else None


def _is_one(path: Path) -> bool:
    """Whether a path with a number may be a checkpoint, rather than a log beside some."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES or (not path.suffix and is_msgpack(path))
