"""Checkpoints as arrays by name, whatever their format; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from qrjax._cli._failure import Failure, check_installed
from qrjax._files._replacing import replacing

FORMATS = (
    "the folder of an Orbax checkpoint, a .safetensors file or the .safetensors.index.json of several, or a .npz, "
    ".msgpack, .weights.h5, .weights.json, .h5 or .keras file"
)
SUFFIXES = (".npz", ".safetensors", ".msgpack", ".h5", ".keras")
LONG_SUFFIXES = (".json", ".weights")
WRITTEN = (".npz", ".safetensors")
# In messages.
SAFETENSORS = "files of the format .safetensors"
# What every folder of Orbax's arrays has.
TREE = "_METADATA"
# A step's name, "20" or "checkpoint_00000020"; one that was not completed has a dot in it.
STEP = re.compile(r"(?!.*-of-\d+$)(?:[^.]*[_-])?(\d+)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Arrays by name, read when they are asked for.

    Attributes:
      kind: the format, and of several checkpoints in one folder which, for a reader: "Orbax, step 20".
      inexact: by name, whether an array is of real or complex numbers; names as they are in a file, and with "/"
        between the steps of a tree.
      read: the arrays of some names.
      others: names of what is no array of numbers, and so not read.
      metadata: what a .safetensors file says of itself.
      named: where the names in the file are not the variables' own: from the shapes of the record's weights by path,
        the paths of the arrays, and which of them are no weights.
    """

    kind: str
    inexact: Mapping[str, bool]
    read: Callable[[Sequence[str]], dict[str, np.ndarray]]
    others: Sequence[str] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    named: Callable[[Mapping[str, tuple[int, ...]]], tuple[dict[str, str], set[str]]] | None = None


def checkpoint_at(path: Path, step: int | None = None) -> Checkpoint:
    """The checkpoint at `path`; of several steps `step`, or the last.

    Raises:
      click.BadParameter: if it has none of the formats, or not that step.
      Failure: if it cannot be read.
    """
    if not path.is_dir() and step is not None:
        raise click.BadParameter("belongs to folders of several checkpoints", param_hint="--step")
    place, number = at_step(path, step) if path.is_dir() else (path, None)
    found = _opened(place)
    return found if number is None else dataclasses.replace(found, kind=f"{found.kind}, step {number}")


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
    from qrjax._cli._msgpack import is_msgpack

    return path.is_dir() or path.suffix.lower() in SUFFIXES or (not path.suffix and is_msgpack(path))


def _opened(path: Path) -> Checkpoint:
    from qrjax._cli import _hdf5, _msgpack, _safetensors

    name = path.name.lower()
    if path.is_dir():
        return _folder(path)
    if name.endswith(".npz"):
        return _npz(path)
    if name.endswith((_safetensors.SUFFIX, _safetensors.INDEX)):
        return _safetensors.safetensors_at(path)
    if name.endswith(_hdf5.SUFFIXES):
        return _hdf5.keras_at(path)
    if name.endswith(".msgpack") or (not path.suffix and _msgpack.is_msgpack(path)):
        return _msgpack.msgpack_at(path)
    raise click.BadParameter(f"must be {FORMATS}, got {str(path)!r}", param_hint="CHECKPOINT")


def _folder(path: Path) -> Checkpoint:
    from qrjax._cli import _orbax, _safetensors

    # Of the two, as Orbax says plainly what is missing in a folder that is neither's.
    if not _orbax.is_orbax(path) and (file := _safetensors.in_folder(path)) is not None:
        return _safetensors.safetensors_at(file)
    return _orbax.orbax_at(path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong while a checkpoint is read, as a failure that names it."""
    try:
        yield
    except (Failure, click.ClickException, MemoryError):
        raise
    except Exception as error:  # readers have many kinds, of their own and of what they are built on
        reason = " ".join(str(error).split())
        raise Failure(
            f"cannot read {str(path)!r}, which may be damaged: {reason[:300] or type(error).__name__}"
        ) from error


def _npz(path: Path) -> Checkpoint:
    with reading(path):
        if not zipfile.is_zipfile(path):
            raise Failure(f"cannot read {str(path)!r}: it is no .npz file, or cut short")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    inexact = {name: is_inexact(array.dtype) for name, array in arrays.items() if is_number(array.dtype)}
    others = [name for name in arrays if name not in inexact]
    return Checkpoint("npz", inexact, lambda names: {name: arrays[name] for name in names}, others)


def is_number(dtype: Any) -> bool:
    """Whether arrays of a dtype are numbers, or may be: .npz files do not say it of types that are not NumPy's."""
    return np.dtype(dtype).kind in "biufcV" and np.dtype(dtype).names is None


def is_unknown(dtype: Any) -> bool:
    """Whether a dtype is but a size, as .npz files have it for types that are not NumPy's."""
    return np.dtype(dtype).type is np.void


def is_inexact(dtype: Any) -> bool:
    """Whether numbers of a dtype are real or complex."""
    return np.dtype(dtype).kind not in "biu"


def check_writable(path: Path) -> None:
    """Nothing, if there is what writing such a file needs."""
    if path.suffix.lower() == ".safetensors":
        check_installed("safetensors", SAFETENSORS)


def write(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes the arrays, whole or not at all, in the format that the suffix of `path` says."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        with replacing(path) as temporary:
            if path.suffix.lower() == ".npz":
                _write_npz(temporary, arrays)
            else:
                from qrjax._cli._safetensors import write_file

                write_file(temporary, arrays, metadata)
    except OSError as error:
        reason = error.strerror or error
        raise Failure(f"cannot write {str(path)!r}: {reason}; nothing was changed, choose another --save") from error


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Not by np.savez, which has no array of the name "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
