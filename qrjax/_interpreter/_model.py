"""A model as the walk sees it: a program, its variables and its inputs, whatever framework it came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._interpreter._gains import SWEEPS, Gains
from qrjax._interpreter._ledger import Ledger
from qrjax._interpreter._processes import gathered
from qrjax._interpreter._walk import Walk, from_array
from qrjax._rules._registry import Known, Opaque, Value, described
from qrjax._rules._sampling import drawn
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._quadrature import CDF
from qrjax._signals._signal import Signal, Source, Weight

INPUT = "qrjax.input "
OUTPUT = "qrjax.output "
EQUAL = "qrjax.equal"
# Longer parameters along one axis are not drawn.
VECTOR = 1 << 16


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


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a module: who was called, and the rule that its type has."""

    path: str
    kind: str
    rule: Callable[..., Any] | None = None


@dataclasses.dataclass(eq=False)
class Calls:
    """The calls of a trace; their outputs are named in the program."""

    calls: list[Call] = dataclasses.field(default_factory=list)

    def record(self, call: Call) -> int:
        """The number of a new call."""
        self.calls.append(call)
        return len(self.calls) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A traced model.

    Attributes:
      leaves: the variables, in the order of the program's arguments.
      laws: the law of each variable's initial value, computed on demand.
      program: a jaxpr (variables, keys, inputs) -> outputs.
      keys: how many arguments are random keys.
      inputs: shapes and dtypes, or arrays, of the inputs.
      calls: the modules' calls.
      materialize: (key, needed) -> the needed variables' own initial arrays.
      rebuild: arrays in the order of the leaves -> what the framework calls its variables.
      initialization: a jaxpr (key, inputs) -> variables; None where they exist already.
      places: where each variable lies, a NamedSharding or None, if they exist already; else empty.
    """

    leaves: Sequence[Leaf]
    laws: Callable[[], Sequence[Value]]
    program: Any
    keys: int
    inputs: Sequence[Any]
    calls: Calls
    materialize: Callable[[Any, Sequence[bool]], Sequence[Any]]
    rebuild: Callable[[Sequence[Any]], Any]
    initialization: Any = None
    places: Sequence[Any] = ()

    def walked(
        self, gains: Gains, inputs: Sequence[Value], zero_sum: bool = False, correlated: bool = True
    ) -> tuple[Walk, list[Value]]:
        """The walk of the program, repeated until weights used several times are settled, and its outputs."""
        variables = self._variables()
        for _ in range(SWEEPS):
            walk = Walk(gains, Ledger(), self._named, zero_sum, correlated=correlated)
            outputs = walk.walk(self.program, [*variables, *[Opaque(())] * self.keys, *inputs])
            if not gains.next_walk():
                break
        return walk, outputs

    def _variables(self) -> list[Value]:
        result: list[Value] = []
        draws: dict[Source, Any] = {}
        for leaf, law in zip(self.leaves, self.laws(), strict=True):
            numbers = jax.numpy.issubdtype(leaf.dtype, np.inexact)
            if leaf.trained and numbers and leaf.shape and 0 not in leaf.shape:
                result.append(_tagged(leaf, law, draws))
            else:
                result.append(law)
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
        call = self.calls.calls[int(number)]
        if call.rule is not None:
            walk.forget()
            value = _ruled(call, walk.started.pop(int(number), []), value, int(leaf))
        fixed = isinstance(value, Known) and value.signal.is_constant
        if fixed or (isinstance(value, Signal) and value.weight is not None):
            return value  # parameters that a module hands out have not met a signal yet
        path = call.path if int(leaves) == 1 else f"{call.path}[{leaf}]"
        walk.module(path, call.kind, value)
        return value


def _tagged(leaf: Leaf, law: Value, draws: dict[Source, Any]) -> Signal:
    """A parameter that may turn out to be a weight."""
    signal = described(law)
    weight = Weight(leaf.path, axes=tuple(range(len(leaf.shape))))
    if isinstance(signal, ComplexSignal):
        # Its variance is that of both parts together.
        half = dataclasses.replace(weight, factor=math.sqrt(0.5))
        return signal.each(lambda part: dataclasses.replace(part, array=None, weight=half))
    array = None
    if sum(n > 1 for n in leaf.shape) == 1 and signal.size <= VECTOR and not signal.is_constant:
        # In a vector of decays or frequencies each element has a part of its own: one draw stands for its law.
        array = drawn(signal, draws)
    return dataclasses.replace(signal, array=array, weight=weight, dtype=np.dtype(leaf.dtype))


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


def input_value(array: Any, mean: float | None, variance: float | None) -> Value:
    """The law of an input: as given, or its own, or standard normal."""
    shape, dtype = tuple(array.shape), np.dtype(array.dtype) if not _is_key(array) else None
    if dtype is None:
        return Opaque(shape)
    abstract = isinstance(array, (jax.ShapeDtypeStruct, jax.core.Tracer))
    floating = jax.numpy.issubdtype(dtype, np.floating)
    if floating and (abstract or mean is not None or variance is not None):
        own = None if abstract else Signal.known(gathered(array))
        mean = mean if mean is not None else own.mean if own else 0.0
        variance = variance if variance is not None else own.variance if own else 1.0
        return Signal.normal(shape, mean, variance, dtype)
    if abstract:
        # Indices of unknown range: spread over a few, which every table has.
        spread = Signal.normal(shape, dtype=dtype)
        top = 1 if dtype.kind == "b" else 15
        return Signal(shape, dtype, np.minimum(np.floor(CDF * (top + 1)), top), Source(), spread.rho)
    return from_array(gathered(array))


def _is_key(array: Any) -> bool:
    return bool(jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key))
