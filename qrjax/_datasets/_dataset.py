"""What every dataset becomes, and what its loader is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
# True: those of the publisher; a mapping: file name -> "md5:..." or "sha256:..."; False: none.
Checksums = Mapping[str, str] | bool


class Dataset(NamedTuple):
    """Training and test examples in a fixed order."""

    name: str
    kind: str  # "images" or "tokens"
    train_inputs: Array  # images: float32 (n, height, width, channels), standardized; tokens: int32 (n, length)
    train_labels: Array  # int32 (n,)
    test_inputs: Array
    test_labels: Array
    classes: int
    vocabulary: int | None  # tokens lie in [0, vocabulary); None for images


class Options(NamedTuple):
    """The arguments of `load`, checked."""

    folder: Path | None
    checksums: Checksums
    vocabulary: int
    length: int
    limit: int | None
    download: bool = False


Loader = Callable[[Options], Dataset]
