"""An equation of a jaxpr, and what its rule may ask of the walk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._operands import Value
from qrjax._rules._passages import Passage
from qrjax._signals._signal import Signal


class Context(Protocol):
    """What a rule may ask of the walk."""

    def contract(
        self, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float,
        make: Callable[[Signal], Signal],
    ) -> Signal:  # fmt: skip
        """The output of a weight that is summed over `axes`; `make` gives it from the weight's signal."""

    def sizes(self, weight: Signal, x: Signal) -> bool:
        """Whether this is a weight, or made of some, that meets the signal x: then `contract` is to be asked."""

    def embed(self, equation: Equation, weight: Signal, make: Callable[[Signal], Signal]) -> Signal:
        """Rows of a table of weights; `make` gives them from the table's signal."""

    @property
    def twin(self) -> Any:
        """Which kind of pairs the tables are about: None for all, else a key of `Signal.twins`."""

    @property
    def guesses(self) -> bool:
        """Whether this walk finds a first guess of the weights' scales, after which all is walked again."""

    @property
    def axes(self) -> Mapping[Any, int]:
        """The sizes of named axes that the model binds."""

    def walk(
        self, jaxpr: Any, values: Sequence[Value], step: tuple[str, int, int] | None = None, site: Sequence[int] = ()
    ) -> list[Value]:
        """The outputs of an inner jaxpr; `site` tells apart the several that one equation may have."""

    def layer(self, value: Value, sliced: Callable[[Value], Value]) -> Value | None:
        """A layer of an elementwise function of stacked parameters; `sliced` gives one of anything else."""

    def note(self, text: str) -> None:
        """Says something about the current equation in the report."""

    def mark(self, name: str, value: Value) -> Value:
        """A value that an adapter gave a name: a module's input or output."""

    def passed(self, passage: Passage) -> None:
        """Takes down what control flow hands on, where the walk is to be followed backwards."""

    def repeated(self, count: int, carry: Sequence[Value], step: Callable[[], list[Value]]) -> list[Value]:
        """The outputs of a step of a loop, the next carry first, that stands for `count` of them."""


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
