"""While blocks are open, the functions of `random` and `numpy.random` ask which context is calling."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from qrjax._blocks._generators import NUMPY, PYTHON, Generators

# Whose generators the calling context is to use; None: what is in the singletons.
Choose = Callable[[], Generators | None]

# Functions of numpy.random that are no methods, and the method that each stands for.
_NO_METHODS = {"ranf": "random_sample", "sample": "random_sample", "seed": "seed"}


class Replacement(NamedTuple):
    """A module's function and what stands in its place while blocks are open."""

    module: ModuleType
    name: str
    original: Callable[..., Any]
    dispatcher: Callable[..., Any]


def replacements(choose: Choose) -> list[Replacement]:
    """One for every function that draws from, or sets, one of the two singletons."""
    made = [
        _replacement(random, name, function, functools.partial(_method, choose, "python", name))
        for name, function in vars(random).items()
        if getattr(function, "__self__", None) is PYTHON
    ]
    for module in (np.random, np.random.mtrand):
        for name, function in vars(module).items():
            if name in _NO_METHODS or getattr(function, "__self__", None) is NUMPY:
                find = functools.partial(_method, choose, "numpy", _NO_METHODS.get(name, name))
                made.append(_replacement(module, name, function, find))
    return made


def _method(choose: Choose, kind: str, name: str) -> Callable[..., Any] | None:
    generators = choose()
    return None if generators is None else getattr(getattr(generators, kind), name)


def _replacement(
    module: ModuleType, name: str, original: Callable[..., Any], find: Callable[[], Callable[..., Any] | None]
) -> Replacement:
    # It may outlive the blocks, in a module that was imported inside of one, and then does what the original does.
    @functools.wraps(original)
    def dispatcher(*args: Any, **kwargs: Any) -> Any:
        return (find() or original)(*args, **kwargs)

    # Pickled by name, as the original is.
    dispatcher.__module__, dispatcher.__qualname__ = module.__name__, name
    return Replacement(module, name, original, dispatcher)


def install(found: list[Replacement]) -> None:
    for module, name, original, dispatcher in found:
        # Someone else's replacement, a mock for instance, stays.
        if vars(module).get(name) is original:
            setattr(module, name, dispatcher)


def uninstall(found: list[Replacement]) -> None:
    for module, name, original, dispatcher in found:
        if vars(module).get(name) is dispatcher:
            setattr(module, name, original)
