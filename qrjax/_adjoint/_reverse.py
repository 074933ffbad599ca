"""A walk followed backwards: the derivative's second moment at every output and every weight."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

# The adjoints register themselves by being imported.
from qrjax._adjoint import _concatenations, _contractions, _elementwise, _selections, _structure  # noqa: F401
from qrjax._adjoint._approximations import approximation
from qrjax._adjoint._cases import Cases, at_one_place, cases_of_sum, in_cases
from qrjax._adjoint._contractions import output_axes, summing
from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._programs import by_program
from qrjax._adjoint._registry import ADJOINTS
from qrjax._adjoint._selections import back_to_rows
from qrjax._adjoint._structure import piece, put, resized
from qrjax._adjoint._terms import Base
from qrjax._interpreter._derived import leaves_of
from qrjax._interpreter._ledger import Site
from qrjax._interpreter._tape import Move, Repeated
from qrjax._rules._operands import Value
from qrjax._rules._passages import Choice, Stack, Step
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._recipe import Key
from qrjax._signals._signal import Signal

# A step that stands for many is followed back until its derivative repeats to this, at most so often.
STEADY = 1e-3
MOST = 256
# Derivatives below this share of what went in are nothing.
NOTHING = 1e-30
# Behind these what steps of a loop have in common is one array again: the same matrix, or parts put together.
SAME_AT_ALL_STEPS = frozenset({"dot_general", "split", "concatenate", "slice"})
# Terms of more bases than this become one: those of a residual sum and its two branches, and a norm's deviation.
BASES = 4


@dataclasses.dataclass
class Mean:
    """A mean over the steps that share a row."""

    total: float = 0.0
    count: float = 0.0

    def add(self, moment: float, count: float) -> None:
        """One more step, or several alike."""
        self.total, self.count = self.total + moment * count, self.count + count

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else 0.0


@dataclasses.dataclass(eq=False)
class Reverse:
    """One pass.

    Attributes:
      outputs: by row, the second moment of the derivative by an element of its output.
      approximate: by row, from the output on backwards, the primitives whose derivative was not walked, and other
        approximations.
      watched: the ids of other moves of which the derivative by the output is to be known.
      sums: by weight, what the square of a sum of its elements over all outputs has of that of independent ones.
    """

    outputs: dict[Site, Mean] = dataclasses.field(default_factory=dict)
    approximate: dict[Site, set[str]] = dataclasses.field(default_factory=dict)
    watched: set[int] = dataclasses.field(default_factory=set)
    sums: Mapping[Key, float] = dataclasses.field(default_factory=dict)
    _watched: dict[int, Mean] = dataclasses.field(default_factory=dict)
    _found: dict[int, Cotangent] = dataclasses.field(default_factory=dict)
    _cases: dict[int, Cases] = dataclasses.field(default_factory=dict)
    _emitted: dict[int, tuple[Cotangent, float, list[float]]] = dataclasses.field(default_factory=dict)
    _uses: dict[Site, Value] = dataclasses.field(default_factory=dict)
    _slices: dict[int, float] = dataclasses.field(default_factory=dict)
    _common: dict[Any, Base] = dataclasses.field(default_factory=dict)
    _origins: dict[int, Value] = dataclasses.field(default_factory=dict)
    _guessed: set[str] = dataclasses.field(default_factory=set)

    def start(self, outputs: Sequence[Value], given: Sequence[Cotangent] | None = None) -> None:
        """The derivative by each output: of second moment 1 and independent from element to element, or `given`."""
        for i, value in enumerate(outputs):
            if _counts(value):
                self._add(value, Cotangent.noise(tuple(value.shape), 1.0) if given is None else given[i])

    def follow(self, moves: Sequence[Any], times: float = 1.0) -> None:
        """All moves, the last first."""
        for move in reversed(moves):
            if isinstance(move, Move):
                self._move(move, times)
            elif isinstance(move, Repeated):
                self._repeated(move, times)
            elif isinstance(move, Step):
                self._step(move, times)
            elif isinstance(move, Stack):
                self._stack(move)
            else:
                self._choice(move)

    def weight(self, site: Site, layer: Sequence[tuple[int, int]] = ()) -> float | None:
        """By the weight of a row, the second moment of the derivative by one of its elements, over all its uses.

        Args:
          site: the row.
          layer: of a stack the axes and places of the layer that the row uses.
        """
        if site not in self._uses:
            return None
        origin = self._uses[site]
        while id(origin) in self._origins and id(origin) not in self._slices:
            origin = self._origins[id(origin)]
        if id(origin) in self._slices:
            return self._slices[id(origin)]
        return self._seen(origin).at(layer)

    def watched_moment(self, move: int) -> float:
        """The second moment of the derivative by an element of the output of a move that was watched."""
        return self._watched[move].value if move in self._watched else 0.0

    # -- one move ----------------------------------------------------------------------------------------------

    def _move(self, move: Move, times: float) -> None:
        if not move.results:  # a print, a check
            return
        same = [any(r is o for o in move.operands) for r in move.results]
        cases = [{} if s else self._cases.pop(id(r), {}) for r, s in zip(move.results, same, strict=True)]
        given = [self._seen(r) if s else self._taken(r) for r, s in zip(move.results, same, strict=True)]
        self._record(move, given[0], times)
        if all(same):
            return
        if any(given) and (reason := approximation(move, given[0])) is not None:
            self._guessed.add(reason)
        wanted = [_counts(v) for v in move.operands]
        if not any(wanted) or not any(given):
            self._remember(move)
            return
        with np.errstate(all="ignore"):
            found = self._pulled(move, given, wanted, cases[0])
            beside = in_cases(self._summing(move), given, wanted, found, cases)
        self._remember(move)
        for i, (value, derivative) in enumerate(zip(move.operands, found, strict=True)):
            if wanted[i] and derivative:
                self._add(value, derivative, {kind: g for kind, by in beside.items() if (g := by[i]) is not None})

    def _pulled(
        self, move: Move, given: list[Cotangent], wanted: list[bool], cases: Cases
    ) -> list[Cotangent | None]:  # fmt: skip
        name, move = move.equation.name, self._summing(move)
        special = any(_is_complex(v) for v in (*move.met, *move.results))
        if name in ADJOINTS and not special:
            given = [g.settled if g.bases > BASES else g for g in given]
            if name == "gather":
                return back_to_rows(move, given, wanted, at_one_place(move, cases))
            found = ADJOINTS[name](move, given, wanted)
            if found is not None:
                return self._images(move, given, found)
        found, walked = by_program(move, given, wanted)
        if not walked:
            self._guessed.add(name)
        return found

    def _images(self, move: Move, given: list[Cotangent], found: list[Cotangent | None]) -> list[Cotangent | None]:
        """What steps of a loop have in common, they have in common behind a weight that all of them use, or a split.

        With the derivative u_t = sum_k a_tk b_k at step t, W^T u_t = sum_k a_tk (W^T b_k): of one atom b_k there is one
        image at all steps, so that derivatives that outlast a step add up in the state as they do in the program.
        """
        name, looped = move.equation.name, any(kind == "time" for kind, _, _ in move.place[1])
        if not looped or name not in SAME_AT_ALL_STEPS:
            return found
        if name == "dot_general" and not any(leaves_of(v) for v in move.operands):
            return found
        whole = sum(g.second_moment * math.prod(g.shape) for g in given)
        held = [
            (j, atom, math.copysign(math.sqrt(factor**2 * atom.law.second_moment * math.prod(g.shape) / whole), factor))
            for j, g in enumerate(given)
            for atom, factor in g.settled.atoms().items()
        ] if whole > 0 else []  # fmt: skip
        return [self._image(move, i, g, held) for i, g in enumerate(found)]

    def _image(
        self, move: Move, place: int, g: Cotangent | None, held: list[tuple[int, Base, float]]
    ) -> Cotangent | None:  # fmt: skip
        """A derivative as the sum of what the equation makes of these atoms, each with its share of the whole."""
        if not g or (move.weight is not None and move.weight[0] == place):
            return g
        tag = None if move.weight is None else getattr(move.met[move.weight[0]], "weight", None)
        kind = (move.site[0] if tag is None else tag.key, place, g.shape)
        size, atoms = math.sqrt(g.second_moment), dict[Base, float]()
        for j, atom, share in held:
            image = self._common.setdefault((kind, j, atom), Base(g.of_size_one()))
            atoms[image] = atoms.get(image, 0.0) + share * size
        return Cotangent.of_table(g.shape, g.table, g.profiles).made_of(atoms)

    def _summing(self, move: Move) -> Move:
        """The move with a weight whose elements add up over its outputs to what is known of their sum."""
        if not self.sums or move.weight is None:
            return move
        place, law = move.weight
        tag = getattr(move.met[place], "weight", None)
        share = 1.0 if tag is None else self.sums.get(tag.key, 1.0)
        if share == 1.0 or isinstance(law, ComplexSignal):
            return move
        return dataclasses.replace(move, weight=(place, summing(law, output_axes(move), share)))

    def _record(self, move: Move, g: Cotangent, times: float) -> None:
        site = move.site
        if id(move) in self.watched:
            self._watched.setdefault(id(move), Mean()).add(g.second_moment, times)
        # What weights alone went into and was walked again as a signal has it from there.
        again = site in self.outputs and bool(leaves_of(move.results[0]))
        if move.weight is not None or (move.equation.name == "name" and not again):
            self.outputs.setdefault(site, Mean()).add(g.second_moment, times)
            if self._guessed:
                self.approximate.setdefault(site, set()).update(self._guessed)
        if move.weight is not None:
            self._uses[site] = move.operands[move.weight[0]]

    def _remember(self, move: Move) -> None:
        """From which value a function of weights came."""
        held = [v for v in move.operands if leaves_of(v)]
        if held:
            for result in move.results:
                if leaves_of(result):
                    self._origins[id(result)] = max(held, key=lambda v: math.prod(v.shape))

    # -- control flow ------------------------------------------------------------------------------------------

    def _step(self, step: Step, times: float) -> None:
        if not _counts(step.whole) or step.slice is step.whole:
            return
        g = self._taken(step.slice)
        if leaves_of(step.slice):
            self._slices[id(step.slice)] = self._slices.get(id(step.slice), 0.0) + g.second_moment * times
        if g:
            shape = tuple(step.whole.shape)
            lifted = resized(g, (1, *shape[1:]))
            self._add(step.whole, put(lifted, shape, 0, [step.index] if times == 1 else None))

    def _stack(self, stack: Stack) -> None:
        whole = self._taken(stack.whole)
        if not whole:
            return
        length, done = whole.shape[0], 0
        order = range(length - 1, -1, -1) if stack.reverse else range(length)
        law = whole.law()
        assert law is not None
        profile = law.profiles.get(0, np.ones(length))
        flat = dataclasses.replace(law, profiles={a: p for a, p in law.profiles.items() if a})
        one = resized(piece(Cotangent.of(flat), (1, *law.shape[1:]), 0, 0), law.shape[1:]).settled
        alike = math.sqrt(min(1.0, max(0.0, law.axis_correlation(0))))
        for value, count in zip(stack.steps, stack.counts, strict=True):
            factors = [float(profile[order[done + k]]) for k in range(count)]
            done += count
            if not _counts(value):
                continue
            if count == 1:
                self._add(value, _given(one, alike, factors[0]))
            else:
                self._emitted[id(value)] = (one, alike, factors)

    def _choice(self, choice: Choice) -> None:
        g = self._taken(choice.chosen)
        for value, share in zip(choice.cases, choice.shares, strict=True):
            if g and _counts(value) and share > 0:
                self._add(value, g.times(math.sqrt(share)))

    def _repeated(self, step: Repeated, times: float) -> None:
        """A step that stands for many: until what it hands back repeats, or is nothing."""
        emitted = [(value, *self._emitted.pop(id(value))) for value in step.made() if id(value) in self._emitted]
        carry = [self._taken(v) for v in step.following]
        # What the step before has from elsewhere.
        elsewhere = [(v, self._taken(v)) for v in step.carry]
        rest, before = step.count, None
        while rest:
            left = MOST - (step.count - rest)
            for value, g in zip(step.following, carry, strict=True):
                if g:
                    self._add(value, g)
            for value, g, alike, factors in emitted:
                if factors[rest - 1] > 0:
                    self._add(value, _given(g, alike, factors[rest - 1]))
            steady = all(len(set(f[:rest])) == 1 for _, _, _, f in emitted)
            moments = [g.second_moment for g in carry]
            settled = before is not None and steady and _repeat(before, moments)
            count = rest if settled or left <= 1 else 1
            self._several(step, times, count)
            before = moments
            carry = [self._taken(v) for v in step.carry]
            rest -= count
        for value, g in [*elsewhere, *zip(step.carry, carry, strict=True)]:
            if g:
                self._add(value, g)

    def _several(self, step: Repeated, times: float, count: int) -> None:
        """So many steps alike: what all of them use, as weights, gets a derivative by each."""
        outside, root = step.outside() if count > 1 else [], math.sqrt(count)
        known = [self._with_cases(v) for v in outside]
        self.follow(step.moves, times * count)
        for value, before in zip(outside, known, strict=True):
            added, cases = self._with_cases(value)
            for g, more in (before, (added.times(root), {key: g.times(root) for key, g in cases.items()})):
                if g:
                    self._add(value, g, more)

    # -- derivatives by value ----------------------------------------------------------------------------------

    def _add(self, value: Value, derivative: Cotangent, cases: Cases | None = None) -> None:
        known = self._found.get(id(value))
        both = cases_of_sum(self._cases.pop(id(value), {}), known, cases or {}, derivative)
        if both:
            self._cases[id(value)] = both
        self._found[id(value)] = derivative if known is None else known.plus(derivative)

    def _with_cases(self, value: Value) -> tuple[Cotangent, Cases]:
        return self._taken(value), self._cases.pop(id(value), {})

    def _taken(self, value: Value) -> Cotangent:
        return self._found.pop(id(value), None) or Cotangent(tuple(value.shape))

    def _seen(self, value: Value) -> Cotangent:
        return self._found.get(id(value)) or Cotangent(tuple(value.shape))


def _given(one: Cotangent, alike: float, factor: float) -> Cotangent:
    """What one step is given: of the same array as all others a part, whose root is `alike`, the rest its own."""
    own = Cotangent.of(one.terms[0].base.law)
    return one.times(alike * math.sqrt(factor)).plus(own.times(math.sqrt((1 - alike**2) * factor)))


def _repeat(before: Sequence[float], now: Sequence[float]) -> bool:
    scale = max([*before, *now, NOTHING])
    return all(abs(a - b) <= STEADY * scale for a, b in zip(before, now, strict=True))


def _is_complex(value: Value) -> bool:
    return isinstance(value, Signal) and jax.numpy.issubdtype(value.dtype, np.complexfloating)


def _counts(value: Value) -> bool:
    """Whether a derivative by it is of interest: it is no known array, and not the same whatever the weights are."""
    if not isinstance(value, Signal) or not jax.numpy.issubdtype(value.dtype, np.inexact):
        return False
    return not (value.is_constant and leaves_of(value))
