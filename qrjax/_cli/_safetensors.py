"""Safetensors: one file, or several with an index that says which array is in which."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrjax._cli._checkpoint import SAFETENSORS, Checkpoint, is_unknown, reading
from qrjax._cli._failure import Failure, check_installed

INDEX, SUFFIX = ".safetensors.index.json", ".safetensors"


def safetensors_at(path: Path) -> Checkpoint:
    """A file, or the arrays of all files that an index names."""
    check_installed("safetensors", SAFETENSORS)
    if not path.name.endswith(INDEX):
        codes, metadata = _described(path)
        return _checkpoint("safetensors", dict.fromkeys(codes, path), codes, metadata)
    places = _indexed(path)
    files = dict.fromkeys(places.values())
    known = {file: _described(file) for file in files}
    for name, file in places.items():
        if name not in known[file][0]:
            raise Failure(f"{str(path)!r} says that {file.name!r} has {name!r}, and it has not; one of them is damaged")
    codes = {name: known[file][0][name] for name, file in places.items()}
    return _checkpoint(f"safetensors, {len(files)} files", places, codes, {})


def in_folder(folder: Path) -> Path | None:
    """The index, or the only file, of a folder; None where there is neither.

    Raises:
      Failure: if there are several.
    """
    found = sorted(child for child in folder.iterdir() if child.name.endswith(INDEX))
    found = found or sorted(child for child in folder.iterdir() if child.suffix.lower() == SUFFIX)
    if len(found) > 1:
        names = ", ".join(repr(child.name) for child in found[:6])
        raise Failure(f"{str(folder)!r} has {len(found)} files of weights and no index of them: name one of {names}")
    return found[0] if found else None


def _indexed(path: Path) -> dict[str, Path]:
    """The file of every array."""
    with reading(path):
        data = json.loads(path.read_text(encoding="utf-8"))
        entries = dict(data["weight_map"])
    places = {}
    for name, file in entries.items():
        if not isinstance(file, str) or Path(file).name != file:  # an index from elsewhere reads no other folders
            raise Failure(f"{str(path)!r} must name files that lie beside it, got {file!r} for {name!r}")
        places[name] = path.parent / file
    missing = [file.name for file in dict.fromkeys(places.values()) if not file.exists()]
    if missing:
        raise Failure(
            f"{str(path)!r} names {missing[0]!r}, which is not there ({len(missing)} files are missing); "
            "put the files beside their index"
        )
    return places


def _described(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The arrays' types by name, and what the file says of itself."""
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="numpy") as file:
        codes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        return codes, file.metadata() or {}


def _checkpoint(
    kind: str, places: Mapping[str, Path], codes: Mapping[str, str], metadata: Mapping[str, str]
) -> Checkpoint:
    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        found = _arrays((name, places[name]) for name in names)
        return {name: found[name] for name in names}

    # "F32", "BF16", "F8_E4M3" and "C64", but not "I32", "U8" or "BOOL".
    inexact = {name: code[0] in "FC" or code == "BF16" for name, code in codes.items()}
    return Checkpoint(kind, inexact, read, (), metadata)


def _arrays(wanted: Iterable[tuple[str, Path]]) -> dict[str, np.ndarray]:
    """File by file, each opened once."""
    from safetensors import safe_open

    names: dict[Path, list[str]] = {}
    for name, path in wanted:
        names.setdefault(path, []).append(name)
    found: dict[str, np.ndarray] = {}
    for path, within in names.items():
        with reading(path), safe_open(path, framework="numpy") as file:
            found |= {name: file.get_tensor(name) for name in within}
    return found


def write_file(path: Path, arrays: dict[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """One file.

    Raises:
      Failure: if an array's type is not known.
      OSError: if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    unknown: list[Any] = [name for name, array in arrays.items() if is_unknown(array.dtype)]
    if unknown:
        raise Failure(f"the .npz file does not say the type of {unknown[0]!r}; give --save a name that ends in .npz")
    try:
        save_file(arrays, path, dict(metadata) or None)
    except SafetensorError as error:
        raise OSError(str(error)) from error
