"""The walks that multipliers come from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from qrjax._adjoint._heads import heads
from qrjax._autoinit._analyze import aim_of
from qrjax._autoinit._heads import Parted, parted, with_head
from qrjax._autoinit._targets import Aim
from qrjax._autoinit._walks import Walks
from qrjax._interpreter._gains import Target, target_at
from qrjax._interpreter._ledger import Ledger, Site
from qrjax._rates._uses import Use, uses_of


def settled_uses(
    walks: Walks, target: Any, head: float | None, outputs: float | None, branches: float | None, kept: bool,
    back: bool,
) -> tuple[list[Use], Aim]:  # fmt: skip
    """The uses of all parameters, and what weights are drawn for; the settings as checked.

    Args:
      kept: whether the weights are the module's own, so that `branches` concerns rates alone.
      back: whether the uses have gradients too.

    Raises:
      ValueError: if `outputs` is given, and no weight makes any.
    """
    hidden = aim_of(target, walks, branches=None if kept else branches)
    aim = with_head(hidden, head, walks)
    gains, walk, returned = walks.at(aim.target)
    wanted = functools.partial(target_at, hidden.target)
    uses = uses_of(walks.model, walk, returned, wanted, outputs, deep=branches is not None)
    if outputs is not None and not any(use.makes_outputs for use in uses):
        raise ValueError(
            f"`outputs` is for the weights that make the model's outputs, got {outputs:g} for a model of "
            "which none does; pass outputs=None"
        )
    if back:
        assert walk.tape is not None
        last = heads(returned, walk.tape.moves)
        found = parted(walk.ledger, last, gains)
        learned = _learned(aim.target, walk.ledger, last, found, outputs, wanted)
        _, walk, returned = walks.at(learned, found.kept)
        pairs = zip(uses, uses_of(walks.model, walk, returned, wanted, back=True), strict=True)
        uses = [dataclasses.replace(use, gradient=other.gradient) for use, other in pairs]
    return uses, aim


def _learned(
    target: Target, ledger: Ledger, last: set[Site], found: Parted, outputs: float | None,
    wanted: Callable[[str], float],
) -> Target:  # fmt: skip
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
