"""A model as the walk sees it: a program, its variables and its inputs, whatever framework it came from."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._interpreter._derived import SUMS
from qrjax._interpreter._flow import NOTHING, Flow, flow
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._laws import replace_source
from qrjax._interpreter._ledger import Ledger
from qrjax._interpreter._shards import in_shards
from qrjax._interpreter._stretches import SWEEPS
from qrjax._interpreter._tape import Tape
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Known, Opaque, Value, described, tagged
from qrjax._rules._sampling import drawn
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._recipe import FIXED, STATE, UNKNOWN
from qrjax._signals._signal import Signal, Source
from qrjax._signals._weight import Weight
from qrjax._terminal._received import is_key

INPUT = "qrjax.input "
OUTPUT = "qrjax.output "
EQUAL = "qrjax.equal"
# Longer parameters along one axis are not drawn.
VECTOR = 1 << 16
# Correlations of so many standard deviations are not a draw's.
DEVIATIONS = 5.0
NUMBERS = itertools.count()


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One variable.

    Attributes:
      path: "encoder/Dense_0/kernel"; for other collections than the parameters with their name before it.
      shape, dtype: those of the array.
      trained: whether it is a parameter, and so may be a weight.
      steps: the way to it in what the framework calls its variables: a key, an index or a name each.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    trained: bool
    steps: tuple[Any, ...] = ()


def check_distinct(leaves: Sequence[Leaf]) -> None:
    """Refuses leaves of one path, by which weights are drawn, sized and told apart.

    Raises:
      ValueError: if two have the same, as {"a/b": w} and {"a": {"b": w}} do.
    """
    first: dict[str, Leaf] = {}
    for leaf in leaves:
        other = first.setdefault(leaf.path, leaf)
        if other is not leaf:
            raise ValueError(
                f"two variables have the path {leaf.path!r}, by the keys {other.steps} and {leaf.steps}; a path is "
                "what tells a weight from all others, so rename one of them"
            )


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a module: who was called, and the rule that its type has."""

    path: str
    kind: str
    rule: Callable[..., Any] | None = None


@dataclasses.dataclass(eq=False)
class Calls:
    """The calls of a trace; their outputs are named in the program."""

    calls: dict[int, Call] = dataclasses.field(default_factory=dict)

    def record(self, call: Call) -> int:
        """The number of a new call, which no other trace has: programs that jit keeps may come to another."""
        number = next(NUMBERS)
        self.calls[number] = call
        return number

    def forget(self) -> None:
        """Drops those of a trace that did not end."""
        self.calls.clear()


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A traced model.

    Attributes:
      leaves: the variables, in the order of the program's arguments.
      laws: the law of each variable's initial value, computed on demand.
      program: a jaxpr (variables, keys, inputs) -> outputs, and behind them what the call writes to variables.
      outputs: shapes and dtypes of what the call returns, as it returns them; of objects that JAX does not know in
        their places their own arrays.
      keys: how many arguments are random keys.
      inputs: shapes and dtypes, or arrays, of the inputs.
      calls: the modules' calls.
      materialize: (key, needed) -> the needed variables' own initial arrays.
      rebuild: arrays in the order of the leaves -> what the framework calls its variables.
      initialization: a jaxpr (key, inputs) -> variables; None where they exist already.
      places: where each variable lies, a NamedSharding or None, if they exist already; else empty.
      axes: the sizes of the named axes that the program sums or gathers over.
      assumed: the names among them whose size nobody gave.
      settings: the types of arguments that hold arrays where JAX does not see them.
    """

    leaves: Sequence[Leaf]
    laws: Callable[[], Sequence[Value]]
    program: Any
    outputs: Any
    keys: int
    inputs: Sequence[Any]
    calls: Calls
    materialize: Callable[[Any, Sequence[bool]], Sequence[Any]]
    rebuild: Callable[[Sequence[Any]], Any]
    initialization: Any = None
    places: Sequence[Any] = ()
    axes: Mapping[Any, int] = dataclasses.field(default_factory=dict)
    assumed: Sequence[Any] = ()
    settings: Sequence[str] = ()

    @property
    def examples(self) -> int:
        """How many examples a batch has: the length of the first axis of the first input that has axes, at least 1."""
        return next((a.shape[0] for a in self.inputs if len(a.shape) and not is_key(a)), 1) or 1

    def bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs parts of the program, with its named axes."""
        return in_shards(function, self.axes)

    def walked(
        self, gains: Gains, inputs: Sequence[Value], zero_sum: bool = False, correlated: bool = True,
        tape: Callable[[], Tape | None] = lambda: None,
    ) -> tuple[Walk, list[Value]]:  # fmt: skip
        """The walk of the program, in which weights used several times are settled, and its outputs.

        `tape` makes where each attempt is taken down; the last one's is the walk's.
        """
        check_distinct(self.leaves)
        variables, found = self._variables(), self._flow() if gains.decides else None
        if found is not None:
            gains.expected = frozenset(self.leaves[i].path for i, names in found.primitives.items() if _is_tied(names))
        for sweep in range(SWEEPS):
            # What the flow did not foresee is settled by walks of the whole.
            walk = Walk(gains, Ledger(), self._named, zero_sum, correlated=correlated, axes=self.axes, tape=tape())
            walk.origins.given(inputs)
            walk.flow = found if sweep == 0 else None
            if sweep == 1:
                gains.begin(guess=False)
            outputs = walk.walk(self.program, [*variables, *[Opaque(())] * self.keys, *inputs])
            if not gains.next_walk(last=sweep + 1 == SWEEPS):
                break
        return walk, outputs

    def taped(
        self, gains: Gains, inputs: Sequence[Value], zero_sum: bool = False, correlated: bool = True
    ) -> tuple[Walk, list[Value]]:
        """As `walked`, taken down on the walk's tape; of the outputs those that the call returns."""
        walk, outputs = self.walked(gains, inputs, zero_sum, correlated, Tape)
        return walk, outputs[: len(jax.tree.leaves(self.outputs))]

    def _flow(self) -> Flow:
        parameters = [(False, frozenset([i])) if leaf.trained else NOTHING for i, leaf in enumerate(self.leaves)]
        data = (True, frozenset[int]())
        return flow(self.program, [*parameters, *[NOTHING] * self.keys, *[data] * len(self.inputs)])

    def fixed(self) -> frozenset[str]:
        """The parameters whose own initializer is a constant."""
        laws = self.laws()
        # An init that draws nothing at all, as a Keras model's, hands out arrays that exist already.
        draws = self.initialization is not None and any(map(_is_drawn, laws))
        return frozenset(leaf.path for leaf, law in zip(self.leaves, laws, strict=True) if _is_constant(law, draws))

    def _variables(self) -> list[Value]:
        result: list[Value] = []
        draws: dict[Source, Any] = {}
        for leaf, law in zip(self.leaves, self.laws(), strict=True):
            numbers = jax.numpy.issubdtype(leaf.dtype, np.inexact)
            if leaf.trained and numbers and leaf.shape and 0 not in leaf.shape:
                result.append(_tagged(leaf, law, draws))
            else:
                result.append(_untagged(law, not leaf.trained))
        return result

    def _named(self, walk: Walk, name: str, value: Value) -> Value:
        if name == EQUAL and isinstance(value, Signal) and value.weight is not None:
            return dataclasses.replace(value, weight=dataclasses.replace(value.weight, equal=True))
        if name.startswith(INPUT):
            walk.started.setdefault(int(name.split(" ")[1]), []).append(value)
        elif name.startswith(OUTPUT):
            return self._output(walk, name, value)
        return value

    def _output(self, walk: Walk, name: str, value: Value) -> Value:
        _, number, leaf, leaves = name.split(" ")
        call = self.calls.calls.get(int(number))
        if call is None:
            return value  # of another trace
        if call.rule is not None:
            walk.forget()
            value = _ruled(call, walk.started.pop(int(number), []), value, int(leaf))
        fixed = isinstance(value, Known) and value.signal.is_constant
        if fixed or (isinstance(value, Signal) and value.weight is not None):
            return value  # parameters that a module hands out have not met a signal yet
        path = call.path if int(leaves) == 1 else f"{call.path}[{leaf}]"
        walk.module(path, call.kind, value)
        return value


def _is_tied(primitives: set[str]) -> bool:
    """Whether a parameter is looked up and multiplied."""
    return "gather" in primitives and not primitives.isdisjoint(SUMS.keys() - {"gather"})


def _untagged(law: Value, state: bool) -> Value:
    """A variable that is no weight."""
    if isinstance(law, Signal):
        return dataclasses.replace(law, recipe=STATE if state else FIXED)
    return Known(law.array, state=state) if isinstance(law, Known) else law


def _is_constant(law: Value, from_program: bool) -> bool:
    """Whether no random draw went into a variable; of arrays that exist already, whether all is one number."""
    if isinstance(law, Known):
        return law.signal.is_constant or (from_program and not law.random)
    return isinstance(law, Signal) and law.is_constant and law.recipe is not UNKNOWN


def _is_drawn(law: Value) -> bool:
    return law.random if isinstance(law, Known) else isinstance(law, Signal) and not law.is_constant


def _tagged(leaf: Leaf, law: Value, draws: dict[Source, Any]) -> Signal:
    """A parameter that may turn out to be a weight."""
    signal = described(law)
    if isinstance(law, Known) and sum(n > 1 for n in leaf.shape) > 1 and not isinstance(signal, ComplexSignal):
        signal = _without_chance(signal)
    unknown = isinstance(law, Signal) and law.is_constant and law.recipe is UNKNOWN
    own = law.array if isinstance(law, Known) else None
    weight = dataclasses.replace(Weight.of(leaf.path, len(leaf.shape)), unknown=unknown, own=own)
    if isinstance(signal, ComplexSignal):
        # Its variance is that of both parts together.
        half = dataclasses.replace(weight, factor=math.sqrt(0.5))
        parts = signal.each(lambda part: tagged(dataclasses.replace(part, array=None, weight=half)))
        return tagged(dataclasses.replace(parts, weight=weight))
    array = None
    if sum(n > 1 for n in leaf.shape) == 1 and signal.size <= VECTOR and not signal.is_constant:
        # In a vector of decays or frequencies each element has a part of its own: one draw stands for its law.
        array = drawn(signal, draws)
    elif not signal.is_constant:
        # Drawn anew it is no longer what others were made of when the module drew it, as norms of it.
        signal = replace_source(signal, Source())
    return tagged(dataclasses.replace(signal, array=array, weight=weight, dtype=np.dtype(leaf.dtype)))


def _without_chance(x: Signal) -> Signal:
    """The law of an array that exists already, without what its elements have in common by chance, as any draw's do.

    What no draw would show stays, such as how alike the rows of a table of sines are.
    """
    if x.is_constant:
        return x
    pairs = x.size / 2 * _tables.product([max(1.0, n - 1.0) for n in x.shape])
    told = (x.rho >= 1.0) | (np.abs(x.rho) > DEVIATIONS / np.sqrt(pairs))
    return dataclasses.replace(x, array=None, rho=np.where(told, x.rho, 0.0))


def _ruled(call: Call, inputs: list[Value], value: Value, leaf: int) -> Value:
    assert call.rule is not None
    result = call.rule(*map(described, inputs))
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    if leaf >= len(results):
        raise ValueError(
            f"the module rule of {call.kind} at {call.path!r} gave {len(results)} signals, the module gives more"
        )
    return checked(results[leaf], described(value).shape, f"the module rule of {call.kind} at {call.path!r}")


def checked(result: Any, shape: tuple[int, ...], who: str) -> Signal:
    """What a user's rule returned, if it is a signal of the right shape with finite moments.

    Raises:
      TypeError: if it is no Signal.
      ValueError: if its shape or its moments are wrong.
    """
    if not isinstance(result, Signal):
        raise TypeError(f"{who} must return a qrjax.Signal, got {result!r}; make one with Signal.normal or signal.map")
    if result.shape != shape:
        raise ValueError(f"{who} must return a signal of shape {shape}, got {result.shape}; see Signal.with_shape")
    if not np.isfinite(result.second_moment):
        raise ValueError(f"{who} returned a signal whose second moment is {result.second_moment}; it must be finite")
    return result


def laws_of(jaxpr: Any, arguments: Sequence[Value]) -> list[Value]:
    """The laws of what an initialization program returns."""
    gains = Gains(1.0, None)
    walk = Walk(gains, Ledger(), lambda _walk, _name, value: value)
    return walk.walk(jaxpr, arguments)
