"""Which builder made a variable, and from which key: read off the program that initializes a model.

Our initializers name what they draw in the program. Followed backwards from a variable through calls, scans and
reshapes, the name says how to draw it again, and a part of the program computes the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
from jax import Array, lax
from jax.interpreters import partial_eval

from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._initializers._specification import FACTOR, KEY, LABEL
from qrjax._rules._control import CALLS, program_of, scan_counts

# What passes values on as they are, or in another shape or type, which the shapes and types then tell.
PASSING = ("reshape", "name", COMPILED_ONCE, "sharding_constraint", "convert_element_type", "copy", "copy_p")

Evaluate = Callable[[Sequence[Any]], Array]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a variable is called where it was drawn, and how to compute the words of its key.

    Attributes:
      label: the name.
      dtypes: those that the variable had on its way, from the builder on.
      words: program's arguments -> the words; axes in front for every scan and vmap around the builder.
    """

    label: str
    dtypes: tuple[Any, ...]
    words: Evaluate


def found(closed: Any, number: int) -> Found | None:
    """Where output `number` of a program was drawn; None where that is not plain to see."""
    return _follow(closed.jaxpr, closed.consts, closed.jaxpr.outvars[number], ())


def _follow(jaxpr: Any, consts: Sequence[Any], var: Any, dtypes: tuple[Any, ...]) -> Found | None:
    makers = {output: equation for equation in jaxpr.eqns for output in equation.outvars}
    while not isinstance(var, jax.extend.core.Literal) and var in makers:
        equation = makers[var]
        name = equation.primitive.name
        dtypes = (var.aval.dtype, *dtypes)
        label = equation.params.get("name") if name == "name" else None
        if label is not None and label.startswith((LABEL, FACTOR)):
            return _labelled(jaxpr, consts, label, dtypes)
        if name in CALLS:
            return _called(jaxpr, consts, equation, equation.outvars.index(var), dtypes)
        if name == "scan":
            return _scanned(jaxpr, consts, equation, equation.outvars.index(var), dtypes)
        if name not in PASSING or equation.params.get("dimensions") is not None:
            return None
        var = equation.invars[0]
    return None


def repeated(closed: Any, number: int) -> Any:
    """The value that output `number`, which depends on no argument, repeats; None where that is not plain to see."""
    jaxpr, var = closed.jaxpr, closed.jaxpr.outvars[number]
    makers = {output: equation for equation in jaxpr.eqns for output in equation.outvars}
    while not isinstance(var, jax.extend.core.Literal) and var in makers:
        equation = makers[var]
        name = equation.primitive.name
        if name == "broadcast_in_dim" and equation.invars[0].aval.shape == ():
            return _run(jaxpr, closed.consts, [None] * len(jaxpr.invars), equation.invars)[0]
        if name not in PASSING or name == "convert_element_type":
            return None
        var = equation.invars[0]
    return None


def _labelled(jaxpr: Any, consts: Sequence[Any], label: str, dtypes: tuple[Any, ...]) -> Found | None:
    keys = [e.outvars[0] for e in jaxpr.eqns if e.primitive.name == "name" and e.params["name"] == KEY]
    if len(keys) != 1:
        return None
    return Found(label, dtypes, lambda arguments: _run(jaxpr, consts, arguments, keys)[0])


def _called(jaxpr: Any, consts: Sequence[Any], equation: Any, number: int, dtypes: tuple[Any, ...]) -> Found | None:
    body, inner_consts = _body(equation)
    inside = _follow(body, inner_consts, body.outvars[number], dtypes)
    if inside is None:
        return None

    def words(arguments: Sequence[Any]) -> Array:
        return inside.words(_run(jaxpr, consts, arguments, equation.invars))

    return Found(inside.label, inside.dtypes, words)


def _scanned(jaxpr: Any, consts: Sequence[Any], equation: Any, number: int, dtypes: tuple[Any, ...]) -> Found | None:
    p = equation.params
    operands, results = ([v.aval for v in variables] for variables in (equation.invars, equation.outvars))
    fixed, carried = scan_counts(p["jaxpr"], operands, results)
    if number < carried:
        return None
    body, inner_consts = p["jaxpr"].jaxpr, p["jaxpr"].consts
    inside = _follow(body, inner_consts, body.outvars[number], dtypes)
    if inside is None:
        return None

    def words(arguments: Sequence[Any]) -> Array:
        operands = _run(jaxpr, consts, arguments, equation.invars)
        constants, carry, inputs = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]

        def step(carry: Any, x: Any) -> tuple[Any, Array]:
            values = [*constants, *carry, *x]
            return _run(body, inner_consts, values, body.outvars[:carried]), inside.words(values)

        result: Array = lax.scan(step, list(carry), list(inputs), length=p["length"], reverse=p["reverse"])[1]
        return result

    return Found(inside.label, inside.dtypes, words)


def _body(equation: Any) -> tuple[Any, Sequence[Any]]:
    body = program_of(equation.params)
    return (body.jaxpr, body.consts) if hasattr(body, "consts") else (body, ())


def _run(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    """Some of a program's variables, computed without the rest."""
    literal = jax.extend.core.Literal
    variables = [v for v in wanted if not isinstance(v, literal)]
    shorter = jaxpr.replace(outvars=variables, debug_info=jaxpr.debug_info.with_unknown_names())
    part, used = partial_eval.dce_jaxpr(shorter, [True] * len(variables))
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    closed = jax.extend.core.ClosedJaxpr(part, [known[v] for v in part.constvars])
    kept = [a for a, use in zip(arguments, used, strict=True) if use]
    values = iter(jax.extend.core.jaxpr_as_fun(closed)(*kept))
    return [v.val if isinstance(v, literal) else next(values) for v in wanted]
