"""What equations are given: signals, known arrays, keys; and how each came about."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _complexes
from qrjax._signals._masks import known
from qrjax._signals._recipe import FIXED, NOISE, STATE, Recipe
from qrjax._signals._signal import Signal

# Arrays up to this size are computed, not described: masks, positions, rotations.
KNOWN_SIZE = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """An array whose elements are known.

    Attributes:
      array: the elements.
      data: whether the model's input went into it.
      random: whether it was drawn, as a sample of what has no rule.
      state: whether it is a variable that is no parameter, or made of one.
    """

    array: NDArray[Any]
    data: bool = False
    random: bool = False
    state: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @functools.cached_property
    def signal(self) -> Signal:
        array = np.ascontiguousarray(self.array)
        return _described(array.tobytes(), array.dtype, self.shape, self.data)


@functools.lru_cache(maxsize=64)
def _described(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], is_input: bool) -> Signal:
    """The law of an array: masks and tables of positions come back in every layer."""
    array = np.frombuffer(data, dtype).reshape(shape)
    made = _complexes.known(array) if array.dtype.kind == "c" else known(array)
    return dataclasses.replace(made, recipe=None if is_input else FIXED)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Random keys and what is made of them before it becomes numbers."""

    shape: tuple[int, ...]


Value: TypeAlias = Signal | Known | Opaque


def recipe_of(value: Value) -> Recipe | None:
    """How a value came about that the model's input has no part in, None for one that it has."""
    if isinstance(value, Known):
        return None if value.data else NOISE if value.random else STATE if value.state else FIXED
    return NOISE if isinstance(value, Opaque) else value.recipe


def derived(operands: Sequence[Value], make: Callable[..., Sequence[Any]], number: int = 0) -> Recipe | None:
    """The recipe of make(*operands)[number]; None if an operand has none."""
    recipes = [recipe_of(operand) for operand in operands]
    if any(recipe is None for recipe in recipes):
        return None
    known = [recipe for recipe in recipes if recipe is not None]
    leaves = {key: law for recipe in known for key, law in recipe.leaves.items()}
    told = {
        name: any(getattr(r, name) for r in known) for name in ("data", "noise", "state", "summed", "matrix", "acts")
    }
    if not leaves:
        if told["noise"]:
            return Recipe(noise=True, summed=True) if told["summed"] else NOISE
        return STATE if told["state"] else FIXED
    return Recipe(leaves, operands, make, number, **told)


def is_data(value: Value) -> bool:
    """Whether the model's input has a part in it."""
    recipe = recipe_of(value)
    return recipe is None or recipe.data


def tagged(value: Signal) -> Signal:
    """A parameter, or a layer of one, of which all that is made of it knows."""
    assert value.weight is not None
    return dataclasses.replace(value, recipe=Recipe({value.weight.key: value}))


def as_data(value: Value) -> Value:
    """The value as one that the model's input has a part in."""
    if isinstance(value, Known):
        return value if value.data else Known(value.array, data=True)
    if isinstance(value, Opaque) or value.recipe is None:
        return value
    return dataclasses.replace(value, recipe=None, weight=None)


def described(value: Value) -> Signal:
    """The signal of a value that is not a key."""
    if isinstance(value, Known):
        return value.signal
    if isinstance(value, Opaque):
        return Signal.constant(0.0, value.shape, np.uint32)
    return value
