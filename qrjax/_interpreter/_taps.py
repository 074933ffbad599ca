"""The program run backward, with the second moments of the gradients taken at the rows on the way.

At each row's output stands an identity with a second argument, a tap, whose own "derivative" is the second moment of
the gradient that comes by. One derivative by all taps thus finds them all: steps of a scan one by one, where the taps
are taken step by step as its inputs are; uses of one tap, as in a loop, added up together with their number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from qrjax._interpreter._binding import bind
from qrjax._interpreter._loops import looped
from qrjax._interpreter._replay import Moments, Path, Replay
from qrjax._rules._control import BODY, CALLS, CONDITION, program_of, scan_counts

# Functions that bring a derivative of their own, which says nothing of what is within them.
OWN_DERIVATIVE = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
# For each place the sum of second moments and how many there were, with an axis for each scan around it.
Taps = Mapping[Path, Array]


@jax.custom_vjp
def tapped(x: Array, tap: Array) -> Array:
    """x; the derivative by the tap is (the second moment of that by x, 1)."""
    del tap
    return x


def _backward(_: None, gradient: Array) -> tuple[Array, Array]:
    wide = gradient.astype(np.promote_types(gradient.dtype, np.float32))
    return gradient, jnp.stack([jnp.mean(jnp.square(jnp.abs(wide))).astype(jnp.float32), jnp.float32(1)])


tapped.defvjp(lambda x, _: (x, None), _backward)


@dataclasses.dataclass(frozen=True)
class Tapped(Replay):
    """A run with taps; its moments are left out.

    Attributes:
      taps: for each place that has one.
      loops: the loops of unknown length.
      opened: whether functions with taps within lose the derivatives that they bring.
    """

    taps: Taps = dataclasses.field(default_factory=dict)
    loops: frozenset[Path] = frozenset()
    opened: bool = False

    def _apply(self, equation: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        name = equation.primitive.name
        if name in OWN_DERIVATIVE and not (self.opened and self._holds(here)):
            return bind(equation, values), {}
        if here in self.loops:
            return self._while(equation.params, values, here)
        return super()._apply(equation, values, here)

    def _holds(self, here: Path) -> bool:
        return super()._holds(here) or any(place[: len(here)] == here for place in self.loops)

    def _taken(self, results: list[Any], here: Path) -> tuple[list[Any], Moments]:
        if here not in self.taps or not jnp.issubdtype(results[0].dtype, np.inexact):
            return results, {}
        return [tapped(results[0], self.taps[here]), *results[1:]], {}

    def _within(self, here: Path) -> dict[Path, Array]:
        return {place: tap for place, tap in self.taps.items() if place[: len(here)] == here}

    def _scan(self, equation: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        p = equation.params
        consts, carried = scan_counts(p["jaxpr"], values, [v.aval for v in equation.outvars])
        constants, carry, inputs = values[:consts], values[consts : consts + carried], values[consts + carried :]

        def step(carry: Any, given: Any) -> Any:
            inputs, taps = given
            own = dataclasses.replace(self, taps=taps)
            results, _ = own.run(p["jaxpr"], [*constants, *carry, *inputs], here)
            return results[:carried], results[carried:]

        whole = (inputs, self._within(here))
        final, outputs = lax.scan(step, carry, whole, length=p["length"], reverse=p["reverse"])
        return [*final, *outputs], {}

    def _while(self, params: Any, values: list[Any], here: Path) -> tuple[list[Any], Moments]:
        a, b = params["cond_nconsts"], params["body_nconsts"]
        conditions, constants, carry = values[:a], values[a : a + b], values[a + b :]
        taps = self._within(here)

        def run(which: int, program: str, arguments: Sequence[Any], found: Sequence[Any]) -> list[Any]:
            # A loop is one axis for the measured moments too, of length 1.
            own = dataclasses.replace(self, taps={p: tap[0] for p, tap in zip(taps, found, strict=True)})
            return own.run(params[program], arguments, (*here, which))[0]

        def check(state: Sequence[Any], operands: Sequence[Any]) -> Any:
            return run(CONDITION, "cond_jaxpr", [*operands[:a], *state], operands[a + b :])[0]

        def step(state: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
            return run(BODY, "body_jaxpr", [*operands[a : a + b], *state], operands[a + b :])

        return looped(check, step, carry, [*conditions, *constants, *taps.values()]), {}


def loops_of(program: Any, opened: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The loops of unknown length whose state has derivatives, in functions with own ones where these are opened."""
    return frozenset(
        here
        for here, equation, own in equations(program)
        if equation.primitive.name == "while"
        and (own is None or own in opened)
        and any(jnp.issubdtype(v.aval.dtype, np.inexact) for v in equation.outvars)
    )


def hidden(program: Any, places: frozenset[Path]) -> dict[Path, Path]:
    """Those of the places that lie within a function that has a derivative of its own, and where that is."""
    return {here: own for here, _, own in equations(program) if own is not None and here in places}


def equations(program: Any, place: Path = (), own: Path | None = None) -> Iterator[tuple[Path, Any, Path | None]]:
    """All equations, where they are, and where the function with a derivative of its own that they are in, if any."""
    for number, equation in enumerate(getattr(program, "jaxpr", program).eqns):
        here = (*place, number)
        yield here, equation, own
        around = here if own is None and equation.primitive.name in OWN_DERIVATIVE else own
        for site, inner in _programs(equation):
            yield from equations(inner, (*here, *site), around)


def _programs(equation: Any) -> list[tuple[Path, Any]]:
    """The programs that an equation holds, and how places in them go on."""
    name, p = equation.primitive.name, equation.params
    if name == "cond":
        return [((k,), branch) for k, branch in enumerate(p["branches"])]
    if name == "while":
        return [((CONDITION,), p["cond_jaxpr"]), ((BODY,), p["body_jaxpr"])]
    inner = program_of(p) if name in (*CALLS, "scan") else None
    return [] if inner is None else [((), inner)]
