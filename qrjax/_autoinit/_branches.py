"""`branches=`: the branches of a residual stream, drawn so that all of them together add what one alone would."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qrjax._adjoint._branches import Branch, branches, counts
from qrjax._autoinit._heads import Parted, parted
from qrjax._autoinit._targets import Aim
from qrjax._autoinit._walks import Walks
from qrjax._initializers._arguments import positive
from qrjax._interpreter._finding import INFO, WARNING, Finding
from qrjax._interpreter._gains import Gains, Target, target_at
from qrjax._interpreter._ledger import Ledger
from qrjax._rules._operands import described
from qrjax._terminal._names import listed

# What is added is said where its second moment is this many times what it was to be, or less by as much: half an
# octave.
APART = 2**0.5


def check_branches(branches: Any) -> float | None:
    """What the branches of a stream add together, a second moment; None for the targets of their weights.

    Raises:
      TypeError, ValueError: if it is no positive finite number.
    """
    return None if branches is None else positive("branches", branches)


def with_branches(aim: Aim, total: float | None, walks: Walks) -> Aim:
    """The aim with another second moment for the last weights of each branch.

    Raises:
      ValueError: if the model has no residual stream.
    """
    if total is None:
        return aim
    gains, ledger, found = _found(aim.target, walks)
    last = {end.site for branch in found for end in branch.ends}
    those = parted(ledger, last, gains)
    share = {path: value for path, value in _shares(found, ledger, total).items() if path in those.sized}
    target = _aimed(aim.target, share)
    *_, after = _found(target, walks)
    said = (*aim.said, *_said(total, found, those), *_missed(total, after, ledger))
    return dataclasses.replace(aim, target=target, said=said)


def found_branches(moves: Sequence[Any]) -> list[Branch]:
    """The branches of a model that is to have some.

    Raises:
      ValueError: if it has none.
    """
    found = branches(moves)
    if not found:
        raise ValueError(
            "`branches` is for what weights add to a residual stream, x + f(x), and this model has none; pass "
            "branches=None"
        )
    return found


def _found(target: Target, walks: Walks) -> tuple[Gains, Ledger, list[Branch]]:
    gains, walk, _ = walks.at(target)
    assert walk.tape is not None
    return gains, walk.ledger, found_branches(walk.tape.moves)


def _shares(found: Sequence[Branch], ledger: Ledger, total: float) -> dict[str, float]:
    """By path the second moment of a branch's last weights; of several uses the smallest."""
    count, share = counts(found), dict[str, float]()
    for branch in found:
        for entry in (ledger.entries[end.site] for end in branch.ends if end.site in ledger.entries):
            if entry.weight is not None:
                value = total / count[branch.stream]
                share[entry.weight.path] = min(value, share.get(entry.weight.path, math.inf))
    return share


def _aimed(target: Target, share: Mapping[str, float]) -> Target:
    return lambda path: share[path] if path in share else target_at(target, path)


def _said(total: float, found: Sequence[Branch], those: Parted) -> Iterable[Finding]:
    numbers = sorted({round(n) for n in counts(found).values()})
    streams = f"{' or '.join(map(str, numbers))} branches of a stream add {total:.3g} together"
    if those.sized:
        yield Finding(f"branches: {streams}, by {listed(sorted(those.sized))}", INFO)
    too = " too" if those.sized else ""
    for paths, why in ((those.shared, "have other uses"), (those.kept, "have a constant of their own")):
        if paths:
            yield Finding(f"branches: {listed(sorted(paths))} end branches{too}, but {why}: left", WARNING)


def _missed(total: float, found: Sequence[Branch], ledger: Ledger) -> Iterable[Finding]:
    """Branches that add another size all the same, as behind a norm; those that add zeros are said by `_said`."""
    count, missed = counts(found), dict[str, str]()
    for branch in found:
        wanted, adds = total * branch.parts / count[branch.stream], described(branch.value).second_moment
        if adds > APART * wanted or 0 < adds < wanted / APART:
            names = [ledger.entries[end.site].path for end in branch.ends if end.site in ledger.entries]
            missed.setdefault(
                names[0] if names else "a branch without a row", f"{adds:.3g} in the place of {wanted:.3g}"
            )
    if missed:
        each = listed([f"{name} ({what})" for name, what in missed.items()])
        yield Finding(
            "branches: what is added behind these has another size, as where a norm or a number of the module's own "
            f"decides it: {each}",
            WARNING,
        )
