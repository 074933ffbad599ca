"""Which arrays of a checkpoint are the weights of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import click
import jax
import numpy as np

from qrjax._cli._checkpoint import Checkpoint, is_unknown
from qrjax._cli._failure import Failure
from qrjax._interpreter._model import Leaf
from qrjax._records._leaves import nested
from qrjax._records._record import Record

# NNX's states have a step of this name below a variable's.
VALUE = "value"
PARAMS = "params"
# And optimizers keep their moments, which have the weights' paths too, below one of these.
MOMENTS = {"opt_state", "optimizer_state", "optimizer"}
# What nothing trains, as Keras calls it, and so not in the record of what is trained.
STATISTICS = ("moving_mean", "moving_variance")
SHOWN = 8


class Match(NamedTuple):
    """Where a record's weights are in a checkpoint.

    Attributes:
      place: what is before their paths: "params", "" for the whole checkpoint.
      names: by path, the name of the array.
      leaves: the weights, as the record has them.
      within: the names of all arrays of the checkpoint, or of its subtree.
      written: by name, what they are called where they are written again, if that is not the name.
    """

    place: str
    names: dict[str, str]
    leaves: Sequence[Leaf]
    within: Sequence[str]
    written: Mapping[str, str]

    @property
    def precision(self) -> AbstractContextManager[Any]:
        """The context in which JAX has the weights' types: some take 64 bits."""
        double = any(jax.numpy.finfo(leaf.dtype).bits > 32 for leaf in self.leaves)
        return jax.enable_x64(True) if double else nullcontext()

    def params(self, checkpoint: Checkpoint) -> Any:
        """The weights as `qrjax.changes` takes them."""
        arrays = checkpoint.read(list(self.names.values()))
        found = [_typed(arrays[self.names[leaf.path]], leaf.dtype) for leaf in self.leaves]
        return nested(self.leaves, found)


def matched(record: Record, checkpoint: Checkpoint, subtree: str | None) -> Match:
    """The record's weights in the checkpoint, below `subtree` or where they are found.

    Raises:
      Failure: if weights are missing, others are there, or there are several sets of them.
      click.BadParameter: if there is no such subtree.
    """
    leaves = [entry.leaf for entry in record.entries if _is_weight(entry.leaf)]
    renamed, beside = _named(checkpoint, leaves)
    known = _known(checkpoint, [leaf.path for leaf in leaves], renamed)
    wanted = _wanted(leaves, known)
    place = _place(known, wanted.keys(), subtree)
    below = f"{place}/" if place else ""
    names = {path: known[below + plain] for plain, path in wanted.items() if below + plain in known}
    missing = [path for path in wanted.values() if path not in names]
    if missing:
        raise Failure(
            f"{_where(place)} lacks {missing[0]!r} ({len(missing)} of the record's {len(wanted)} weights are missing); "
            f"is this another model's record? It has {_listed(name.removeprefix(below) for name in known)}"
        )
    own = {below + path for path in (*wanted, *(_plain(entry.leaf.path) for entry in record.entries))}
    others = [name for name in known if name.startswith(below) and name not in own and known[name] not in beside]
    extra = [name for name in others if checkpoint.inexact[known[name]] and not _is_beside(name.removeprefix(below))]
    if extra:
        raise Failure(
            f"{_where(place)} has {known[extra[0]]!r}, which the record lacks ({len(extra)} more than the record's "
            f"{len(wanted)} weights); is this another model's record? Weights beside others are picked by --subtree"
        )
    part = f"{_plain(subtree).strip('/')}/" if subtree else ""
    within = [name for plain, name in known.items() if plain.startswith(part)]
    return Match(place, names, leaves, within, renamed)


def _named(checkpoint: Checkpoint, leaves: Sequence[Leaf]) -> tuple[dict[str, str], set[str]]:
    """The arrays' paths where the format has other names for them, and which of them are no weights."""
    if checkpoint.named is None:
        return {}, set()
    return checkpoint.named({_plain(leaf.path).removeprefix(f"{PARAMS}/"): leaf.shape for leaf in leaves})


def _known(checkpoint: Checkpoint, paths: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """The arrays' names by their paths, with "/" between the steps."""
    boxed = not any(path.rpartition("/")[2] == VALUE for path in paths)
    known: dict[str, str] = {}
    for name in checkpoint.inexact:
        plain = _plain(renamed.get(name, name)).removesuffix(f"/{VALUE}" if boxed else "")
        if plain in known:
            raise Failure(f"the checkpoint has both {known[plain]!r} and {name!r}, which are the same path")
        known[plain] = name
    return known


def _wanted(leaves: Sequence[Leaf], known: Mapping[str, str]) -> dict[str, str]:
    """The weights' own paths by those that they have in the checkpoint."""
    wanted = {_plain(leaf.path): leaf.path for leaf in leaves}
    within = all(path.startswith(f"{PARAMS}/") for path in wanted)
    if within and not any(_places(name, wanted) for name in known):
        return {plain.removeprefix(f"{PARAMS}/"): path for plain, path in wanted.items()}
    return wanted


def _plain(name: str) -> str:
    return name.replace(".", "/")


def _place(known: Mapping[str, str], wanted: Collection[str], subtree: str | None) -> str:
    """The prefix below which the weights are: of several the shortest, if it is the only one or of the name params."""
    counts = Counter(place for name in known for place in _places(name, wanted))
    outside = Counter({place: count for place, count in counts.items() if not _is_moment(place)})
    if subtree is not None:
        return _subtree(known, counts, _plain(subtree).strip("/"))
    if not counts:
        raise Failure(
            f"none of the record's {len(wanted)} weights is in the checkpoint; the record has {_listed(wanted)}; "
            f"the checkpoint has {_listed(known)}; is this another model's record?"
        )
    most = max((outside or counts).values())
    found = [place for place, count in (outside or counts).items() if count == most]
    found.sort(key=lambda place: place.count("/"))
    if "" in found or len(found) == 1:
        return "" if "" in found else found[0]
    params = [place for place in found if place.rpartition("/")[2] == PARAMS]
    if params and (len(params) == 1 or params[0].count("/") < params[1].count("/")):
        return params[0]
    raise Failure(f"the checkpoint has several sets of these weights, at {_listed(found)}; pick one by --subtree")


def _places(name: str, wanted: Collection[str]) -> list[str]:
    steps = name.split("/")
    return ["/".join(steps[:i]) for i in range(len(steps)) if "/".join(steps[i:]) in wanted]


def _is_moment(path: str) -> bool:
    return not MOMENTS.isdisjoint(path.split("/"))


def _is_beside(path: str) -> bool:
    """Whether arrays of such a path are kept beside weights."""
    return _is_moment(path) or path.rpartition("/")[2] in STATISTICS


def _subtree(known: Mapping[str, str], counts: Counter[str], subtree: str) -> str:
    """The subtree itself, or its params where these are the weights."""
    below = f"{subtree}/" if subtree else ""
    if not any(name.startswith(below) for name in known):
        tops = dict.fromkeys(name.partition("/")[0] for name in known)
        places = [place for place in counts if place and place not in tops]
        raise click.BadParameter(
            f"must be a part of the checkpoint, got {subtree!r}; there are {_listed([*tops, *places])}",
            param_hint="--subtree",
        )
    params = f"{below}{PARAMS}"
    return params if counts[params] > counts[subtree] else subtree


def _is_weight(leaf: Leaf) -> bool:
    """As `qrjax.changes` has it."""
    return leaf.trained and bool(jax.numpy.issubdtype(leaf.dtype, np.inexact))


def _typed(array: np.ndarray, dtype: Any) -> np.ndarray:
    """An array of the record's type where the file could not say it."""
    fits = is_unknown(array.dtype) and array.dtype.itemsize == np.dtype(dtype).itemsize
    return array.view(dtype) if fits else array


def _where(place: str) -> str:
    return f"the checkpoint's {place!r}" if place else "the checkpoint"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(map(repr, every[:SHOWN])) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
