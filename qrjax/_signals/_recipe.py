"""How a value came about that the model's input has no part in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qrjax._signals._weight import Layer

Key = tuple[str, Layer]


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """A function of parameters, constants and random draws.

    Attributes:
      leaves: the laws of the parameters, or of layers of them, that went in.
      operands, make, number: it is the output `number` of make(*operands); without operands it is itself.
      note: what made it, for the walk: the equation and where in the program it stands.
      step: the equation alone, which is made of one layer of a stack as it was of all.
      data: whether the model's input went in after all, as a factor of weights that each example has for itself.
      noise: whether random draws went in.
      state: whether it is a variable that is no parameter, such as running statistics.
      summed: whether a sum over a parameter's axis, or a look-up in it, is among what made it.
      matrix: whether it came of whole matrices, such as an inverse, where it matters which element is where.
      acts: whether it is surely a signal of its own, such as positions that went through a layer, and no weight.
    """

    leaves: Mapping[Key, Any] = dataclasses.field(default_factory=dict)
    operands: Sequence[Any] = ()
    make: Callable[..., Sequence[Any]] | None = None
    number: int = 0
    note: Any = None
    step: Any = None
    data: bool = False
    noise: bool = False
    state: bool = False
    summed: bool = False
    matrix: bool = False
    acts: bool = False

    @property
    def by_elements(self) -> bool:
        """Whether what it makes is computed on elements that are drawn, as no law tells what they come to."""
        return self.matrix or (self.summed and self.state)


FIXED = Recipe()
NOISE = Recipe(noise=True)
STATE = Recipe(state=True)
# Of a value that will only be known when the program runs.
UNKNOWN = Recipe(noise=True)
