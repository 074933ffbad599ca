"""Rules by primitive, and what a rule is given."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._signals._complexes import known
from qrjax._signals._signal import Signal

# Arrays up to this size are computed, not described: masks, positions, rotations.
KNOWN_SIZE = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """An array whose elements are known, since nothing random went into it."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @functools.cached_property
    def signal(self) -> Signal:
        array = np.ascontiguousarray(self.array)
        return _described(array.tobytes(), array.dtype, self.shape)


@functools.lru_cache(maxsize=64)
def _described(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Signal:
    """The law of an array: masks and tables of positions come back in every layer."""
    array = np.frombuffer(data, dtype).reshape(shape)
    return known(array) if array.dtype.kind == "c" else Signal.known(array)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Random keys and what is made of them before it becomes numbers."""

    shape: tuple[int, ...]


Value: TypeAlias = Signal | Known | Opaque


class Context(Protocol):
    """What a rule may ask of the walk."""

    def contract(
        self, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float,
        make: Callable[[Signal], Signal],
    ) -> Signal:  # fmt: skip
        """The output of a weight that is summed over `axes`; `make` gives it from the weight's signal."""

    def embed(self, equation: Equation, weight: Signal, make: Callable[[Signal], Signal]) -> Signal:
        """Rows of a table of weights; `make` gives them from the table's signal."""

    @property
    def twin(self) -> Any:
        """Which kind of pairs the tables are about: None for all, else a key of `Signal.twins`."""

    def walk(
        self, jaxpr: Any, values: Sequence[Value], step: tuple[str, int, int] | None = None, site: Sequence[int] = ()
    ) -> list[Value]:
        """The outputs of an inner jaxpr; `site` tells apart the several that one equation may have."""

    def note(self, text: str) -> None:
        """Says something about the current equation in the report."""

    def mark(self, name: str, value: Value) -> Value:
        """A value that an adapter gave a name: a module's input or output."""


@dataclasses.dataclass(frozen=True)
class Equation:
    """One equation of a jaxpr.

    Attributes:
      name: the primitive's name.
      params: the primitive's parameters.
      outputs: objects with the shape and dtype of each output.
      evaluate: the primitive on actual arrays.
      context: the walk.
      key: identifies the equation.
    """

    name: str
    params: Mapping[str, Any]
    outputs: Sequence[Any]
    evaluate: Callable[..., list[NDArray[Any]]]
    context: Context
    key: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.outputs[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self.outputs[0].dtype
        return found


Rule: TypeAlias = Callable[..., "Value | Sequence[Value]"]

# Pairs of neighbours along the axes of an image.
NEAR = "near"

# Rules that take Signals; known inputs are described first.
RULES: dict[str, Rule] = {}
# Rules that take whatever there is, for control flow and for structure that keeps arrays known.
STRUCTURAL: dict[str, Rule] = {}
# Rules of users, which come before all others.
CUSTOM: dict[str, Rule] = {}


def signals(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *signals) for these primitives."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def structural(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *values) for these primitives."""

    def register(rule: Rule) -> Rule:
        STRUCTURAL.update(dict.fromkeys(names, rule))
        return rule

    return register


def described(value: Value) -> Signal:
    """The signal of a value that is not a key."""
    if isinstance(value, Known):
        return value.signal
    if isinstance(value, Opaque):
        return Signal.constant(0.0, value.shape, np.uint32)
    return value


@structural("name")
def name(equation: Equation, value: Value) -> Value:
    """A named value is itself; the walk may know the name."""
    return equation.context.mark(equation.params["name"], value)


@structural(COMPILED_ONCE)
def compiled_once(_equation: Equation, value: Value) -> Value:
    """A note to the compiler changes nothing."""
    return value
