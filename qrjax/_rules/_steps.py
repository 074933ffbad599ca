"""The steps of a scan: what each is given of an array, and what all of them gave as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._filters import filtered, step
from qrjax._rules._operands import Known, Opaque, Value, derived, described, tagged
from qrjax._rules._parts import at_places, in_reverse, moved, part, without
from qrjax._rules._passages import Stack, Step
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal, halves, joined
from qrjax._signals._lags import STEP, correlations
from qrjax._signals._mixtures import stacked
from qrjax._signals._places import alike
from qrjax._signals._signal import Signal

# The last step is compared with so many before it.
REMEMBERED = 8
# Steps are given alike that are as strong to this; a sample's moments wander by about as much.
ALIKE = 0.03


@dataclasses.dataclass
class Steps:
    """The steps of a scan, walked one after the other.

    Attributes:
      equation: the scan.
      constants, inputs: what each step is given whole, and of what a slice.
      kind: "layer" or "time".
      length: how many there are.
      emitted: what each gave beside the next carry.
      counts: for how many each stands.
    """

    equation: Equation
    constants: Sequence[Value]
    inputs: Sequence[Value]
    kind: str
    length: int
    emitted: list[list[Value]] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=list)

    def walk(self, carry: list[Value], done: int, count: int, by_step: bool) -> list[Value]:
        """The carry after the step that comes when so many are done, which stands for `count`.

        Args:
          by_step: whether known numbers are taken as those of this step.
        """
        p, context = self.equation.params, self.equation.context
        # As if the steps that one stands for were not there: what comes then is as like it as a next step is.
        i, place = (self.length - 1 - k if p["reverse"] else k for k in (done, len(self.counts)))

        def once() -> list[Value]:
            given = [step(v, _taken(self.equation, v, i, by_step, place), done) for v in self.inputs]
            for whole, one in zip(self.inputs, given, strict=True):
                context.passed(Step(whole, one, i))
            return context.walk(p["jaxpr"], [*self.constants, *carry, *given], (self.kind, i, count))

        results = context.repeated(count, carry, once)
        self.emitted.append(results[len(carry) :])
        self.counts.append(count)
        return results[: len(carry)]

    @property
    def rough(self) -> bool:
        """Whether weights are only guessed in this walk."""
        return self.equation.context.guesses

    def alike(self, done: int) -> int:
        """How many of the steps that come are given arrays as strong as the first of them is given."""
        profiles = [v.profiles[0] for v in self.inputs if isinstance(v, Signal) and 0 in v.profiles]
        ahead = [(p[::-1] if self.equation.params["reverse"] else p)[done:] for p in profiles]
        unlike = [np.flatnonzero(np.abs(p - p[0]) > ALIKE * p[0]) for p in ahead if p.size]
        return int(min([self.length - done, *(found[0] for found in unlike if found.size)]))

    def stacks(self, carried: int) -> list[Value]:
        """What all steps gave, each as one array."""
        reverse, found = self.equation.params["reverse"], []
        for number in range(len(self.equation.outputs) - carried):
            parts = [emitted[number] for emitted in self.emitted]
            found.append(_stack(parts, self.counts, self.length, reverse))
            self.equation.context.passed(Stack(parts, self.counts, found[-1], reverse))
        return found


def is_layered(equation: Equation, value: Value) -> bool:
    """Whether the steps are layers: each has a parameter of its own, or a function of one."""
    if not isinstance(value, Signal) or value.weight is not None:
        return isinstance(value, Signal)
    return equation.context.layer(value, lambda v: _slice(v, 0, keep_known=True)) is not None


def _taken(equation: Equation, value: Value, i: int, keep_known: bool, place: int) -> Value:
    """What a step is given of an array; of a function of stacked parameters the function of one layer."""
    found = equation.context.layer(value, lambda v: _slice(v, i, keep_known=True))
    return _slice(value, i, keep_known, place) if found is None else found


def _slice(value: Value, i: int, keep_known: bool, place: int | None = None) -> Value:
    """The slice i, as strong as it is; in what it has to do with other slices the one at `place`."""
    shape, where = value.shape[1:], i if place is None else place
    if isinstance(value, Opaque):
        return Opaque(shape)
    if isinstance(value, Known):
        if keep_known:
            return dataclasses.replace(value, array=value.array[i])
        value = value.signal
    if isinstance(value, ComplexSignal):
        halved = value.each(lambda half: described(_slice(half, i, keep_known, where)))
        return dataclasses.replace(halved, recipe=derived([value], lambda whole: [_slice(whole, i, keep_known)]))
    sliced = part(value, (1, *shape), ("slice", ((0, where, where + 1, 1),)), (0,), {0: (i,)})
    _numbered(value, sliced, where)
    sliced = at_places(value, sliced, {0: (i,)})
    one = without(sliced, [0], moved(sliced, shape, _tables.dropped(sliced.rho, [0]), tuple(range(1, sliced.ndim))))
    if one.weight is not None:
        return tagged(one)
    return dataclasses.replace(one, recipe=derived([value], lambda whole: [_slice(whole, i, keep_known)]))


def _numbered(whole: Signal, one: Signal, i: int) -> None:
    """Tells the source of a step which it is, and that of all steps how alike they are by their distance."""
    near = whole.twins.get((STEP, whole.shape[0]))
    if near is None or one.source is None or whole.source is None or one.source.base is not whole.source:
        return
    along = (1, *[0] * (whole.ndim - 1))
    whole.source.lags = correlations(float(near[along]), float(whole.rho[along]), whole.shape[0])
    one.source.step = i


def _stack(steps: Sequence[Value], counts: Sequence[int], length: int, reverse: bool) -> Value:
    if any(isinstance(s, Opaque) for s in steps):
        return Opaque((length, *steps[0].shape))
    if all(isinstance(s, Known) for s in steps) and len(steps) == length:
        arrays = [s.array for s in steps if isinstance(s, Known)]
        told = (
            any(s.data for s in steps if isinstance(s, Known)),
            any(s.random for s in steps if isinstance(s, Known)),
        )
        return Known(np.stack(arrays[::-1] if reverse else arrays), *told)
    parts = [described(s) for s in steps]
    if any(isinstance(p, ComplexSignal) for p in parts):
        both = by_part(parts, lambda found: _stack(found, counts, length, reverse))
        both = filtered(both, parts, length)
        return dataclasses.replace(both, recipe=derived(steps, lambda *o: [_stack(o, counts, length, reverse)]))
    made = stacked(parts, counts, _far(parts[-1]), _lags(parts))
    made = filtered(in_reverse(made, (0,)) if reverse else made, parts, length)
    recipe = derived(steps, lambda *others: [_stack(others, counts, length, reverse)])
    return dataclasses.replace(made, recipe=recipe)


def _lags(steps: Sequence[Signal]) -> list[float]:
    """How alike the last step is to those before it, the nearest first."""
    found: list[float] = []
    # The first steps of all are not like any later ones.
    for earlier in reversed(steps[-1 - min(REMEMBERED, len(steps) // 2) : -1]):
        if steps[-1].source is None or earlier.source is None:
            break
        found.append(alike(steps[-1].source, earlier.source))
    return found


def by_part(values: Sequence[Signal], function: Callable[[Sequence[Signal]], Value]) -> Signal:
    """A function of several complex signals that acts on both parts alike."""
    re, im = (described(function([halves(v)[k] for v in values])) for k in (0, 1))
    return joined(re, im, next(v.dtype for v in values if isinstance(v, ComplexSignal)))


def _far(x: Signal) -> Any:
    """Two steps far apart are as alike as two examples of a batch: the weights are all that they share."""
    if x.ndim == 0 or x.shape[0] == 1:
        return np.minimum(x.rho, 0.0)
    table = x.rho.copy()
    table[0] = x.rho[1]
    return table
