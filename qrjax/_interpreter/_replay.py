"""The program run on real arrays, with the moments of the rows taken on the way, and weights corrected if asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._interpreter._binding import bind
from qrjax._rules._control import BODY, CALLS, CONDITION, program_of, scan_counts

Path = tuple[int, ...]
# For each static place in the program: (mean, second moment, gain), one axis for each scan around it.
Moments = dict[Path, Array]


def _counted(moments: Array) -> Array:
    """What a step adds to the sums and to the counts; branches that it did not take add nothing.

    These have no gain either, the last number; a moment that is NaN beside a gain is what was measured.
    """
    known = jnp.broadcast_to(~jnp.isnan(moments[..., -1:]), moments.shape)
    return jnp.stack([jnp.where(known, moments, 0), known.astype(moments.dtype)])


@dataclasses.dataclass(frozen=True)
class Replay:
    """One run.

    Attributes:
      places: where moments are taken.
      correct: for a place with a weight, (output, its second moment) -> the gain for that weight; None to measure.
      least: for a place of masked scores, the least number that is one; what is below stands for "absent".
    """

    places: frozenset[Path]
    correct: Mapping[Path, Callable[[Array], Array]]
    least: Mapping[Path, float] = dataclasses.field(default_factory=dict)

    def run(self, jaxpr: Any, arguments: Sequence[Any], place: Path = ()) -> tuple[list[Any], Moments]:
        """The outputs and the moments."""
        closed = hasattr(jaxpr, "consts")
        body = jaxpr.jaxpr if closed else jaxpr
        environment = dict(zip(body.constvars, jaxpr.consts if closed else (), strict=True))
        environment.update(zip(body.invars, arguments, strict=True))

        def read(variable: Any) -> Any:
            # Literals may be plain numbers, which have no shape.
            literal = hasattr(variable, "val")
            return np.asarray(variable.val, variable.aval.dtype) if literal else environment[variable]

        moments: Moments = {}
        for number, equation in enumerate(body.eqns):
            here = (*place, number)
            results, inner = self._apply(equation, [read(v) for v in equation.invars], here)
            moments |= inner
            environment.update(zip(equation.outvars, results, strict=True))
        return [read(v) for v in body.outvars], moments

    def _apply(self, equation: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        name = equation.primitive.name
        inside = self._holds(here)
        if inside and name in CALLS:
            return self.run(program_of(equation.params), values, here)
        if inside and name == "scan":
            return self._scan(equation, values, here)
        if inside and name == "while":
            return self._while(equation.params, values, here)
        if inside and name == "cond":
            return self._cond(equation.params["branches"], values, here)
        listed = bind(equation, values)
        if here not in self.places:
            return listed, {}
        return self._taken(listed, here)

    def _holds(self, here: Path) -> bool:
        """Whether there is something to be done within an equation."""
        return any(place[: len(here)] == here and place != here for place in self.places)

    def _taken(self, results: list[Any], here: Path) -> tuple[list[Any], Moments]:
        output = results[0].astype(np.promote_types(results[0].dtype, np.float32))
        present = output >= self.least[here] if here in self.least else None
        moment = jnp.mean(jnp.square(jnp.abs(output)), where=present)
        gain = jnp.ones((), moment.dtype)
        if here in self.correct:
            gain = self.correct[here](moment)
            results = [(output * gain.astype(output.dtype)).astype(results[0].dtype), *results[1:]]
        mean = jnp.mean(output, where=present)
        # Of complex numbers the size of the mean.
        mean = (jnp.abs(mean) if jnp.iscomplexobj(mean) else mean) * gain
        return results, {here: jnp.stack([mean, moment * gain * gain, gain]).astype(jnp.float32)}

    def _scan(self, equation: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        p = equation.params
        consts, carried = scan_counts(p["jaxpr"], values, [v.aval for v in equation.outvars])
        constants, carry, inputs = values[:consts], values[consts : consts + carried], values[consts + carried :]

        def step(carry: Any, inputs: Any) -> Any:
            results, moments = self.run(p["jaxpr"], [*constants, *carry, *inputs], here)
            return results[:carried], (results[carried:], moments)

        final, (outputs, moments) = lax.scan(step, carry, inputs, length=p["length"], reverse=p["reverse"])
        return [*final, *outputs], moments

    def _while(self, params: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        """A loop: its rows hold the means over the steps that it took, NaN where it took none."""
        a, b = params["cond_nconsts"], params["body_nconsts"]
        conditions, constants, carry = values[:a], values[a : a + b], values[a + b :]

        def check(carry: Any) -> tuple[list[Any], Moments]:
            return self.run(params["cond_jaxpr"], [*conditions, *carry], (*here, CONDITION))

        def body(carry: Any) -> tuple[list[Any], Moments]:
            results, moments = self.run(params["body_jaxpr"], [*constants, *carry], (*here, BODY))
            (going, *_), of_condition = check(carry)
            return [_going_on(going, r, c) for r, c in zip(results, carry, strict=True)], moments | of_condition

        def step(state: Any) -> Any:
            carry, sums = state
            results, moments = body(carry)
            return results, {place: sums[place] + _counted(m) for place, m in moments.items()}

        zeros = {place: jnp.zeros((2, *m.shape), m.dtype) for place, m in jax.eval_shape(body, carry)[1].items()}
        final, sums = lax.while_loop(lambda state: jnp.any(check(state[0])[0][0]), step, (carry, zeros))
        return list(final), {place: (total / count)[None] for place, (total, count) in sums.items()}

    def _cond(self, branches: Sequence[Any], values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        index, *operands = values
        runs = [lambda *a, k=k, b=branch: self.run(b, a, (*here, k)) for k, branch in enumerate(branches)]
        shapes: dict[Path, Any] = {}
        for run in runs:
            shapes |= jax.eval_shape(run, *operands)[1]

        def complete(run: Callable[..., Any]) -> Callable[..., Any]:
            def completed(*arguments: Any) -> Any:
                results, moments = run(*arguments)
                # Rows of branches that were not taken have no moments.
                missing = {
                    place: jnp.full(s.shape, jnp.nan, s.dtype) for place, s in shapes.items() if place not in moments
                }
                return results, moments | missing

            return completed

        results: tuple[list[Any], Moments] = lax.switch(index.astype(jnp.int32), [complete(r) for r in runs], *operands)
        return results


def _going_on(going: Any, result: Any, carried: Any) -> Any:
    """What a loop carries on; of several loops mapped into one, those that have ended keep what they have."""
    if not going.ndim:
        return result
    return jnp.where(going.reshape(going.shape + (1,) * (result.ndim - going.ndim)), result, carried)


def is_spoiled(found: Any) -> bool:
    """Whether a place that was run, so that its gain is a number, gave NaN."""
    return bool((np.isnan(found[..., 1]) & ~np.isnan(found[..., 2])).any())


def pooled(found: Any, kinds: Sequence[str], layers: Sequence[int]) -> Any:
    """Moments of one row: a layer's own, the mean over the steps in time that took place."""
    remaining = list(layers)
    axis = 0
    for kind in kinds[: found.ndim - 1]:
        if kind == "layer":
            found = np.take(found, remaining.pop(0), axis)
        else:
            axis += 1
    steps = found.reshape(-1, found.shape[-1])
    taken = ~np.isnan(steps)
    with np.errstate(invalid="ignore"):  # a branch that was never taken has no mean
        return np.where(taken, steps, 0.0).sum(0) / taken.sum(0)
