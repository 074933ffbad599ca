"""Keras's files of weights: `.weights.h5`, `.keras`, and the older `.h5`, read through h5py.

A newer file holds a folder for every layer, named by its class and number, and in it the variables "0", "1", ... in the
order in which Keras makes them. What the layers are called stands beside them, what the variables are called nowhere:
the record says that, by their shapes and, where these are equal, by Keras's order.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._cli._checkpoints import Checkpoint, is_inexact, is_number, reading
from qrjax._cli._failure import Failure
from qrjax._cli._matching import STATISTICS

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5", ".keras")
INSIDE = "model.weights.h5"
VARIABLES, OPTIMIZER, WEIGHTS, NAMES = "vars", "optimizer", "model_weights", "weight_names"
# The order in which Keras's layers make their variables; those that nothing trains come last.
ORDER = (
    "kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings", "position_embeddings", "gamma",
    "scale", "beta", "bias", *STATISTICS,
)  # fmt: skip

Shape = tuple[int, ...]


def keras_at(path: Path) -> Checkpoint:
    """The arrays of a file, by the names that it has for them."""
    _check_installed()
    with reading(path), _opened(path) as file:
        is_old = WEIGHTS in file or "layer_names" in file.attrs
        every = dict(_datasets(file))
        layers = {} if is_old else _layers(file)
        own = _old_names(file) if is_old else {}
        shapes = {name: tuple(found.shape) for name, found in every.items()}
        inexact = {name: is_inexact(found.dtype) for name, found in every.items() if is_number(found.dtype)}

    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        with reading(path), _opened(path) as file:
            return {name: np.asarray(file[name]) for name in names}

    def named(wanted: Mapping[str, Shape]) -> tuple[dict[str, str], set[str]]:
        if is_old:
            return own, {name for name in every if name not in own}
        return _named(layers, shapes, wanted)

    return Checkpoint("Keras", inexact, read, [n for n in every if n not in inexact], named=named)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    import h5py

    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(INSIDE)), "r") as file:
        yield file


def _datasets(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """All arrays, by name."""
    import h5py

    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((name, item))

    file.visititems(visit)
    yield from found


def _layers(file: h5py.File) -> dict[str, str]:
    """What each folder of variables belongs to: the names of the layers around it, "network/first"."""
    places: list[str] = []
    file.visit(lambda name: places.append(name) if name.rpartition("/")[2] == VARIABLES else None)
    names = {place.rpartition("/")[0]: str(file[place].attrs.get("name", "")) for place in places}
    result = {}
    for place in places:
        steps = place.rpartition("/")[0].split("/")
        around = ["/".join(steps[:i]) for i in range(len(steps) + 1)]
        result[place] = "/".join(names[a] for a in dict.fromkeys(around) if names.get(a))
    return result


def _named(
    layers: Mapping[str, str], shapes: Mapping[str, Shape], wanted: Mapping[str, Shape]
) -> tuple[dict[str, str], set[str]]:
    """The arrays' paths, and which are no weights: an optimizer's, and what a layer has beside the record's."""
    paths: dict[str, str] = {}
    beside: set[str] = set()
    above = {path.rpartition("/")[0] for path in wanted}
    claims = {layer: [path for path in above if _ends_alike(path, layer)] for layer in layers.values()}
    counts = Counter(path for claimed in claims.values() for path in claimed)
    for place, layer in layers.items():
        own = [name for name in shapes if name.rpartition("/")[0] == place]
        own.sort(key=lambda name: int(name.rpartition("/")[2]))
        if OPTIMIZER in place.split("/"):
            beside |= set(own)
            continue
        # Keras leaves a model's name out of the paths of layers that were built before it.
        claimed = claims[layer]
        layer = claimed[0] if len(claimed) == 1 and counts[claimed[0]] == 1 else layer
        names = _of_layer(layer, [shapes[name] for name in own], wanted)
        paths |= {name: f"{layer}/{last}" for name, last in zip(own, names, strict=True)}
        if any(not last.isdigit() for last in names):  # what else a layer has of the record's is not trained
            beside |= {name for name, last in zip(own, names, strict=True) if last.isdigit()}
    return paths, beside


def _of_layer(layer: str, shapes: Sequence[Shape], wanted: Mapping[str, Shape]) -> list[str]:
    """The last parts of the variables' paths; the number where the record has none of that shape in this layer."""
    known: dict[str, Shape] = {}
    for path, shape in wanted.items():
        above, _, last = path.rpartition("/")
        if _ends_alike(above, layer):
            known[last] = shape
    names = sorted(known, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    result = []
    for number, shape in enumerate(shapes):
        fitting = [name for name in names if known[name] == shape]
        strange = [name for name in fitting if name not in ORDER]
        if len(strange) > 1:
            raise Failure(
                f"the file does not say which of its variables in {layer!r} are {strange[0]!r} and {strange[1]!r}, "
                "which have one shape; save an .npz of {v.path: v.numpy() for v in model.variables}"
            )
        if fitting:
            names.remove(fitting[0])
        result.append(fitting[0] if fitting else str(number))
    if len(shapes) == 4 and result[2:] == ["2", "3"] and {"gamma", "beta"} == set(result[:2]):
        result[2:] = STATISTICS
    return result


def _ends_alike(one: str, other: str) -> bool:
    """Whether one of two paths ends with all of the other."""
    first, second = (path.split("/") if path else [] for path in (one, other))
    shared = min(len(first), len(second))
    return shared > 0 and first[-shared:] == second[-shared:]


def _old_names(file: h5py.File) -> dict[str, str]:
    """Of a file of Keras 2, or a whole model in its form: the names that stand beside the arrays."""
    top = file.get(WEIGHTS, file)
    found = {}
    for layer in top.values():
        for name in layer.attrs.get(NAMES, ()):
            text = name.decode() if isinstance(name, bytes) else str(name)
            found[layer[text].name.strip("/")] = re.sub(r":\d+$", "", text)
    return found


def _check_installed() -> None:
    try:
        import h5py  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "h5py":
            raise
        raise Failure(
            "Keras's files need the package h5py, which is not installed: pip install 'qrjax[checkpoints]'"
        ) from error
