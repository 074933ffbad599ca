"""Of which weights' outputs each value is made, with no other weight in between: what tells a recurrence from depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from qrjax._rules._operands import Opaque, Value
from qrjax._rules._passages import Passage
from qrjax._signals._recipe import Key

# A weight, and which of its axes it sums over, where that is known.
Use = tuple[Key, tuple[int, ...] | None]
Uses = frozenset[Use]
# In the place of a weight: the model's input.
INPUT: Use = (("", ()), None)
NONE: Uses = frozenset()


@dataclasses.dataclass(eq=False)
class Origins:
    """Where the values of a walk come from.

    A weight is recurrent where its input is made of its own earlier output and of something else, however the loop is
    written. Of its own output alone it is depth with one weight for all layers: nothing new comes in from step to step.
    And what it sums over other axes, as a table that is looked up and makes logits, is no step of a recurrence either.

    Attributes:
      reached: those of the equation that is being walked.
      through: the weights that it meets, if any.
    """

    reached: Uses = NONE
    through: Uses | None = None
    _of: WeakKeyDictionary[Value, Uses] = dataclasses.field(default_factory=WeakKeyDictionary)

    def given(self, inputs: Iterable[Value]) -> None:
        """What the model is called with."""
        self._put(inputs, frozenset([INPUT]))

    def begin(self, operands: Sequence[Value]) -> Uses:
        """Begins an equation; those of its operands, by which it is to be ended."""
        self.through, self.reached = None, self._all(operands)
        return self.reached

    def end(self, results: Sequence[Value], reached: Uses) -> None:
        """Ends it; what came out of its own programs has its origins already."""
        new = [value for value in results if not isinstance(value, Opaque) and value not in self._of]
        self._put(new, reached if self.through is None else self.through)
        self.through = None

    def meet(self, weights: Iterable[Use]) -> bool:
        """Takes down that the equation multiplies by these; whether they are recurrent."""
        self.through = frozenset(weights)
        return not self.through.isdisjoint(self.reached) and bool(self.reached - self.through)

    def passed(self, passage: Passage) -> None:
        """What control flow hands on."""
        self._put(passage.results, self._all(passage.operands))

    def _all(self, values: Sequence[Value]) -> Uses:
        return NONE.union(*(self._of.get(value, NONE) for value in values if not isinstance(value, Opaque)))

    def _put(self, values: Iterable[Any], origins: Uses) -> None:
        if origins:
            self._of.update((value, origins) for value in values if not isinstance(value, Opaque))
