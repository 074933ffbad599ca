"""The branches of residual streams: what is computed of a value by weights, and added to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

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
    """

    times: float
    value: Value
    ends: list[Move]
    within: frozenset[int]
    stream: int

    @property
    def parts(self) -> int:
        """How many branches it is: f and g of x + (f(x) + g(x)) are two."""
        return max(1, len(self.ends))


def branches(moves: Sequence[Any]) -> list[Branch]:
    """All branches, in order.

    An addition is one where one operand is a value, or a sum with it, that weights met of which the other was made. So
    a shortcut with a weight of its own begins a new stream. The gate of a recurrence, a product of signals, is none,
    and nor are scores to which the same mask or table of positions is added in every layer.
    """
    found = _Ancestry()
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


class _Ancestry:
    """Which values come from which: sets of values as the bits of an integer, in the order in which they were made."""

    def __init__(self) -> None:
        self.branches: list[Branch] = []
        self._bits: dict[int, int] = {}
        self._made_by: list[Any] = []
        self._values: list[Value] = []
        # Of each value: all that it comes from; what a weight would meet of that in it; what weights have met of that;
        # the values that were handed on to it.
        self._all: dict[int, int] = {}
        self._near: dict[int, int] = {}
        self._past: dict[int, int] = {}
        self._same: dict[int, int] = {}
        # The products with weights that reach it without another weight, and of these those that do by sums and
        # products; the stream that it comes from without a weight.
        self._direct: dict[int, int] = {}
        self._linear: dict[int, int] = {}
        self._stream: dict[int, int] = {}

    def follow(self, move: Any, times: float) -> None:
        """One equation, or what control flow hands on."""
        given = [v for v in move.operands if is_data(v)]
        for value in given:
            self._known(value)
        stream = self._added(given, times) if _adds(move, given) else None
        for result in move.results:
            if is_data(result):
                self._made(result, move, given, stream)

    def _known(self, value: Value) -> None:
        """A value that no equation has made, such as an input."""
        if id(value) not in self._bits:
            self._number(value, None)
            self._past[id(value)] = self._direct[id(value)] = self._linear[id(value)] = 0

    def _number(self, value: Value, move: Any) -> int:
        bit = 1 << len(self._values)
        self._values.append(value)  # keeps it alive, so that its id stays its own
        self._made_by.append(move)
        for sets in (self._bits, self._all, self._near, self._same):
            sets[id(value)] = bit
        return bit

    def _made(self, result: Value, move: Any, given: Sequence[Value], stream: int | None) -> None:
        key, old = id(result), [id(value) for value in given]
        if key in old:
            return  # handed on as it is
        bit = self._number(result, move)
        above = _union(self._all, old)
        self._all[key] |= above
        if isinstance(move, Move) and move.weight is not None:
            self._past[key] = _union(self._near, old) | _union(self._past, old)
            self._direct[key] = self._linear[key] = bit
            return
        self._past[key], self._direct[key] = _union(self._past, old), _union(self._direct, old)
        self._linear[key] = _union(self._linear, old) if _is_linear(move) else 0
        if not self._is_product(move, given):
            self._near[key] |= _union(self._near, old)
        if _hands_on(move, given):
            self._same[key] |= _union(self._same, old)
        known = [self._stream[one] for one in old if one in self._stream]
        if stream is not None or known:
            self._stream[key] = known[0] if stream is None else stream

    def _is_product(self, move: Any, given: Sequence[Value]) -> bool:
        """Whether signals that weights made are summed with each other, as values by scores."""
        products = isinstance(move, Move) and move.equation.name == "dot_general"
        return products and len(given) > 1 and all(self._past[id(value)] for value in given)

    def _added(self, given: Sequence[Value], times: float) -> int | None:
        """The stream, where one operand is a stream and the other a branch of it."""
        for value, other in (given, given[::-1]):
            shared = self._same[id(value)] & self._past[id(other)]
            if shared and not self._same[id(other)] & self._past[id(value)]:
                return self._branch(value, other, shared, times)
        return None

    def _branch(self, value: Value, other: Value, shared: int, times: float) -> int:
        begins = 1 << (shared.bit_length() - 1)
        inside = [i for i in _numbers(self._all[id(other)]) if self._descends(i, begins)]
        direct = self._linear[id(other)] or self._direct[id(other)]
        stream = self._stream.setdefault(id(value), len(self.branches))
        ends = [self._made_by[i] for i in inside if direct >> i & 1]
        self.branches.append(Branch(times, other, ends, frozenset(id(self._made_by[i]) for i in inside), stream))
        return stream

    def _descends(self, number: int, begins: int) -> bool:
        value = id(self._values[number])
        return bool(self._all[value] & begins) and self._bits[value] != begins


def _adds(move: Any, given: Sequence[Value]) -> bool:
    return isinstance(move, Move) and move.equation.name in ADDITIONS and len(given) == 2 and given[0] is not given[1]


def _hands_on(move: Any, given: Sequence[Value]) -> bool:
    if not isinstance(move, Move):
        return True
    return move.equation.name in HANDED_ON or (move.equation.name in SCALED and len(given) == 1)


def _is_linear(move: Any) -> bool:
    return not isinstance(move, Move) or move.equation.name in LINEAR


def _union(sets: dict[int, int], keys: Sequence[int]) -> int:
    found = 0
    for key in keys:
        found |= sets[key]
    return found


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
