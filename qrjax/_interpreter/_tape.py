"""What a walk did, in order, so that it can be followed backwards."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qrjax._interpreter._laws import scaled
from qrjax._interpreter._ledger import Site, site_of
from qrjax._rules._equations import Equation
from qrjax._rules._operands import Value, recipe_of
from qrjax._rules._passages import Passage
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._quadrature import NODES, Floats
from qrjax._signals._signal import Signal


@dataclasses.dataclass(eq=False)
class Move:
    """One equation.

    Attributes:
      equation: the equation.
      eqn: as it stands in the program.
      place: where, see `Walk.place`.
      operands: what it was given.
      met: the same as it was understood, see `meeting`.
      results: its outputs.
      weight: of a product with a weight, which operand that is, and the weight as it is scaled.
    """

    equation: Equation
    eqn: Any
    place: Any
    operands: Sequence[Value]
    met: Sequence[Value]
    results: Sequence[Value]
    weight: tuple[int, Signal] | None = None

    @property
    def site(self) -> Site:
        """Its row, if it has one."""
        return site_of(self.place)


@dataclasses.dataclass(eq=False)
class Repeated:
    """A step of a loop that stands for several.

    Attributes:
      count: for how many.
      moves: what the step did.
      carry: what it was given by the step before.
      following: what it gave the next one.
    """

    count: int
    carry: Sequence[Value]
    following: Sequence[Value]
    moves: list[Any]

    def made(self) -> list[Value]:
        """What the step gave, but for that of loops in it."""
        made = [value for move in self.moves if not isinstance(move, Repeated) for value in move.results]
        return list({id(value): value for value in (*self.following, *made)}.values())

    def outside(self) -> list[Value]:
        """What the step was given beside the carry, from before the loop."""
        inside = {id(v) for v in self.carry} | {id(v) for move, _ in each(self.moves) for v in move.results}
        given = {id(v): v for move, _ in each(self.moves) for v in move.operands}
        return [v for i, v in given.items() if i not in inside]


def each(moves: Sequence[Any], times: float = 1.0) -> Iterator[tuple[Any, float]]:
    """All that was done, in order, that of steps that stand for several too, and for how many steps each stands."""
    for move in moves:
        if isinstance(move, Repeated):
            yield from each(move.moves, times * move.count)
        else:
            yield move, times


@dataclasses.dataclass(eq=False)
class Tape:
    """All that a walk did, in order: equations, what control flow handed on, steps that stand for several."""

    moves: list[Move | Passage | Repeated] = dataclasses.field(default_factory=list)
    _scaled: tuple[Signal, Signal] | None = None
    _named: dict[int, list[tuple[int, Move]]] = dataclasses.field(default_factory=dict)
    _outer: list[list[Any]] = dataclasses.field(default_factory=list)

    def add(
        self, equation: Equation, eqn: Any, place: Any, operands: list[Value], met: list[Value], results: list[Value]
    ) -> None:  # fmt: skip
        """One equation."""
        scaled, self._scaled = self._scaled, None
        weight = None
        if scaled is not None:
            number = next((i for i, v in enumerate(met) if v is scaled[0]), None)
            weight = None if number is None else (number, scaled[1])
        move = Move(equation, eqn, place, operands, met, results, weight)
        self.moves.append(move)
        recipe = recipe_of(results[0]) if equation.name == "name" else None
        if recipe is not None and recipe.leaves:
            self._named.setdefault(id(recipe.operands), []).append((recipe.number, move))

    def again(self, operands: Any, results: Sequence[Value]) -> None:
        """What was made of these has been walked again, as signals: they have the names of what they stand for."""
        for number, move in self._named.get(id(operands), ()):
            named = [results[number]]
            self.moves.append(dataclasses.replace(move, operands=named, met=named, results=named))

    def watched(
        self, weight: Signal, make: Callable[[Signal], Signal],
        function: Callable[[Callable[[Signal], Signal]], Signal],
    ) -> Signal:  # fmt: skip
        """A product with a weight, of which the scale that it is given is remembered."""
        used: list[tuple[Signal, Signal]] = []

        def seen(law: Signal) -> Signal:
            made = make(law)
            used.append((law, made))
            return made

        result = function(seen)
        if used:
            law, made = used[-1]
            ratio = result.second_moment / made.second_moment if made.second_moment > 0 else 0.0
            self._scaled = (weight, scaled(law, math.sqrt(ratio)))
        return _between(result)

    def begin(self) -> None:
        """What follows is a step that stands for several."""
        self._outer.append(self.moves)
        self.moves = []

    def end(self, count: int, carry: Sequence[Value], following: Sequence[Value]) -> None:
        """The step is over."""
        step = Repeated(count, carry, following, self.moves)
        self.moves = self._outer.pop()
        self.moves.append(step)


def _between(x: Signal) -> Signal:
    """A normal signal that is known between the nodes too: slopes jump where activations have a kink."""
    if x.is_constant or x.at is not None or isinstance(x, ComplexSignal) or not x.is_normal:
        return x
    line = functools.partial(_line, x.mean, (x.values[-1] - x.values[0]) / (NODES[-1] - NODES[0]))
    return dataclasses.replace(x, at=line)


def _line(mean: float, slope: float, z: Floats) -> Floats:
    return mean + slope * z
