"""A checkpoint: arrays by name, whatever the format that they were kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from qrjax._cli._failure import Failure

# In messages.
SAFETENSORS = "files of the format .safetensors"


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


def is_number(dtype: Any) -> bool:
    """Whether arrays of a dtype are numbers, or may be: .npz files do not say it of types that are not NumPy's."""
    return np.dtype(dtype).kind in "biufcV" and np.dtype(dtype).names is None


def is_unknown(dtype: Any) -> bool:
    """Whether a dtype is but a size, as .npz files have it for types that are not NumPy's."""
    return np.dtype(dtype).type is np.void


def is_inexact(dtype: Any) -> bool:
    """Whether numbers of a dtype are real or complex."""
    return np.dtype(dtype).kind not in "biu"
