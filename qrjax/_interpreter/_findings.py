"""What stands out in a walk, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from qrjax._interpreter._finding import ERROR, INFO, WARNING, Finding
from qrjax._interpreter._gains import Target, target_at
from qrjax._interpreter._gradient_findings import gradient_findings
from qrjax._interpreter._ledger import PART, Entry, Ledger
from qrjax._interpreter._products import INCREDIBLE, KEEPS
from qrjax._interpreter._report import Row
from qrjax._rules._callbacks import GUESSED
from qrjax._rules._control import UNFINISHED
from qrjax._rules._elementwise import FOLLOWED
from qrjax._rules._outputs import SHARED_SUM
from qrjax._signals._complexes import unit_of
from qrjax._signals._quadrature import NODES, WEIGHTS, expectation
from qrjax._signals._signal import Signal
from qrjax._terminal._names import listed

# Second moments so far from the target have vanished or exploded.
FAR = 1e3
# More zeros than this among a weight's inputs are dead units.
DEAD = 0.95
# Examples more alike than this are hardly told apart.
ALIKE = 0.97
# A chain of layers that multiplies deviations by more than this amplifies.
AMPLIFIES = 2.0
# Logits of a softmax with a wider spread put nearly all weight on one entry.
WIDE = 5.0
# Parts of one weight whose outputs differ by more are not alike.
ROLES = 4.0
STEP = 1.05
# Inputs of a larger second moment are hardly meant.
LARGE = 1e12


def findings(rows: Sequence[Row], ledger: Ledger, target: Target) -> list[Finding]:
    """Sentences on what a reader should look at, the most serious first."""
    checks: list[tuple[str, Iterable[str]]] = [
        (WARNING, _dead(rows, ledger)),
        (WARNING, amplification(rows, ledger)),
        (WARNING, _alike(rows, ledger)),
        (INFO, _tied(rows, ledger)),
        (WARNING, _parts(rows, ledger)),
        (WARNING, _saturated(ledger)),
        (WARNING, _noted(rows, (GUESSED, INCREDIBLE))),
        (INFO, _noted(rows, (UNFINISHED, SHARED_SUM, FOLLOWED))),
        (INFO, _recurrent(rows)),
        (WARNING, _huge(rows)),
    ]
    signal = [Finding(sentence, severity) for severity, sentences in checks for sentence in sentences]
    gradients = list(gradient_findings(rows))
    strong = [Finding(sentence, ERROR) for sentence in _strength(rows, ledger, target)]
    strong += [found for found in gradients if found.severity == ERROR]
    return [*strong, *(found for found in gradients if found.severity != ERROR), *signal]


def name_of(row: Row) -> str:
    """What a sentence calls a row."""
    return row.path or "the whole model"


def _strength(rows: Sequence[Row], ledger: Ledger, target: Target) -> Iterable[str]:
    units = [unit_of(ledger.entries[row.site].output) for row in rows]
    # A row without a weight may have what any weight has.
    most = max((target_at(target, row.weight) for row in rows if row.weight is not None), default=1.0)
    goals = [most if row.weight is None else target_at(target, row.weight) for row in rows]
    for predicted, word in ((True, "predicted"), (False, "measured")):
        found = [row.second_moment if predicted else row.measured_second_moment for row in rows]
        moments = [(m / u, g, r) for m, u, g, r in zip(found, units, goals, rows, strict=True) if m is not None]
        weak = [(m, r) for m, goal, r in moments if m < goal / FAR and r.gain]  # a constant zero is meant
        strong = [(m, r) for m, goal, r in moments if not m <= goal * FAR]
        if weak:
            least, row = weak[0]
            yield (
                f"vanishing: the {word} second moment falls to {least:.2g} at {name_of(row)}, "
                f"{len(weak)} weights so or weaker"
            )
        if strong:
            most, row = strong[0]
            yield (
                f"exploding: the {word} second moment rises to {most:.2g} at {name_of(row)}, "
                f"{len(strong)} rows so or stronger"
            )


def _dead(rows: Sequence[Row], ledger: Ledger) -> Iterable[str]:
    for row in rows:
        source = ledger.entries[row.site].input
        if source is None or row.gain is None or _is_code(source):
            continue
        share = float((source.values == 0) @ WEIGHTS)
        if share > DEAD:
            yield f"dead units: {share:.0%} of what comes into {name_of(row)} is zero, so its weights hardly learn"


def _is_code(x: Signal) -> bool:
    """Whether there are two numbers only, as in a one-hot code: one node may lie on the step between them."""
    return len(np.unique(x.values)) <= 3


def _alike(rows: Sequence[Row], ledger: Ledger) -> Iterable[str]:
    # What is made of parameters alone, such as learned queries, is meant to be the same for all examples.
    last = next((row for row in reversed(rows) if row.gain and _differs(ledger.entries[row.site].output)), None)
    if last is not None and last.correlation.get(0, 0.0) > ALIKE:
        yield (
            f"correlation tends to 1: the outputs of two examples correlate {last.correlation[0]:.3f} at "
            f"{name_of(last)}, so the network hardly tells its inputs apart"
        )


def _differs(output: Signal | None) -> bool:
    if output is None or output.is_constant or not output.shape or output.shape[0] < 2:
        return False
    return bool(output.rho[(1,) + (0,) * (output.ndim - 1)] < 1.0)


def _noted(rows: Sequence[Row], parts: Sequence[str]) -> Iterable[str]:
    """What rows say that nobody should have to look for in them, each once."""
    found: dict[str, Row] = {}
    for row in rows:
        for note in row.notes:
            if any(part in note for part in parts):
                found.setdefault(note, row)
    return (f"{note}, at {name_of(row)}" for note, row in found.items())


def _huge(rows: Sequence[Row]) -> Iterable[str]:
    """Weights whose gain rests on an input that is predicted so strong that it may well be wrong."""
    for row in rows:
        if row.gain is not None and row.input_variance is not None and row.input_mean is not None:
            moment = row.input_variance + row.input_mean**2
            if moment > LARGE:
                yield (
                    f"a strong input: what comes into {name_of(row)} has a second moment of {moment:.2g} by this "
                    "prediction, on which its gain rests; qrjax.measure says whether it is so"
                )
                return


def _recurrent(rows: Sequence[Row]) -> Iterable[str]:
    """Weights of recurrences that are as large as their states allow, and not as the target asks for."""
    found: dict[str, float] = {}
    for row in rows:
        if row.weight is not None and KEEPS in row.notes:
            found.setdefault(row.weight, (row.input_variance or 0.0) + (row.input_mean or 0.0) ** 2)
    if found:
        yield (
            f"recurrent: {listed(list(found))} {'meets what it' if len(found) == 1 else 'meet what they'} made a step "
            f"before, and what comes out keeps its second moment, {min(found.values()):.2g} or more, in place of the "
            "target; a pattern of their paths in `target` gives them another"
        )


def _tied(rows: Sequence[Row], ledger: Ledger) -> Iterable[str]:
    """Tables that are looked up and make logits, each once however often it is looked up."""
    found = set()
    entries = [(row, ledger.entries[row.site]) for row in rows if row.gain is not None]
    for row, entry in entries:
        others = [r for r, e in entries if e.op != "gather" and e.weight.key == entry.weight.key]
        if entry.op == "gather" and others and entry.weight.key not in found:
            found.add(entry.weight.key)
            yield (
                f"tied: {row.weight} is looked up and makes the logits of {name_of(others[0])}: its look-ups have a "
                f"second moment of {row.second_moment:.3g}, the logits of {others[0].second_moment:.3g}; `tied` of "
                "autoinit says for which it is sized"
            )


def _parts(rows: Sequence[Row], ledger: Ledger) -> Iterable[str]:
    """Weights whose parts have roles so different that one scale for all does for none of them."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.weight is not None and any(note.startswith(PART) for note in row.notes):
            found.setdefault(row.weight, []).append(row.second_moment / unit_of(ledger.entries[row.site].output))
    for path, moments in found.items():
        if max(moments) > ROLES * min(moments):
            yield (
                f"parts: {path} holds parts that are used in different ways, and has one scale for all: their outputs' "
                f"second moments are {min(moments):.2g} to {max(moments):.2g}"
            )


def slope(entry: Entry) -> float | None:
    """d log E[x^2] / d log s^2 for an input x = f(s z) that is a function of one weight's normal output."""
    x = entry.input
    if x is None or x.source is None or not _of_a_weight(x) or _is_code(x):
        return None
    wide, narrow = (expectation(np.interp(NODES * s, NODES, x.values) ** 2) for s in (STEP, 1 / STEP))
    if not (wide > 0 and narrow > 0):
        return None
    return math.log(wide / narrow) / (4 * math.log(STEP))


def _of_a_weight(x: Signal) -> bool:
    """Outputs of weights and functions of one have a source without kin."""
    return x.source is not None and not x.source.kin and x.source.base is None


class Chain(NamedTuple):
    """Layers that amplify deviations of the second moment one after the other, and by how much in all."""

    rows: Sequence[Row]
    growth: float


def chains(rows: Sequence[Row], ledger: Ledger) -> Iterable[Chain]:
    """Chains of layers whose variance map has a slope above 1: they amplify every deviation, luck included."""
    run: list[tuple[Row, float]] = []
    for row in [*rows, None]:
        found = None if row is None or row.gain is None else slope(ledger.entries[row.site])
        if row is not None and (row.gain is None or (found is not None and found > 1.001)):
            if found is not None and row.gain is not None:
                run.append((row, found))
            continue
        if run:
            yield Chain([row for row, _ in run], math.prod(s for _, s in run))
        run = []


def plain(rows: Sequence[Row], ledger: Ledger) -> int:
    """The most weights one after the other with nothing but functions of single elements between them."""
    longest = run = 0
    for row in (row for row in rows if row.gain is not None):
        run = run + 1 if slope(ledger.entries[row.site]) is not None else 1
        longest = max(longest, run)
    return longest


def amplification(rows: Sequence[Row], ledger: Ledger) -> Iterable[str]:
    """Chains that amplify much."""
    for along, growth in chains(rows, ledger):
        if growth > AMPLIFIES:
            yield (
                f"the variance map has a slope of {growth ** (1 / len(along)):.3f} above 1 from {name_of(along[0])} to "
                f"{name_of(along[-1])}: deviations of the second moment, finite width's among them, grow {growth:.3g} "
                f"times over {len(along)} layers; qrjax.calibrate corrects them on a batch"
            )


def _saturated(ledger: Ledger) -> Iterable[str]:
    if ledger.logits:
        spread, path = max(ledger.logits)
        if spread > WIDE:
            yield (
                f"saturated softmax: logits with a standard deviation of {spread:.3g} near {path or 'the input'} "
                "put nearly all weight on one entry"
            )
