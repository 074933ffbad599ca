"""The branches of residual streams: what is computed of a value by weights, and added to it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from qrjax._interpreter._tape import Move, each
from qrjax._rules._operands import Value, is_data

ADDITIONS = frozenset({"add", "add_any"})
# These hand a stream on, a part of it, or what was added to it; so does a multiplication with no other signal.
HANDED_ON = frozenset({
    "add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice", "name", "neg",
    "optimization_barrier", "pad", "reduce_precision", "reshape", "rev", "sharding_constraint", "slice", "squeeze",
    "sub", "transpose",
})  # fmt: skip
SCALED = frozenset({"mul", "div"})
# Behind these what is added is as many times as large as what the last weights make.
LINEAR = HANDED_ON | SCALED | {
    "conv_general_dilated", "cumsum", "dot_general", "gather", "psum", "reduce_sum", "scatter-add", "select_n",
}  # fmt: skip


@dataclasses.dataclass(eq=False)
class Branch:
    """One addition to a stream.

    Attributes:
      times: how often it stands, as in a loop.
      value: what is added.
      ends: the moves of the weights whose outputs reach that without meeting another weight; where some reach it by
        sums and products alone, these and not those behind which a gate or a softmax stands.
      within: the ids of all moves of the branch.
      stream: a number for the stream that it is added to.
      parts: how many branches it is: f and g of x + (f(x) + g(x)) are two, side by side they are one.
    """

    times: float
    value: Value
    ends: list[Move]
    within: frozenset[int]
    stream: int
    parts: int


def branches(moves: Sequence[Any]) -> list[Branch]:
    """All branches, in order.

    An addition is one where one operand is a value, or a sum with it, that weights met of which the other was made. So
    a shortcut with a weight of its own begins a new stream. The gate of a recurrence, a product of signals, is none,
    and nor are scores to which the same mask or table of positions is added in every layer.
    """
    found = _Ancestry(moves)
    for move, times in each(moves):
        found.follow(move, times)
    return found.branches


def counts(found: Sequence[Branch]) -> dict[int, float]:
    """Of each stream how many branches it has."""
    total: dict[int, float] = {}
    for branch in found:
        total[branch.stream] = total.get(branch.stream, 0.0) + branch.times * branch.parts
    return total


def depths(found: Sequence[Branch]) -> dict[int, float]:
    """By the id of each move within a branch how many branches its stream has; of nested ones the product."""
    of_stream, depth = counts(found), dict[int, float]()
    nested: dict[int, set[int]] = {}
    for branch in found:
        for move in branch.within:
            # A move within several branches of one stream, as parallel ones that share a norm, counts once.
            if branch.stream not in nested.setdefault(move, set()):
                nested[move].add(branch.stream)
                depth[move] = depth.get(move, 1.0) * of_stream[branch.stream]
    return depth


class _Origins(NamedTuple):
    """What a value comes from: sets of values, as the bits of an integer, by the order in which they were made.

    Attributes:
      same: those that were handed on to it.
      near: those that a weight would meet in it.
      past: those that weights have met in it.
      direct: the products with weights that reach it without another weight.
      linear: of these those that do by sums and products alone.
      beside: how many of the products lie beside others in it, and not on them.
    """

    same: int = 0
    near: int = 0
    past: int = 0
    direct: int = 0
    linear: int = 0
    beside: int = 0


class _Ancestry:
    """Which values come from which. Of a value that nothing will use any more it is forgotten, or long programs would
    take memory by the square of their length.
    """

    def __init__(self, moves: Sequence[Any]) -> None:
        self.branches: list[Branch] = []
        self._left = collections.Counter(id(value) for move, _ in each(moves) for value in move.operands)
        self._numbers: dict[int, int] = {}
        self._origins: dict[int, _Origins] = {}
        # Of each value by its number: what made it, and the numbers of what it was made of.
        self._made_by: list[Any] = []
        self._made_of: list[list[int]] = []
        # The stream that a value comes from without a weight.
        self._stream: dict[int, int] = {}

    def follow(self, move: Any, times: float) -> None:
        """One equation, or what control flow hands on."""
        given = [v for v in move.operands if is_data(v)]
        for value in given:
            if id(value) not in self._origins:  # such as an input
                bit = self._bit(value, None, [])
                self._origins[id(value)] = _Origins(same=bit, near=bit)
        stream = self._added(given, times) if _adds(move, given) else None
        for result in move.results:
            if is_data(result):
                self._made(result, move, given, stream)
        for value in move.operands:
            self._left[id(value)] -= 1
            if not self._left[id(value)]:
                self._origins.pop(id(value), None)

    def _bit(self, value: Value, move: Any, given: Sequence[Value]) -> int:
        self._numbers[id(value)] = number = len(self._made_by)
        self._made_by.append(move)
        self._made_of.append([self._numbers[id(one)] for one in given])
        return 1 << number

    def _made(self, result: Value, move: Any, given: Sequence[Value], stream: int | None) -> None:
        if any(result is value for value in given):
            return  # handed on as it is
        old = [self._origins[id(value)] for value in given]
        bit = self._bit(result, move, given)
        self._origins[id(result)] = _origins(bit, move, old)
        if isinstance(move, Move) and move.weight is not None:
            return
        known = [self._stream[id(value)] for value in given if id(value) in self._stream]
        if stream is not None or known:
            self._stream[id(result)] = known[0] if stream is None else stream

    def _added(self, given: Sequence[Value], times: float) -> int | None:
        """The stream, where one operand is a stream and the other a branch of it."""
        for value, other in (given, given[::-1]):
            own, others = self._origins[id(value)], self._origins[id(other)]
            shared = own.same & others.past
            if shared and not others.same & own.past:
                return self._branch(value, other, shared.bit_length() - 1, times)
        return None

    def _branch(self, value: Value, other: Value, begins: int, times: float) -> int:
        inside, origins = self._between(begins, self._numbers[id(other)]), self._origins[id(other)]
        direct = origins.linear or origins.direct
        stream = self._stream.setdefault(id(value), len(self.branches))
        ends = [self._made_by[i] for i in inside if direct >> i & 1]
        parts = max(1, len(ends) - origins.beside)
        within = frozenset(id(self._made_by[i]) for i in inside)
        self.branches.append(Branch(times, other, ends, within, stream, parts))
        return stream

    def _between(self, begins: int, ends: int) -> list[int]:
        """The numbers of the values that come from one and lead to another, in order; with the latter itself."""
        since, found = {begins}, {ends}
        for i in range(begins + 1, ends + 1):
            if not since.isdisjoint(self._made_of[i]):
                since.add(i)
        for i in range(ends, begins, -1):
            if i in found:
                found.update(since.intersection(self._made_of[i]))
        return sorted((found & since) - {begins})


def _origins(bit: int, move: Any, old: Sequence[_Origins]) -> _Origins:
    """Those of what a move makes of values with these."""
    near, past = _union(o.near for o in old), _union(o.past for o in old)
    if isinstance(move, Move) and move.weight is not None:
        return _Origins(bit, bit, near | past, bit, bit)
    direct, linear = _union(o.direct for o in old), _union(o.linear for o in old) if _is_linear(move) else 0
    disjoint = direct.bit_count() == sum(o.direct.bit_count() for o in old)
    beside = (sum if disjoint else max)([0, *(o.beside for o in old)])
    if isinstance(move, Move) and move.equation.name == "concatenate":
        beside = direct.bit_count() - max((o.direct.bit_count() - o.beside for o in old), default=0)
    same = _union(o.same for o in old) if _hands_on(move, old) else 0
    return _Origins(bit | same, bit | (0 if _is_product(move, old) else near), past, direct, linear, beside)


def _is_product(move: Any, old: Sequence[_Origins]) -> bool:
    """Whether signals that weights made are summed with each other, as values by scores."""
    products = isinstance(move, Move) and move.equation.name == "dot_general"
    return products and len(old) > 1 and all(o.past for o in old)


def _adds(move: Any, given: Sequence[Value]) -> bool:
    return isinstance(move, Move) and move.equation.name in ADDITIONS and len(given) == 2 and given[0] is not given[1]


def _hands_on(move: Any, given: Sequence[Any]) -> bool:
    if not isinstance(move, Move):
        return True
    return move.equation.name in HANDED_ON or (move.equation.name in SCALED and len(given) == 1)


def _is_linear(move: Any) -> bool:
    return not isinstance(move, Move) or move.equation.name in LINEAR


def _union(sets: Iterable[int]) -> int:
    return functools.reduce(operator.or_, sets, 0)
