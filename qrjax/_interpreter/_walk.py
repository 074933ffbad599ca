"""The walk: a jaxpr's equations in order, with signals in the place of arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

# The rules register themselves by being imported.
from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._interpreter._binding import bind
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._ledger import Ledger
from qrjax._rules import _contractions, _control, _elementwise, _indexing, _randomness, _reductions, _structure  # noqa: F401
from qrjax._rules._complex import complex_rule, is_complex
from qrjax._rules._functions import numpy_form
from qrjax._rules._places import carried
from qrjax._rules._registry import (
    CUSTOM,
    KNOWN_SIZE,
    NEAR,
    RULES,
    STRUCTURAL,
    Equation,
    Known,
    Opaque,
    Value,
    described,
)
from qrjax._rules._sampling import sample
from qrjax._signals import _tables
from qrjax._signals._complexes import ComplexSignal, unit_of
from qrjax._signals._signal import Signal, Source, Weight, related, relation

Step = tuple[str, int, int]
# Control flow carries its values' tables along by itself.
FLOW = frozenset({*_control.CALLS, "scan", "while", "cond", "name", COMPILED_ONCE})


@dataclasses.dataclass(eq=False)
class Walk:
    """One walk.

    Attributes:
      gains: decides the variance of each weight.
      ledger: takes down the rows.
      names: what adapters named: for a name, what to do with the value.
      twin: which kind of pairs the tables are about just now, see `Signal.twins`.
      correlated: False to take all elements as independent, as AutoInit's authors did; for comparison only.
      started: for modules with a rule that have begun, their inputs.
      zero_sum: whether the weights of a neuron sum to zero, as in the layout "neurons".
    """

    gains: Gains
    ledger: Ledger
    names: Callable[[Walk, str, Value], Value]
    zero_sum: bool = False
    started: dict[int, list[Value]] = dataclasses.field(default_factory=dict)
    twin: Any = None
    correlated: bool = True
    _used: dict[Any, tuple[Signal, Signal]] = dataclasses.field(default_factory=dict)
    _site: list[int] = dataclasses.field(default_factory=list)
    _steps: list[Step] = dataclasses.field(default_factory=list)
    _notes: list[str] = dataclasses.field(default_factory=list)

    # -- the equations -----------------------------------------------------------------------------------------

    def walk(
        self, jaxpr: Any, values: Sequence[Value], step: Step | None = None, site: Sequence[int] = ()
    ) -> list[Value]:
        """The outputs of a jaxpr, closed or open; `site` tells apart the several that one equation may have."""
        closed = hasattr(jaxpr, "consts")
        body = jaxpr.jaxpr if closed else jaxpr
        environment: dict[Any, Value] = {}
        for variable, constant in zip(body.constvars, jaxpr.consts if closed else (), strict=True):
            environment[variable] = from_array(constant)
        environment.update(zip(body.invars, values, strict=True))
        if step is not None:
            self._steps.append(step)
        self._site.extend(site)
        for number, equation in enumerate(body.eqns):
            self._site.append(number)
            results = self._apply(equation, [_read(environment, v) for v in equation.invars])
            environment.update(zip(equation.outvars, results, strict=True))
            self._site.pop()
        del self._site[len(self._site) - len(site) :]
        if step is not None:
            self._steps.pop()
        return [_read(environment, v) for v in body.outvars]

    def _apply(self, eqn: Any, values: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        equation = Equation(name, eqn.params, [v.aval for v in eqn.outvars], _evaluation(eqn), self, id(eqn))
        if name in CUSTOM:
            return _listed(CUSTOM[name](equation, *map(described, values)))
        if name in FLOW:
            return _listed(STRUCTURAL[name](equation, *values))
        results = carried(equation, values, self._by_rule(equation, values, eqn))
        if not self.correlated:
            return [_alone(r) if isinstance(r, Signal) else r for r in results]
        return results if self.twin is not None else self._with_twins(equation, values, results, eqn)

    def _by_rule(self, equation: Equation, values: list[Value], eqn: Any) -> list[Value]:
        name = equation.name
        if is_complex(equation, values):
            return complex_rule(equation, values)
        if name in STRUCTURAL:
            return _listed(STRUCTURAL[name](equation, *values))
        if any(isinstance(v, Opaque) for v in values):
            return [Opaque(tuple(o.shape)) for o in equation.outputs]
        known = _known(equation, values)
        if known is not None:
            return known
        if any("jaxpr" in key for key in eqn.params) and name not in RULES:
            body = next(v for k, v in eqn.params.items() if "jaxpr" in k)
            if len(getattr(body, "jaxpr", body).invars) == len(values):
                return self.walk(body, values)
        if name not in RULES:
            return sample(equation, *values)
        if name == "exp" and self.twin is None:
            self.ledger.exponential(described(values[0]))
        return _listed(RULES[name](equation, *map(described, values)))

    def _with_twins(self, equation: Equation, values: list[Value], results: list[Value], eqn: Any) -> list[Value]:
        """The results with the tables of special pairs, by the same rule."""
        kinds = {kind for v in values if isinstance(v, Signal) for kind in v.twins}
        if equation.name == "conv_general_dilated":
            kinds.add(NEAR)
        if not kinds or not any(isinstance(r, Signal) and not r.is_constant for r in results):
            return results
        if any(r is v for r in results for v in values):
            return results
        for kind in kinds:
            turned = [_turned(v, kind) for v in values]
            self.twin = kind
            others = self._by_rule(equation, turned, eqn)
            self.twin = None
            results = [_paired(r, o, kind) for r, o in zip(results, others, strict=True)]
        return results

    # -- what rules ask ----------------------------------------------------------------------------------------

    def contract(
        self, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float,
        make: Callable[[Signal], Signal],
    ) -> Signal:  # fmt: skip
        """The output of a weight, and its row."""
        assert weight.weight is not None
        tag = weight.weight
        count = self._count()
        if self.twin is not None:
            return make(_unit(weight, axes, fan if self.zero_sum else None))
        if self.gains.touches(tag):
            made = make(_unit(weight, axes, fan if self.zero_sum else None))
            # Per unit of the parameter's own variance, whatever constant it was multiplied by.
            unit = made.second_moment * tag.factor**2 / unit_of(made)
            variance = self.gains.variance(tag, unit, fan, count)
            result = _scaled(made, math.sqrt(variance) * abs(tag.factor))
        else:
            variance = weight.variance / tag.factor**2
            result = make(dataclasses.replace(weight, weight=None))
        result = self._tied(tag, x, result, fan)
        self.ledger.weight(equation, self._place(), x, weight, fan, math.sqrt(variance), result, axes, self._taken())
        return result

    def _tied(self, tag: Weight, x: Signal, result: Signal, fan: float) -> Signal:
        """The output of a weight that was used before is as like its earlier output as its inputs are alike."""
        if isinstance(result, ComplexSignal) or isinstance(x, ComplexSignal):
            return result  # how alike complex outputs are is not followed
        key = (tag.path, tag.index)
        if result.source is not None and x.source is not None:
            result.source.born = (x.source, fan)
        before = self._used.get(key)
        self._used[key] = (x, result)
        if before is None or result.is_constant or before[1].is_constant or before[1].shape != result.shape:
            return result
        tied = replace_source(result, related([(before[1].source, _likeness(x, before[0]))]))  # type: ignore[list-item]
        assert tied.source is not None
        tied.source.born = None if x.source is None else (x.source, fan)
        self._used[key] = (x, tied)
        return tied

    def embed(self, equation: Equation, weight: Signal, make: Callable[[Signal], Signal]) -> Signal:
        """Rows of a table, and their row."""
        assert weight.weight is not None
        tag = weight.weight
        if self.twin is not None:
            return make(_unit(weight, (), None))
        if self.gains.touches(tag):
            variance = self.gains.variance(tag, tag.factor**2, 1.0, self._count(), table=True)
            result = _scaled(make(_unit(weight, (), None)), math.sqrt(variance) * abs(tag.factor))
        else:
            variance = weight.variance / tag.factor**2
            result = make(weight)
        self.ledger.weight(equation, self._place(), None, weight, 1.0, math.sqrt(variance), result, (0,), self._taken())
        return result

    def note(self, text: str) -> None:
        """A remark for the next row."""
        if self.twin is None and text not in self._notes:
            self._notes.append(text)

    def forget(self) -> None:
        """Drops remarks on what a rule of the user replaces."""
        self._notes = []

    def mark(self, name: str, value: Value) -> Value:
        """A named value."""
        return self.names(self, name, value)

    def module(self, path: str, kind: str, value: Value) -> None:
        """The row of a module's output."""
        self.ledger.module(self._place(), path, kind, described(value), self._taken())

    def _place(self) -> tuple[tuple[int, ...], tuple[Step, ...]]:
        return tuple(self._site), tuple(self._steps)

    def _count(self) -> float:
        return float(math.prod(rest for kind, _, rest in self._steps if kind == "time"))

    def _taken(self) -> list[str]:
        notes, self._notes = self._notes, []
        return notes


def _alone(x: Signal) -> Signal:
    """The signal with independent elements and no relations."""
    if isinstance(x, ComplexSignal):
        return x.each(_alone)
    return x if x.is_constant else dataclasses.replace(x.fresh(weight=x.weight), rho=_tables.independent(x.shape))


def replace_source(x: Signal, source: Source) -> Signal:
    """The same law on another source."""
    return dataclasses.replace(x, source=source, fiber=None, sample=None)


def _likeness(x: Signal, y: Signal) -> float:
    """E[x y] over the root of E[x^2] E[y^2], to the first order in their sources."""
    scale = math.sqrt(x.second_moment * y.second_moment)
    if scale == 0:
        return 0.0
    shared = 0.0 if x.source is None or y.source is None else relation(x.source, y.source)
    value = (x.mean * y.mean + shared * math.sqrt(x.variance * y.variance)) / scale
    return min(0.999, max(-0.999, value))


def _turned(value: Value, kind: Any) -> Value:
    if isinstance(value, Signal) and kind in value.twins and value.twins[kind].ndim == value.ndim:
        return dataclasses.replace(value, rho=value.twins[kind], twins={})
    return value


def _paired(result: Value, other: Value, kind: Any) -> Value:
    if not isinstance(result, Signal) or not isinstance(other, Signal) or result.is_constant or other.is_constant:
        return result
    if kind in result.twins or other.rho.shape != result.rho.shape or np.abs(result.rho - other.rho).max() < 1e-3:
        return result
    return dataclasses.replace(result, twins=result.twins | {kind: other.rho})


def _unit(weight: Signal, axes: Sequence[int], zero_sum_over: float | None) -> Signal:
    """The weight with unit variance: independent elements but along axes that it was broadcast over."""
    assert weight.weight is not None
    if weight.weight.equal:
        return Signal.constant(1.0, weight.shape, weight.dtype)
    rho = weight.rho if weight.source is not None else _tables.independent(weight.shape)
    rho = np.where(rho >= 1.0, 1.0, 0.0)
    if zero_sum_over is not None and zero_sum_over > 1:
        for pattern in np.ndindex(rho.shape):
            inside = any(pattern[a] for a in axes)
            if inside and not any(p for a, p in enumerate(pattern) if a not in axes):
                rho[pattern] = -1 / (zero_sum_over - 1)
    return Signal.normal(weight.shape, dtype=weight.dtype, rho=rho)


def _scaled(x: Signal, gain: float) -> Signal:
    if isinstance(x, ComplexSignal):
        return x.each(lambda part: _scaled(part, gain))
    if x.is_constant:
        return Signal.constant(x.mean * gain, x.shape, x.dtype)
    inner = x.at
    at = None if inner is None else lambda z: gain * inner(z)
    return x.fresh(values=x.values * gain, profiles=x.profiles, at=at)


def _listed(result: Any) -> list[Value]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _read(environment: dict[Any, Value], variable: Any) -> Value:
    return from_array(variable.val) if hasattr(variable, "val") else environment[variable]


def from_array(array: Any) -> Value:
    """A constant of the program."""
    if jax.numpy.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.prng_key):
        return Opaque(tuple(array.shape))
    return Known(np.asarray(array))


def _evaluation(eqn: Any) -> Callable[..., list[NDArray[Any]]]:
    def evaluate(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        with jax.ensure_compile_time_eval():
            return [np.asarray(r) for r in bind(eqn, [jax.numpy.asarray(a) for a in arrays])]

    return evaluate


def _known(equation: Equation, values: list[Value]) -> list[Value] | None:
    """The outputs as arrays, where every input is one and none is large."""
    sizes = [math.prod(o.shape) for o in equation.outputs]
    if max(sizes, default=0) > KNOWN_SIZE or not all(isinstance(v, Known) for v in values):
        return None
    arrays = [v.array for v in values if isinstance(v, Known)]
    if sum(a.size for a in arrays) > 4 * KNOWN_SIZE:
        return None
    function = numpy_form(equation.name, equation.params, [a.dtype for a in arrays], np.dtype(equation.dtype))
    if function is None or len(equation.outputs) > 1:
        return [Known(array) for array in equation.evaluate(*arrays)]
    with np.errstate(all="ignore"):
        return [Known(np.asarray(function(*arrays)).astype(equation.dtype))]
