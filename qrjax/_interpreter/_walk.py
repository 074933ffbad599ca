"""The walk: a jaxpr's equations in order, with signals in the place of arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

# The rules register themselves by being imported.
from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._interpreter._beside import LookUp, beside, summed
from qrjax._interpreter._binding import evaluation, known_outputs
from qrjax._interpreter._derived import meeting, told
from qrjax._interpreter._flow import Flow
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._laws import alone, in_case, paired
from qrjax._interpreter._layered import TAKING, layer, taken
from qrjax._interpreter._ledger import Ledger, Place, Step
from qrjax._interpreter._origins import Origins
from qrjax._interpreter._products import few, look_up, product
from qrjax._interpreter._stretches import settled
from qrjax._interpreter._tape import Tape
from qrjax._rules import (  # noqa: F401
    _callbacks,
    _collectives,
    _contractions,
    _control,
    _elementwise,
    _families,
    _indexing,
    _randomness,
    _reductions,
    _slices,
    _structure,
)
from qrjax._rules._complex import complex_rule, is_complex
from qrjax._rules._equations import Equation
from qrjax._rules._filters import responding
from qrjax._rules._operands import Known, Opaque, Value, described, is_data
from qrjax._rules._passages import Passage
from qrjax._rules._registry import CUSTOM, NEAR, RULES, STRUCTURAL
from qrjax._rules._sampling import sample
from qrjax._rules._vectors import carried
from qrjax._signals._places import Places, places
from qrjax._signals._recipe import Key
from qrjax._signals._signal import Signal, Source
from qrjax._signals._tables import Shape
from qrjax._signals._weight import Weight

# Where look-ups meet.
ADDITIONS = ("add", "add_any")
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
      trial: whether functions of weights are being tried at some gains, which takes nothing down.
      met: for parameters that met a signal otherwise than as weights, by what, and their shapes.
      left: for weights that could not be sized, why.
      resolved: what acts as a signal though the model's input has no part in it, once it met one.
      started: for modules with a rule that have begun, their inputs.
      zero_sum: whether the weights of a neuron sum to zero, as in the layout "neurons".
      axes: the sizes of named axes, see `Model.axes`.
      places: the sample for what meets again.
      tables: by the source of what was looked up, in which table.
      used: the parts, inputs and outputs of each weight's last uses.
      origins: of which weights' outputs each value is made.
      flow: where the program to be walked next uses its parameters; None where nothing is settled on the way.
      tape: where to take down all equations, to follow the walk backwards; None to take down none.
    """

    gains: Gains
    ledger: Ledger
    names: Callable[[Walk, str, Value], Value]
    zero_sum: bool = False
    started: dict[int, list[Value]] = dataclasses.field(default_factory=dict)
    twin: Any = None
    correlated: bool = True
    trial: bool = False
    met: dict[Key, tuple[str, Shape]] = dataclasses.field(default_factory=dict)
    left: dict[Key, str] = dataclasses.field(default_factory=dict)
    resolved: dict[int, tuple[Any, list[Value]]] = dataclasses.field(default_factory=dict)
    axes: Mapping[Any, int] = dataclasses.field(default_factory=dict)
    places: Places = dataclasses.field(default_factory=Places)
    tables: dict[Source, LookUp] = dataclasses.field(default_factory=dict)
    used: dict[Key, list[tuple[Weight, Signal, Signal]]] = dataclasses.field(default_factory=dict)
    origins: Origins = dataclasses.field(default_factory=Origins)
    flow: Flow | None = None
    _site: list[int] = dataclasses.field(default_factory=list)
    _steps: list[Step] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    tape: Tape | None = None

    # -- the equations -----------------------------------------------------------------------------------------

    def walk(
        self, jaxpr: Any, values: Sequence[Value], step: Step | None = None, site: Sequence[int] = ()
    ) -> list[Value]:
        """The outputs of a jaxpr, closed or open; `site` tells apart the several that one equation may have."""
        if not self._site:
            with places(self.places):
                return self._walked(jaxpr, values, step, site)
        return self._walked(jaxpr, values, step, site)

    def _walked(self, jaxpr: Any, values: Sequence[Value], step: Step | None, site: Sequence[int]) -> list[Value]:
        closed = hasattr(jaxpr, "consts")
        body = jaxpr.jaxpr if closed else jaxpr
        environment: dict[Any, Value] = {}
        for variable, constant in zip(body.constvars, jaxpr.consts if closed else (), strict=True):
            environment[variable] = from_array(constant)
        environment.update(zip(body.invars, values, strict=True))
        if step is not None:
            self._steps.append(step)
        self._site.extend(site)
        # A call within a stretch that is walked until its weights are settled has none of its own.
        flow, self.flow = self.flow, None
        for stretch in flow.stretches() if flow is not None else [range(len(body.eqns))]:
            settled(self, body, stretch, environment, flow)
        del self._site[len(self._site) - len(site) :]
        if step is not None:
            self._steps.pop()
        return [_read(environment, v) for v in body.outvars]

    def step(self, body: Any, number: int, environment: dict[Any, Value]) -> None:
        """One equation of a program."""
        equation = body.eqns[number]
        self._site.append(number)
        results = self._followed(equation, [_read(environment, v) for v in equation.invars])
        environment.update(zip(equation.outvars, results, strict=True))
        self._site.pop()

    def _followed(self, eqn: Any, values: list[Value]) -> list[Value]:
        reached = self.origins.begin(values)
        results = self._apply(eqn, values)
        self.origins.end(results, reached)
        return results

    def _apply(self, eqn: Any, values: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        equation = Equation(name, eqn.params, [v.aval for v in eqn.outvars], evaluation(eqn), self, id(eqn))
        if name in FLOW and name not in CUSTOM:
            results = _listed(STRUCTURAL[name](equation, *values))
            return self._taped(equation, eqn, values, values, results) if name == "name" else results
        layers = taken(self, equation, values) if name in TAKING and name not in CUSTOM else None
        if layers is not None:
            return self._taped(equation, eqn, values, values, layers)
        return self._met(equation, eqn, values)

    def _met(self, equation: Equation, eqn: Any, operands: list[Value]) -> list[Value]:
        """The outputs of an equation that is no control flow."""
        name, values = equation.name, meeting(self, equation, operands)
        # What was walked again is made of weights that the function of weights in its place was not.
        reached = self.origins.begin(values)
        if self._takes_down:
            # What was walked again as a signal has its rows there, so that is where a derivative has to go.
            operands = [m if m is not o and isinstance(m, Signal) else o for o, m in zip(operands, values, strict=True)]
        if name in ADDITIONS and self.tables:
            values = beside(self, values)
        results = carried(equation, values, self._by_rule(equation, values, eqn))
        if name in ADDITIONS and self.tables and not self.trial:
            summed(self, values, results)
        if self.trial or self.twin is not None:
            return results
        if not self.correlated:
            results = [alone(r) if isinstance(r, Signal) else r for r in results]
        elif name not in CUSTOM:
            results = responding(equation, values, self._with_twins(equation, values, results, eqn))
        results = told(self, eqn, equation, values, results)
        self.origins.end(results, reached)
        return self._taped(equation, eqn, operands, values, results)

    def _taped(
        self, equation: Equation, eqn: Any, operands: list[Value], met: list[Value], results: list[Value]
    ) -> list[Value]:
        if self._takes_down:
            assert self.tape is not None
            self.tape.add(equation, eqn, self.place(), operands, met, results)
        return results

    @property
    def _takes_down(self) -> bool:
        return self.tape is not None and not self.trial and self.twin is None

    def passed(self, passage: Passage) -> None:
        """As `Context.passed`."""
        self.origins.passed(passage)
        if self._takes_down:
            assert self.tape is not None
            self.tape.moves.append(passage)

    def repeated(self, count: int, carry: Sequence[Value], step: Callable[[], list[Value]]) -> list[Value]:
        """As `Context.repeated`."""
        if count == 1 or not self._takes_down:
            return step()
        assert self.tape is not None
        self.tape.begin()
        results = step()
        self.tape.end(count, list(carry), results[: len(carry)])
        return results

    def again(self, eqn: Any, place: Place, values: list[Value]) -> list[Value]:
        """An equation walked before, where it stood, with other values."""
        here = self._site, self._steps
        self._site, self._steps = list(place[0]), list(place[1])
        with places(self.places):
            results = self._followed(eqn, values)
        self._site, self._steps = here
        return results

    def rule(self, eqn: Any, equation: Equation) -> Callable[..., list[Value]]:
        """An equation's rule as a function of its inputs alone."""
        return lambda *values: self._by_rule(equation, list(values), eqn)

    def _by_rule(self, equation: Equation, values: list[Value], eqn: Any) -> list[Value]:
        name = equation.name
        if name in CUSTOM:
            return _listed(CUSTOM[name](equation, *map(described, values)))
        if is_complex(equation, values):
            return complex_rule(equation, values)
        # Other structural rules know what to do with known arrays, without JAX.
        known = known_outputs(equation, values) if name.startswith("scatter") or name not in STRUCTURAL else None
        if known is not None:
            return known
        if name in STRUCTURAL:
            return _listed(STRUCTURAL[name](equation, *values))
        if any(isinstance(v, Opaque) for v in values):
            return [Opaque(tuple(o.shape)) for o in equation.outputs]
        if any("jaxpr" in key for key in eqn.params) and name not in RULES:
            body = next(v for k, v in eqn.params.items() if "jaxpr" in k)
            # Some hold several, of which none is the whole, as a linear system its product and its solution.
            if len(getattr(getattr(body, "jaxpr", body), "invars", ())) == len(values):
                return self.walk(body, values)
        if name not in RULES:
            return sample(equation, *values)
        signals = [*map(described, values)]
        if name == "exp" and self.twin is None and not self.trial:
            self.ledger.exponential(signals[0])
            heavy = few(signals[0])
            if heavy is not None:
                self.note(heavy)
        return _listed(RULES[name](equation, *signals))

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
            near = [in_case(self, v, kind) for v in values]
            self.twin = kind
            others = self._by_rule(equation, near, eqn)
            self.twin = None
            results = [paired(r, o, kind) for r, o in zip(results, others, strict=True)]
        return results

    # -- what rules ask ----------------------------------------------------------------------------------------

    def sizes(self, weight: Signal, x: Signal) -> bool:
        """As `Context.sizes`."""
        made_of_weights = weight.recipe is not None and bool(weight.recipe.leaves)
        return not self.trial and made_of_weights and is_data(x)

    def contract(
        self, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float,
        make: Callable[[Signal], Signal],
    ) -> Signal:  # fmt: skip
        """The output of a weight, and its row."""
        if self._takes_down:
            assert self.tape is not None
            return self.tape.watched(weight, make, lambda m: product(self, equation, x, weight, axes, fan, m))
        return product(self, equation, x, weight, axes, fan, make)

    def embed(self, equation: Equation, weight: Signal, make: Callable[[Signal], Signal]) -> Signal:
        """Rows of a table, and their row."""
        if self._takes_down:
            assert self.tape is not None
            return self.tape.watched(weight, make, lambda m: look_up(self, equation, weight, m))
        return look_up(self, equation, weight, make)

    def layer(self, value: Value, sliced: Callable[[Value], Value]) -> Value | None:
        """As `Context.layer`."""
        return None if self.trial else layer(self, value, sliced, tuple(value.shape[1:]))

    @property
    def guesses(self) -> bool:
        """As `Context.guesses`."""
        return self.gains.guesses

    def note(self, text: str) -> None:
        """A remark for the next row."""
        if self.twin is None and not self.trial and text not in self.notes:
            self.notes.append(text)

    def forget(self) -> None:
        """Drops remarks on what a rule of the user replaces."""
        self.notes = []

    def mark(self, name: str, value: Value) -> Value:
        """A named value."""
        return self.names(self, name, value)

    def module(self, path: str, kind: str, value: Value) -> None:
        """The row of a module's output."""
        self.ledger.module(self.place(), path, kind, described(value), self.taken())

    def place(self) -> Place:
        """Where in the program the walk is."""
        return tuple(self._site), tuple(self._steps)

    def count(self) -> float:
        """How often the steps of recurrences repeat what is being walked."""
        return float(math.prod(rest for kind, _, rest in self._steps if kind == "time"))

    def taken(self) -> list[str]:
        """The remarks, for a row."""
        notes, self.notes = self.notes, []
        return notes


def _listed(result: Any) -> list[Value]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _read(environment: dict[Any, Value], variable: Any) -> Value:
    return from_array(variable.val) if hasattr(variable, "val") else environment[variable]


def from_array(array: Any) -> Value:
    """A constant of the program."""
    if jax.numpy.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.prng_key):
        return Opaque(tuple(array.shape))
    return Known(np.asarray(array))
