"""Checkpoints as arrays by name, whatever their format; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from qrjax._cli._failure import Failure
from qrjax._files._replacing import replacing

FORMATS = "the folder of an Orbax checkpoint, or a .safetensors or .npz file"
WRITTEN = (".npz", ".safetensors")


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
    """

    kind: str
    inexact: Mapping[str, bool]
    read: Callable[[Sequence[str]], dict[str, np.ndarray]]
    others: Sequence[str] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


def checkpoint_at(path: Path, step: int | None = None) -> Checkpoint:
    """The checkpoint at `path`; of several steps `step`, or the last.

    Raises:
      click.BadParameter: if it has none of the formats, or not that step.
      Failure: if it cannot be read.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        from qrjax._cli._orbax import orbax_at

        return orbax_at(path, step)
    if step is not None:
        raise click.BadParameter("belongs to folders of several checkpoints", param_hint="--step")
    if suffix not in (".npz", ".safetensors"):
        raise click.BadParameter(f"must be {FORMATS}, got {str(path)!r}", param_hint="CHECKPOINT")
    return _safetensors(path) if suffix == ".safetensors" else _npz(path)


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


def _safetensors(path: Path) -> Checkpoint:
    _check_safetensors()
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="numpy") as file:
        codes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}

    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        with reading(path), safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in names}

    # "F32", "BF16", "F8_E4M3" and "C64", but not "I32", "U8" or "BOOL".
    return Checkpoint(
        "safetensors", {name: code[0] in "FC" or code == "BF16" for name, code in codes.items()}, read, (), metadata
    )


def _check_safetensors() -> None:
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "safetensors":
            raise
        raise Failure(
            "files of the format .safetensors need the package safetensors, which is not installed: "
            "pip install 'qrjax[checkpoints]'"
        ) from error


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
        _check_safetensors()


def write(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes the arrays, whole or not at all, in the format that the suffix of `path` says."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        with replacing(path) as temporary:
            if path.suffix.lower() == ".npz":
                _write_npz(temporary, arrays)
            else:
                _write_safetensors(temporary, arrays, metadata)
    except OSError as error:
        reason = error.strerror or error
        raise Failure(f"cannot write {str(path)!r}: {reason}; nothing was changed, choose another --save") from error


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Not by np.savez, which has no array of the name "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    unknown = [name for name, array in arrays.items() if is_unknown(array.dtype)]
    if unknown:
        raise Failure(f"the .npz file does not say the type of {unknown[0]!r}; give --save a name that ends in .npz")
    try:
        save_file(arrays, path, dict(metadata) or None)
    except SafetensorError as error:
        raise OSError(str(error)) from error
