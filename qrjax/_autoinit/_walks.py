"""The walks of one model, for any targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from qrjax._interpreter._gains import Gains, Target
from qrjax._interpreter._model import Model
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Value


@dataclasses.dataclass(frozen=True, eq=False)
class Walks:
    """What a target is chosen by: walks that are taken down.

    Attributes:
      model, values: the model, and the laws of its inputs.
      gains_at: makes the gains for a target.
      zero_sum: whether the weights of a neuron sum to zero.
    """

    model: Model
    values: Sequence[Value]
    gains_at: Callable[[Target], Gains]
    zero_sum: bool = False

    def at(self, target: Target, sized: frozenset[str] = frozenset()) -> tuple[Gains, Walk, list[Value]]:
        """The gains for a target, their walk, and what the call returns; the constants `sized` get a gain too."""
        gains = self.gains_at(target)
        gains.fixed -= sized
        return gains, *self.model.taped(gains, self.values, self.zero_sum)
