"""How a message names the value that it complains about: by type and shape, never by what an array holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Characters of a text, and items of a collection, that a message repeats.
LETTERS, ITEMS = 60, 6


def received(value: Any) -> str:
    """The value in a few words."""
    if value is None or (isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic)):
        return f"{value!r} of type {type(value).__name__}"
    if isinstance(value, (str, bytes)):
        return f"{value[:LETTERS]!r}{'...' if len(value) > LETTERS else ''} of type {type(value).__name__}"
    if isinstance(value, jax.ShapeDtypeStruct):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {_listed([repr(key) for key in value])}"
    if isinstance(value, (tuple, list, set, frozenset)):
        return _collection(value)
    name = getattr(value, "__name__", None)
    if callable(value) and isinstance(name, str):
        return f"the function {name}"
    return f"an object of type {type(value).__name__}"


def _array(value: Any) -> str:
    shape = tuple(value.shape)
    if is_key(value):
        return "a JAX key" if shape == () else f"JAX keys of shape {shape}"
    traced = isinstance(value, jax.core.Tracer)
    if shape == () and not traced and isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return f"{value.item()!r} of dtype {value.dtype}"
    kind = (
        "a traced array"
        if traced
        else "an array"
        if isinstance(value, (np.ndarray, jax.Array))
        else "a " + _kind(value)
    )
    return f"{kind} of dtype {value.dtype} and shape {shape}"


def _kind(value: Any) -> str:
    return f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"


def _collection(value: Any) -> str:
    name, items = type(value).__name__, list(value)
    plain = all(isinstance(i, (bool, int, float, str, type(None))) for i in items)
    if plain and len(repr(value)) <= LETTERS:
        return repr(value)
    return f"a {name} of {len(items)} items" + (f", the first {received(items[0])}" if items else "")


def _listed(names: list[str]) -> str:
    return (", ".join(names[:ITEMS]) + (", ..." if len(names) > ITEMS else "")) or "none"


def is_key(value: Any) -> bool:
    """Whether a value is a typed JAX key or an array of them."""
    typed = isinstance(value, (jax.Array, jax.ShapeDtypeStruct))  # others may claim to have any attribute
    return typed and bool(jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key))
