"""The walks that multipliers come from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from qrjax._adjoint._heads import heads
from qrjax._autoinit._analyze import aim_of
from qrjax._autoinit._heads import Parted, parted, with_head
from qrjax._autoinit._targets import Aim
from qrjax._interpreter._gains import Gains, Target, target_at
from qrjax._interpreter._ledger import Ledger, Site
from qrjax._interpreter._model import Model
from qrjax._interpreter._walk import Walk
from qrjax._rates._uses import Use, uses_of
from qrjax._rules._operands import Value


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """A model and how its weights are drawn.

    Attributes:
      model, values: the model, and the laws of its inputs.
      gains_at: makes the gains for a target.
      zero_sum: whether the weights of a neuron sum to zero.
      target, head, outputs, branches: as checked.
      kept: whether the weights are the module's own, so that `branches` concerns rates alone.
    """

    model: Model
    values: Sequence[Value]
    gains_at: Callable[[Target], Gains]
    zero_sum: bool
    target: Any
    head: float | None
    outputs: float | None = None
    branches: float | None = None
    kept: bool = False

    def uses(self, back: bool) -> tuple[list[Use], Aim]:
        """The uses of all parameters, `back` for their gradients too, and what weights are drawn for.

        Raises:
          ValueError: if `outputs` is given, and no weight makes any.
        """
        drawn = None if self.kept else self.branches
        hidden = aim_of(self.target, self.model, self.values, self.gains_at, self.zero_sum, branches=drawn)
        aim = with_head(hidden, self.head, self.model, self.values, self.gains_at, self.zero_sum)
        gains, walk, outputs = self._taped(aim.target, frozenset())
        wanted = functools.partial(target_at, hidden.target)
        uses = uses_of(self.model, walk, outputs, wanted, self.outputs, deep=self.branches is not None)
        if self.outputs is not None and not any(use.makes_outputs for use in uses):
            raise ValueError(
                f"`outputs` is for the weights that make the model's outputs, got {self.outputs:g} for a model of "
                "which none does; pass outputs=None"
            )
        if back:
            assert walk.tape is not None
            last = heads(outputs, walk.tape.moves)
            found = parted(walk.ledger, last, gains)
            learned = _learned(aim.target, walk.ledger, last, found, self.outputs, wanted)
            _, walk, outputs = self._taped(learned, found.kept)
            pairs = zip(uses, uses_of(self.model, walk, outputs, wanted, back=True), strict=True)
            uses = [dataclasses.replace(use, gradient=other.gradient) for use, other in pairs]
        return uses, aim

    def _taped(self, target: Target, sized: frozenset[str]) -> tuple[Gains, Walk, list[Value]]:
        """One walk, in which these constants are sized too."""
        gains = self.gains_at(target)
        gains.fixed -= sized
        return gains, *self.model.taped(gains, self.values, self.zero_sum)


def _learned(
    target: Target,
    ledger: Ledger,
    last: set[Site],
    found: Parted,
    outputs: float | None,
    wanted: Callable[[str], float],
) -> Target:
    """With heads as they are when they have learned to make `outputs`, a second moment, or what is `wanted` of them.

    What they have learned lies in the direction of their inputs, so that it takes elements of 1 / fan only where
    independent ones have 1 / sqrt(fan): 1 / fan of that second moment is added to what they begin with.
    What comes back through a head that begins at zero is of this size, and through another sooner or later.
    """
    fans = {e.weight.path: e.fan for s, e in ledger.entries.items() if s in last and e.weight is not None and e.fan}

    def learned(path: str) -> float:
        begins = 0.0 if path in found.kept else target_at(target, path)
        if path not in found.sized | found.kept or path not in fans:
            return begins
        return begins + (wanted(path) if outputs is None else outputs) / fans[path]

    return learned
