"""Initializers of a person's own, by their name: a module, a colon, and what builds one there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from qrjax._experiments._names import MARK

EXAMPLE = "peers.sinusoidal:builder"
CONTRACT = (
    "a factory takes no arguments and returns an initializer, (key, shape, dtype) -> array of that shape, or something "
    "with a method `params`, (network, examples, key) -> params"
)
# A kernel of a dense layer, on which an initializer is tried without drawing anything.
TRIED = (6, 4)


def check_form(name: str) -> None:
    """Whether it may be such a name; nothing is imported.

    Raises:
      ValueError: if it is not.
    """
    module, _, attribute = name.partition(MARK)
    if not all(part.isidentifier() for path in (module, attribute) for part in path.split(".")):
        raise ValueError(
            f"`initializer` of your own must be a dotted module, a colon and a name in it, got {name!r}; for example "
            f"{EXAMPLE!r}"
        )


def is_whole(init: Any) -> bool:
    """Whether it makes all of a network's params at once."""
    return callable(getattr(init, "params", None))


def built(name: str) -> Any:
    """What the factory returns.

    Raises:
      ValueError: if the module cannot be imported or has no such name, or the factory does not do what it must.
    """
    import jax  # a name is checked without it

    place, _, attribute = name.partition(MARK)
    factory = _factory(name, place, attribute)
    try:
        init = factory()
    except Exception as error:
        raise _wrong(name, f"{attribute}() raised {_said(error)}") from error
    if is_whole(init):
        return init
    if not callable(init):
        raise _wrong(name, f"{attribute}() returned {init!r:.80}")
    try:
        key = jax.random.key(0)
        drawn = jax.eval_shape(lambda: init(key, TRIED, "float32"))
    except Exception as error:
        raise _wrong(name, f"what {attribute}() returned raised {_said(error)} for the shape {TRIED}") from error
    shape, dtype = getattr(drawn, "shape", None), getattr(drawn, "dtype", None)
    if shape != TRIED or dtype != "float32":
        got = f"{dtype} of shape {shape}" if shape is not None else f"{drawn!r:.80}"
        raise _wrong(name, f"what {attribute}() returned gave {got} for float32 of shape {TRIED}")
    return init


def _factory(name: str, place: str, attribute: str) -> Callable[..., Any]:
    try:
        found: Any = importlib.import_module(place)
    except Exception as error:
        raise ValueError(
            f"`initializer` {name!r}: the module {place!r} cannot be imported: {_said(error)}; it is looked for as by "
            "an import from here"
        ) from error
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise ValueError(
                f"`initializer` {name!r}: the module {place!r} has no {attribute!r}; name a function of it: {CONTRACT}"
            )
        found = getattr(found, step)
    if not callable(found):
        raise _wrong(name, f"{attribute!r} of the module {place!r} is {found!r:.80}")
    return found


def _wrong(name: str, what: str) -> ValueError:
    return ValueError(f"`initializer` {name!r}: {what}; {CONTRACT}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.200}"
