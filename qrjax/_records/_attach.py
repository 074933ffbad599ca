"""A record and its model's code together, for values that only the code can make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import Array

from qrjax._autoinit._analyze import model_of
from qrjax._autoinit._calls import is_module, opened
from qrjax._autoinit._streams import PARAMS, key_of, streams_of
from qrjax._interpreter._model import Model
from qrjax._records._derived import Offset, Rescaled, Transposed
from qrjax._records._entries import Entry
from qrjax._records._initialization import (
    OPTIONS,
    called,
    check_initialized,
    check_inputs,
    constructed,
    framework,
    others,
)
from qrjax._records._leaves import check_leaves
from qrjax._records._origins import Built, Drawn, Factored, Origin
from qrjax._words._keys import keys_like, typed_key

# The arguments of a Record.
Contents = tuple[tuple[Entry, ...], Mapping[str, Any], Callable[[Sequence[Any]], Any]]


def attached(
    recorded: Sequence[Entry], made: Mapping[str, Any], module: Any, sample_input: Any, args: tuple[Any, ...],
    kwargs: dict[str, Any], key: Array | None,
) -> Contents:  # fmt: skip
    """What a record holds, with the code of its model, for builders that are not ours."""
    rest = {name: value for name, value in kwargs.items() if name not in OPTIONS}
    rest["rngs"] = streams_of(rest.get("rngs"))
    given = key is not None or PARAMS in rest["rngs"].keys
    key = key_of(None, key, rest["rngs"]) if given else typed_key(_key_of(made))
    if sample_input is None and not args and not is_module(module):
        entries, rebuild = constructed(module, key)
    else:
        module = opened(module)
        with keys_like(key):
            model = model_of(module, *called(module, sample_input, args, rest), **framework(rest))
        entries, rebuild = _of_model(recorded, model, key, compiled=made.get("by") == "autoinit"), model.rebuild
    check_leaves([e.leaf for e in recorded], [e.leaf for e in entries])
    known = {entry.leaf.path: entry for entry in recorded}
    chosen = [Entry(e.leaf, _with_code(known[e.leaf.path].origin, e.origin)) for e in entries]
    return tuple(chosen), made, rebuild


def _of_model(recorded: Sequence[Entry], model: Model, key: Array, compiled: bool) -> list[Entry]:
    """The model's variables: as recorded what `autoinit` drew, all others as its own initialization makes them."""
    if not compiled:
        check_initialized(model)
    check_leaves([e.leaf for e in recorded], model.leaves)
    ours = {e.leaf.path: e.origin for e in recorded if _is_planned(e)}
    own = iter(others(model, [leaf.path not in ours for leaf in model.leaves], key, compiled))
    entries = [Entry(leaf, ours[leaf.path] if leaf.path in ours else next(own)) for leaf in model.leaves]
    if not compiled:
        check_inputs(model, entries)
    return entries


def _with_code(recorded: Origin, found: Origin) -> Origin:
    """What was recorded, with the model's own values where it needs the model."""
    if isinstance(recorded, Rescaled):
        return dataclasses.replace(recorded, whole=_with_code(recorded.whole, found))
    return found if isinstance(recorded, Built) else recorded


def _is_planned(entry: Entry) -> bool:
    """Whether `autoinit` drew this weight, rather than the model's own initialization."""
    origin = entry.origin.whole if isinstance(entry.origin, Transposed) else entry.origin
    if isinstance(origin, Rescaled):
        return isinstance(origin.whole, Offset)
    return isinstance(origin, (Drawn, Factored)) and bool(origin.factors)


def _key_of(made: Mapping[str, Any]) -> Array:
    words = jax.numpy.asarray(made["key"]["words"], jax.numpy.uint32)
    impl = made["key"]["impl"]
    return words if impl is None else jax.random.wrap_key_data(words, impl=impl)
