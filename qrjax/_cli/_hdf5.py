"""Keras's files of weights: `.weights.h5`, `.keras`, and the older `.h5`, read through h5py.

A newer file holds a folder for every layer, named by its class and number, and in it the variables "0", "1", ... in the
order in which Keras makes them. What the layers are called stands beside them, what the variables are called nowhere:
the record says that, by their shapes and, where these are equal, by Keras's order.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._cli._checkpoint import Checkpoint, is_inexact, is_number, reading
from qrjax._cli._failure import Failure, check_installed
from qrjax._cli._matching import STATISTICS

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5", ".keras", ".weights.json")
INDEX = ".weights.json"
INSIDE = "model.weights.h5"
VARIABLES, OPTIMIZER, WEIGHTS, NAMES = "vars", "optimizer", "model_weights", "weight_names"
# The order in which Keras's layers make their variables; those that nothing trains come last.
ORDER = (
    "kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings", "position_embeddings", "gamma",
    "scale", "beta", "bias", *STATISTICS,
)  # fmt: skip

Shape = tuple[int, ...]


def keras_at(path: Path) -> Checkpoint:
    """The arrays of a file, or of those that an index names, by the names that they have there."""
    check_installed("h5py", "Keras's files")
    files = _parts(path) if path.name.endswith(INDEX) else [path]
    shapes: dict[str, Shape] = {}
    inexact: dict[str, bool] = {}
    owner: dict[str, Path] = {}
    places: dict[str, str] = {}
    own: dict[str, str] | None = None
    for part in files:
        with reading(part), _opened(part) as file:
            found = dict(_datasets(file))
            places = _places(file) | {place: name for place, name in places.items() if name}  # the first says them
            own = _old_names(file) if WEIGHTS in file or "layer_names" in file.attrs else None
            shapes |= {name: tuple(array.shape) for name, array in found.items()}
            inexact |= {name: is_inexact(array.dtype) for name, array in found.items() if is_number(array.dtype)}
            owner |= dict.fromkeys(found, part)

    def named(wanted: Mapping[str, Shape]) -> tuple[dict[str, str], set[str]]:
        if own is not None:
            return own, {name for name in shapes if name not in own}
        return _named(_layers(places), shapes, wanted)

    def read(names: Sequence[str]) -> dict[str, np.ndarray]:
        return _read(names, owner)

    kind = "Keras" if len(files) == 1 else f"Keras, {len(files)} files"
    return Checkpoint(kind, inexact, read, [name for name in shapes if name not in inexact], named=named)


def _parts(path: Path) -> list[Path]:
    """The files of an index, which lie beside it."""
    with reading(path):
        listed = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        names = dict.fromkeys(name for one in listed for name in ([one] if isinstance(one, str) else one))
    files = [path.parent / Path(name).name for name in names]
    missing = [file.name for file in files if not file.exists()]
    if missing or not files:
        raise Failure(f"{str(path)!r} names {missing[0] if missing else 'no file'!r}, which is not there beside it")
    return files


def _read(names: Sequence[str], owner: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Arrays, each file opened once."""
    found: dict[str, np.ndarray] = {}
    for part in dict.fromkeys(owner[name] for name in names):
        with reading(part), _opened(part) as file:
            found |= {name: np.asarray(file[name]) for name in names if owner[name] == part}
    return {name: found[name] for name in names}


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


def _places(file: h5py.File) -> dict[str, str]:
    """The folders of variables, and what the layer of each is called."""
    places: list[str] = []
    file.visit(lambda name: places.append(name) if name.rpartition("/")[2] == VARIABLES else None)
    return {place: str(file[place].attrs.get("name", "")) for place in places}


def _layers(places: Mapping[str, str]) -> dict[str, str]:
    """What each folder of variables belongs to: the names of the layers around it, "network/first"."""
    names = {place.rpartition("/")[0]: name for place, name in places.items()}
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
