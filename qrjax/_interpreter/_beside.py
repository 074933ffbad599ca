"""Tables whose look-ups are added to those of a table that makes logits: they keep their size beside it.

A table that makes logits is sized for these, and its look-ups become small; a table of positions with look-ups of the
target's size would drown them. What is added to them is scaled from its own initializer by the same factor.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from qrjax._interpreter._laws import scaled
from qrjax._rules._operands import Value
from qrjax._signals._recipe import Key
from qrjax._signals._signal import Signal

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk


@dataclasses.dataclass(frozen=True)
class LookUp:
    """Rows of a table, or a sum with some: its own initializer's variance, and the one that they were made with."""

    key: Key
    own: float
    variance: float


NOTE = "added to look-ups of a table that makes logits: as large beside these as its own initializer makes it"


def noted(walk: Walk, result: Signal, key: Key, own: float) -> None:
    """Takes down a look-up in a table whose own variance this is."""
    if result.source is not None and own > 0:
        walk.tables[result.source] = LookUp(key, own, walk.gains.variances[key])


def beside(walk: Walk, values: list[Value]) -> list[Value]:
    """The terms of a sum; a look-up that is added to one of a tied table at its size beside that."""
    one, other = _looked_up(walk, values)
    if walk.trial or walk.twin is not None or one is None or other is None:
        return values
    walk.ledger.added.append((one.key[0], other.key[0]))
    if walk.gains.is_tied(other.key):
        one, other = other, one
    if walk.gains.tied != "logits" or not walk.gains.is_tied(one.key) or walk.gains.is_tied(other.key):
        return values
    wanted = other.own * walk.gains.variances[one.key] / one.own
    walk.gains.decide({other.key: math.sqrt(wanted)})
    walk.ledger.rescaled(other.key, math.sqrt(wanted), NOTE)
    factor = math.sqrt(wanted / other.variance)
    found = _looked_up(walk, values)
    return [
        scaled(v, factor) if f is other and isinstance(v, Signal) else v for v, f in zip(values, found, strict=True)
    ]


def _looked_up(walk: Walk, values: list[Value]) -> tuple[LookUp | None, LookUp | None]:
    """In which tables the terms of a sum were looked up."""
    sources = [v.source if isinstance(v, Signal) else None for v in values]
    first, second = (None if s is None else walk.tables.get(s) for s in sources)
    return first, second


def summed(walk: Walk, values: list[Value], results: list[Value]) -> None:
    """A sum with look-ups is one, of a tied table if there is one, for what is added to it."""
    found = [f for f in _looked_up(walk, values) if f is not None]
    for result in results if found else ():
        if isinstance(result, Signal) and result.source is not None:
            walk.tables[result.source] = max(found, key=lambda f: walk.gains.is_tied(f.key))
