"""`head=`: another second moment for what a model returns than for its hidden outputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from qrjax._adjoint._heads import heads
from qrjax._autoinit._targets import Aim
from qrjax._autoinit._walks import Walks
from qrjax._initializers._arguments import number
from qrjax._interpreter._finding import INFO, WARNING, Finding
from qrjax._interpreter._gains import Gains, Target, target_at
from qrjax._interpreter._ledger import Ledger, Site
from qrjax._terminal._names import listed


def check_head(head: Any) -> float | None:
    """The second moment of the last weights' outputs, None for that of the others.

    Raises:
      TypeError, ValueError: if it is no finite number of 0 or more.
    """
    if head is None:
        return None
    if isinstance(head, jax.core.Tracer):
        raise TypeError(
            "`head` must be a number, the second moment of what the model returns, got a traced value; multiply the "
            "last weights instead"
        )
    value = number("head", head)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"`head` must be the second moment of what the model returns, 0 or more, got {head!r}; 0 makes the last "
            "weights zero, 0.01 their outputs a tenth in size"
        )
    return value


def with_head(aim: Aim, head: float | None, walks: Walks) -> Aim:
    """The aim with another second moment for the weights that make the model's outputs.

    Raises:
      ValueError: if no weight makes them, or only such as have other uses.
    """
    if head is None:
        return aim
    gains, walk, outputs = walks.at(aim.target)
    assert walk.tape is not None
    last = heads(outputs, walk.tape.moves)
    found = parted(walk.ledger, last, gains)
    if not found.sized and not found.kept:
        why = f"{listed(sorted(found.shared))} have other uses too" if found.shared else "none makes its outputs"
        raise ValueError(
            f"`head` is for the weights that make the model's outputs, and of this model {why}; pass head=None"
        )
    return dataclasses.replace(
        aim, target=_aimed(aim.target, head, found.sized), said=(*aim.said, *_said(head, found, walk.ledger, last))
    )


class Parted(NamedTuple):
    """The weights of some rows: those that may be sized, that have rows elsewhere too, that are kept."""

    sized: frozenset[str]
    shared: frozenset[str]
    kept: frozenset[str]


def parted(ledger: Ledger, last: set[Site], gains: Gains) -> Parted:
    """The paths of the weights of these rows, such as those that make a model's outputs."""
    entries = {site: entry for site, entry in ledger.entries.items() if entry.weight is not None}
    elsewhere = {path for site, entry in entries.items() if site not in last for path in _paths(entry)}
    making = {path for site, entry in entries.items() if site in last for path in _paths(entry)}
    left = {e.weight.path for e in entries.values() if gains.decides and not gains.touches(e.weight)}
    return Parted(
        frozenset(making - elsewhere - left), frozenset(making & elsewhere), frozenset((making & left) - elsewhere)
    )


def _paths(entry: Any) -> set[str]:
    return {entry.weight.path, *entry.weight.also, *(weight.path for weight in entry.beside)}


def _aimed(target: Target, head: float, paths: frozenset[str]) -> Target:
    return lambda path: head if path in paths else target_at(target, path)


def _said(head: float, found: Parted, ledger: Ledger, last: set[Site]) -> list[Finding]:
    size = "are zero" if head == 0 else f"have a second moment of {head:.3g}"
    # A head that is zero already, as of a module that autoinit made, is what was asked for.
    made = {e.weight.path for s, e in ledger.entries.items() if s in last and e.weight is not None and not e.gain}
    sized = found.sized | ((found.kept & made) if head == 0 else frozenset())
    said = [Finding(f"head: the outputs of {listed(sorted(sized))} {size}", INFO)] if sized else []
    for paths, why in ((found.shared, "have other uses"), (found.kept - sized, "have a constant of their own")):
        if paths:
            said.append(Finding(f"head: {listed(sorted(paths))} make outputs too, but {why}: left", WARNING))
    return said
