"""How each parameter takes part in the signal: what a step of it changes, and relative to what."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._adjoint._branches import depths
from qrjax._adjoint._heads import ends
from qrjax._adjoint._reverse import Reverse
from qrjax._autoinit._branches import found_branches
from qrjax._interpreter._derived import SUMS, leaves_of
from qrjax._interpreter._ledger import Entry, Ledger, Site
from qrjax._interpreter._model import Model
from qrjax._interpreter._tape import Move, each
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Known, Value, described, is_data
from qrjax._signals._complexes import unit_of
from qrjax._signals._recipe import Key
from qrjax._signals._weight import Weight

# What a parameter may be to a signal.
PRODUCT, LOOKUP, SCALE, SHIFT, FUNCTION = "product", "look-up", "scale", "shift", "function"
# A parameter beside a signal is a scale where these multiply it, else a shift of it.
MULTIPLY = frozenset({"mul", "div", "pow"})
# These do no more to a parameter than its own size says; others are guesses.
PLAIN = frozenset({"mul", "div", "add", "sub", "add_any", "concatenate", "select_n", "dynamic_update_slice"})


@dataclasses.dataclass(frozen=True)
class Use:
    """One use of a parameter, or of one layer of it.

    Attributes:
      key: the parameter and the layer.
      kind: what it is to the signal: summed with it, looked up by it, its scale, a shift of it as biases and positions
        are, the same for all examples; or within a function of parameters, such as a normalized weight.
      op: the primitive.
      shape: that of the output.
      fan: how many of its elements an element of the output sums.
      own: the root mean square of its elements.
      input: second moment of what it is multiplied with.
      output: second moment of the output.
      wanted: the second moment that its output's change is measured by.
      head: whether it is where what the model returns is made.
      gradient: the second moment of the derivative by one of its elements, per example; None until it is known.
      guessed: whether its part is no more than guessed.
      branches: of how many branches of a stream it is in one, where these count; the product, of nested ones.
    """

    key: Key
    kind: str
    op: str
    shape: tuple[int, ...]
    fan: float
    own: float
    input: float
    output: float
    wanted: float
    head: bool = False
    gradient: float | None = None
    guessed: bool = False
    branches: float = 1.0

    @property
    def makes_outputs(self) -> bool:
        """Whether its change is measured by what the model's outputs are to come to; a scale's is by what it meets."""
        return self.head and self.kind != SCALE


def uses_of(
    model: Model, walk: Walk, outputs: Sequence[Value], target_of: Callable[[str], float],
    wanted: float | None = None, back: bool = False, deep: bool = False,
) -> list[Use]:  # fmt: skip
    """All uses in a walk that was taken down, in order.

    Args:
      model, walk, outputs: the model and the walk, and what it returned.
      target_of: the second moment that a parameter's outputs are given.
      wanted: that of what the model returns, None for its parameters' targets.
      back: whether for their gradients too.
      deep: whether to count the branches of residual streams.

    Raises:
      ValueError: if these are to be counted, and there are none.
    """
    assert walk.tape is not None
    moves = walk.tape.moves
    within = depths(found_branches(moves)) if deep else {}
    last, between = ends(outputs, moves)
    reverse = _followed(moves, outputs) if back else None
    uses = _Uses(model, walk.ledger, last, between, target_of, wanted, reverse, _for_all_examples(moves))
    found: dict[tuple[Site, Key], Use] = {}
    for move, times in _equations(moves):
        for use in uses.of(move, times):
            deeper = dataclasses.replace(use, branches=within.get(id(move), 1.0))
            found.setdefault((move.site, use.key), deeper)  # the steps of a recurrence are one use
    return [*found.values()]


def _followed(moves: Sequence[Any], outputs: Sequence[Value]) -> Reverse:
    reverse = Reverse(watched={id(move) for move, _ in _equations(moves) if move.weight is None and _beside(move)})
    reverse.start(outputs)
    reverse.follow(moves)
    return reverse


def _equations(moves: Sequence[Any]) -> Iterator[tuple[Move, float]]:
    """All equations, and for how many steps each stands."""
    return ((move, times) for move, times in each(moves) if isinstance(move, Move))


def _for_all_examples(moves: Sequence[Any]) -> dict[Site, float]:
    """The look-ups at places in which the input has no part, as of positions, and how often each finds a row."""
    found = {}
    for move, _ in _equations(moves):
        # They were walked as functions of weights first, and again where they met a signal.
        if move.equation.name == "gather" and move.weight is None and leaves_of(move.operands[0]):
            places = move.operands[1]
            if isinstance(places, Known) and not places.data and places.array.size:
                rows = places.array.reshape(-1, places.array.shape[-1])
                found[move.site] = len(rows) / len(np.unique(rows, axis=0))
    return found


def _beside(move: Move) -> list[int]:
    """Which operands of an equation were made of parameters, where others are signals."""
    if move.equation.name in SUMS or not any(map(is_data, move.met)) or not any(map(is_data, move.results)):
        return []
    return [i for i, value in enumerate(move.met) if not is_data(value) and leaves_of(value)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Uses:
    """What a walk says of its equations."""

    model: Model
    ledger: Ledger
    last: set[Site]
    between: set[int]
    target_of: Callable[[str], float]
    wanted: float | None
    reverse: Reverse | None
    for_all_examples: Mapping[Site, float]

    def of(self, move: Move, times: float) -> Iterator[Use]:
        """The uses in an equation."""
        if move.weight is not None and move.site in self.ledger.entries:
            yield from self._summed(move, self.ledger.entries[move.site])
            return
        for place in _beside(move):
            for key, law in leaves_of(move.met[place]).items():
                yield self._meets(move, place, key, law, times)

    # -- weights -----------------------------------------------------------------------------------------------

    def _summed(self, move: Move, entry: Entry) -> Iterator[Use]:
        assert move.weight is not None
        assert entry.output is not None
        value = move.met[move.weight[0]]
        weight: Weight | None = getattr(value, "weight", None)
        _, output, _, arriving = (total / entry.count for total in entry.sums)
        output /= unit_of(entry.output)
        head = move.site in self.last
        for key, law in leaves_of(value).items():
            wanted = self._wanted(key[0], output, head)
            kind, own, fan = self._kind(move, entry, weight, key, law)
            met = 1.0 if entry.op == "gather" else arriving
            use = Use(key, kind, entry.op, entry.output.shape, fan, own, met, output, wanted, head)
            yield dataclasses.replace(use, gradient=self._of_weight(move, use), guessed=own == 0 and kind == FUNCTION)
        for path in () if weight is None else weight.also:
            yield dataclasses.replace(use, key=(path, weight.layer))  # type: ignore[union-attr]

    def _kind(self, move: Move, entry: Entry, weight: Weight | None, key: Key, law: Any) -> tuple[str, float, float]:
        if weight is not None:
            own = entry.gain if entry.gain is not None else 0.0
            if entry.op == "gather":
                return SHIFT if move.site in self.for_all_examples else LOOKUP, own, 1.0
            return PRODUCT, own, entry.fan or 1.0
        own = math.sqrt(law.second_moment)
        if key == entry.weight.key and entry.gain:
            own = entry.gain
        long = [n for n in law.shape if n > 1]
        return FUNCTION, own, float(math.prod(long[:-1])) if len(long) > 1 else 1.0

    def _of_weight(self, move: Move, use: Use) -> float | None:
        """By one element of a weight."""
        if self.reverse is None:
            return None
        if use.kind in (LOOKUP, SHIFT):
            row = self.reverse.outputs[move.site].value if move.site in self.reverse.outputs else 0.0
            # A row of a table is met by few examples, unless it is the same for all.
            return row * self.for_all_examples[move.site] / self.model.examples if use.kind == SHIFT else row
        found = self.reverse.weight(move.site, use.key[1])
        return None if found is None else found / self.model.examples

    # -- beside a signal ---------------------------------------------------------------------------------------

    def _meets(self, move: Move, place: int, key: Key, law: Any, times: float) -> Use:
        name, result = move.equation.name, described(move.results[0])
        value = described(move.met[place])
        signals = [described(v).second_moment for i, v in enumerate(move.met) if i != place and is_data(v)]
        head = any(id(r) in self.between for r in move.results)
        scale = name in MULTIPLY
        arriving = max(signals) if scale else 1.0
        plain = name in PLAIN and getattr(move.met[place], "weight", None) is not None
        use = Use(
            key, SCALE if scale else SHIFT, name, result.shape, 1.0, math.sqrt(value.second_moment), arriving,
            result.second_moment, self._wanted(key[0], result.second_moment, head and not scale), head,
            guessed=not plain,
        )  # fmt: skip
        return dataclasses.replace(use, gradient=self._of_neighbour(move, use, law, times))

    def _of_neighbour(self, move: Move, use: Use, law: Any, times: float) -> float | None:
        """By one element of a parameter that is added to a signal or multiplied with it: independent parts of a sum."""
        if self.reverse is None:
            return None
        moment = self.reverse.watched_moment(id(move))
        often = times * max(1.0, math.prod(use.shape) / max(1, math.prod(law.shape)))
        return moment * use.input * often / self.model.examples

    def _wanted(self, path: str, output: float, head: bool) -> float:
        """What a model returns is measured by its target, as it may start smaller; so is what starts at zero."""
        if head and self.wanted is not None:
            return self.wanted
        return output if output > 0 and not head else self.target_of(path)
