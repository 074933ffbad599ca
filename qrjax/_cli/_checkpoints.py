"""Checkpoints as arrays by name, whatever their format; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from qrjax._cli._checkpoint import SAFETENSORS, Checkpoint, is_inexact, is_number, reading
from qrjax._cli._failure import Failure, check_installed
from qrjax._cli._files import written
from qrjax._cli._steps import at_step

FORMATS = (
    "the folder of an Orbax checkpoint, a .safetensors file or the .safetensors.index.json of several, or a .npz, "
    ".msgpack, .weights.h5, .weights.json, .h5 or .keras file"
)


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


def _npz(path: Path) -> Checkpoint:
    with reading(path):
        if not zipfile.is_zipfile(path):
            raise Failure(f"cannot read {str(path)!r}: it is no .npz file, or cut short")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    inexact = {name: is_inexact(array.dtype) for name, array in arrays.items() if is_number(array.dtype)}
    others = [name for name in arrays if name not in inexact]
    return Checkpoint("npz", inexact, lambda names: {name: arrays[name] for name in names}, others)


def check_writable(path: Path) -> None:
    """Nothing, if there is what writing such a file needs."""
    if path.suffix.lower() == ".safetensors":
        check_installed("safetensors", SAFETENSORS)


def write(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes the arrays, whole or not at all, in the format that the suffix of `path` says."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    with written(path, "nothing was changed, choose another --save") as temporary:
        if path.suffix.lower() == ".npz":
            _write_npz(temporary, arrays)
        else:
            from qrjax._cli._safetensors import write_file

            write_file(temporary, arrays, metadata)


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Not by np.savez, which has no array of the name "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
