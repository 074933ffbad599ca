"""The rows of a walk: steps in time add up in one row, layers under a scan have one each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrjax._interpreter._report import Row
from qrjax._rules._equations import Equation
from qrjax._signals._quadrature import WEIGHTS, Floats
from qrjax._signals._signal import Signal
from qrjax._signals._weight import Weight

# A mean below this share of the second moment is the rounding of zero.
ROUNDING = 1e-20
# Entries of a softmax below this are masked.
MASKED = -1e4

# How the note on a part of a weight begins.
PART = "a part of"

Step = tuple[str, int, int]
Place = tuple[tuple[int, ...], tuple[Step, ...]]
# Where a row is: the equation, nested, and which of the layers that share it.
Site = tuple[tuple[int, ...], tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Sized:
    """A weight, or a function of some, where it meets a signal.

    Attributes:
      weight: the parameter, or the main one.
      gain: its standard deviation.
      beside: others that were sized with it.
      recurrent: whether it meets what it made itself a step before.
    """

    weight: Weight
    gain: float
    beside: tuple[Weight, ...] = ()
    recurrent: bool = False


@dataclasses.dataclass
class Entry:
    """A row in the making: moments summed over the steps that share it."""

    path: str
    op: str
    fan: float | None = None
    gain: float | None = None
    weight: Any = None
    count: float = 0.0
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0] * 4)
    notes: list[str] = dataclasses.field(default_factory=list)
    kinds: tuple[str, ...] = ()
    axes: tuple[int, ...] | None = None
    beside: tuple[Weight, ...] = ()
    recurrent: bool = False
    output: Signal | None = None
    input: Signal | None = None

    def add(self, count: float, output: Signal, source: Signal | None, notes: list[str]) -> None:
        """One more step, or `count` alike."""
        self.count += count
        of_input = (source.mean, source.second_moment) if source is not None else (0.0, 0.0)
        for i, moment in enumerate((output.mean, output.second_moment, *of_input)):
            self.sums[i] += count * moment
        self.output, self.input = output, source
        self.notes += [note for note in notes if note not in self.notes]


@dataclasses.dataclass
class Ledger:
    """All rows of a walk, in order of execution.

    Attributes:
      entries: the rows, by where they are.
      logits: the spread of what softmaxes exponentiate, and after which row.
      added: tables whose look-ups were added to each other.
      types: of the modules, by path.
    """

    entries: dict[Site, Entry] = dataclasses.field(default_factory=dict)
    logits: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    added: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    types: dict[str, str] = dataclasses.field(default_factory=dict)

    def masked(self) -> dict[tuple[int, ...], float]:
        """For rows of masked scores, a number halfway between these and what a mask has put in, by where they are."""
        outputs = {site[0]: entry.output for site, entry in self.entries.items()}
        masks = {place: output.mask for place, output in outputs.items() if output is not None}
        return {place: m.value / 2 for place, m in masks.items() if m is not None and m.value < MASKED / 2}

    def exponential(self, x: Signal) -> None:
        """Takes down the spread of what a softmax exponentiates: numbers that end at 0."""
        if x.is_constant or not -1e-2 < x.values.max() < 1e-2:
            return
        # Masked entries are far below all others, and not spread.
        seen = np.where(x.values > MASKED, WEIGHTS, 0.0)
        if seen.sum() > 0:
            mean = float(x.values @ seen / seen.sum())
            spread = math.sqrt(float((x.values - mean) ** 2 @ seen / seen.sum()))
            last = next(reversed(self.entries.values()), None)
            self.logits.append((spread, last.path if last is not None else ""))
            if x.fiber is not None:
                x.fiber.spread.append(_within_rows(x.sample, spread))

    def weight(
        self, equation: Equation, place: Place, x: Signal | None, sized: Sized, fan: float,
        output: Signal, axes: Sequence[int] | None, notes: list[str],
    ) -> None:  # fmt: skip
        """The output of a weight, which is summed over its `axes`, None where they are not known."""
        path = sized.weight.path.rpartition("/")[0]
        entry = self._entry(place, path, equation.name)
        entry.fan, entry.gain, entry.weight, entry.beside = fan, sized.gain, sized.weight, sized.beside
        entry.recurrent = sized.recurrent
        entry.axes = None if axes is None else sized.weight.summed(axes)
        entry.add(_count(place), output, x, notes)

    def module(self, place: Place, path: str, kind: str, output: Signal, notes: list[str]) -> None:
        """The output of a module."""
        entry = self._entry(place, path, kind)
        self.types[entry.path] = kind
        entry.add(_count(place), output, None, notes)

    def _entry(self, place: Place, path: str, op: str) -> Entry:
        site = site_of(place)
        if site not in self.entries:
            name = path + "".join(f"[{i}]" for i in site[1])
            self.entries[site] = Entry(name, op, kinds=tuple(kind for kind, _, _ in place[1]))
        return self.entries[site]

    def companions(self) -> dict[str, set[str]]:
        """For tables that make logits too, those whose look-ups are added to theirs, and to these."""
        ops: dict[str, set[bool]] = {}
        for entry in self.entries.values():
            if entry.weight is not None:
                ops.setdefault(entry.weight.path, set()).add(entry.op == "gather")
        found = {path: {path} for path, kinds in ops.items() if len(kinds) == 2}
        for together in found.values():
            while more := {b for a, b in (*self.added, *((b, a) for a, b in self.added)) if a in together} - together:
                together |= more
        return {path: together - found.keys() for path, together in found.items()}

    def rescaled(self, key: Any, gain: float, note: str) -> None:
        """Look-ups in a table whose scale is another after all."""
        for entry in self.entries.values():
            if entry.weight is None or entry.weight.key != key or entry.gain is None or entry.output is None:
                continue
            factor, entry.gain = gain / entry.gain, gain
            entry.sums[:2] = [entry.sums[0] * factor, entry.sums[1] * factor**2]
            entry.output = dataclasses.replace(entry.output, values=entry.output.values * factor, at=None)
            entry.notes += [note] if note not in entry.notes else []

    def rows(self) -> list[Row]:
        """The rows; a module that only hands on its own weight's output has none of its own."""
        self._note_parts()
        result: list[Row] = []
        for site, entry in self.entries.items():
            row = _row(site, entry)
            before = result[-1] if result else None
            if before is not None and entry.gain is None and _repeats(before, row):
                continue
            result.append(row)
        apart = {row.path for row in result if row.weight is None}
        return [
            row if row.path in apart else dataclasses.replace(row, module=self.types.get(row.path)) for row in result
        ]

    def _note_parts(self) -> None:
        """Says of weights of which several parts are used by themselves that one scale is for all of them."""
        parts: dict[Any, dict[Any, list[Entry]]] = {}
        for entry in self.entries.values():
            if entry.weight is not None and entry.gain is not None and entry.op != "gather":
                parts.setdefault(entry.weight.key, {}).setdefault(entry.weight.places, []).append(entry)
        for (path, _), found in parts.items():
            for entry in [e for part in found.values() for e in part] if len(found) > 1 else []:
                note = f"{PART} {path}: one scale for all its parts, whose mean has the target"
                if note not in entry.notes:
                    entry.notes.append(note)


def site_of(place: Place) -> Site:
    """The row of what is made at a place: steps in time share it, layers have one each."""
    return place[0], tuple(i for kind, i, _ in place[1] if kind == "layer")


def _within_rows(sample: Floats | None, spread: float) -> float:
    """The standard deviation within the rows of a sample, each about its own mean."""
    if sample is None or sample.shape[1] == 1:
        return spread
    seen = sample > MASKED / 2  # a row whose largest is below zero lifts what a mask put in
    count = np.maximum(1, seen.sum(1))
    means = np.where(seen, sample, 0.0).sum(1) / count
    squares = (np.where(seen, sample - means[:, None], 0.0) ** 2).sum(1)
    return math.sqrt(float((squares / count).mean()))


def _count(place: Place) -> float:
    count = 1.0
    for kind, _, rest in place[1]:
        if kind == "time":
            count *= rest
    return count


def _repeats(before: Row, row: Row) -> bool:
    same = before.path == row.path and before.gain is not None and before.shape == row.shape
    near = 1e-9 * max(before.second_moment, 1e-300)
    return same and abs(before.mean**2 - row.mean**2) <= near and abs(before.variance - row.variance) <= near


def _row(site: Site, entry: Entry) -> Row:
    mean, moment, input_mean, input_moment = (s / entry.count for s in entry.sums)
    out = entry.output
    assert out is not None
    if mean**2 < ROUNDING * moment:
        mean = 0.0
    has_input = entry.input is not None
    return Row(
        path=entry.path,
        op=entry.op,
        shape=out.shape,
        fan=entry.fan,
        gain=entry.gain,
        input_mean=input_mean if has_input else None,
        input_variance=max(0.0, input_moment - input_mean**2) if has_input else None,
        mean=mean,
        variance=max(0.0, moment - mean**2),
        correlation={a: round(out.axis_correlation(a), 4) + 0.0 for a, n in enumerate(out.shape) if n > 1},
        notes=tuple(entry.notes),
        weight=entry.weight.path if entry.weight is not None else None,
        site=site,
    )
