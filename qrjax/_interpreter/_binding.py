"""One equation on actual values, through JAX's own evaluation of programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bind(equation: Any, values: Sequence[Any]) -> list[Any]:
    """The equation's outputs. How primitives take their parameters differs between versions of JAX, programs do not."""
    import jax.extend.core as core  # a third of the time that importing qrjax takes, so not before it is needed

    chosen = {v: x for v, x in zip(equation.invars, values, strict=True) if not isinstance(v, core.Literal)}
    program = core.Jaxpr(constvars=[], invars=list(chosen), outvars=list(equation.outvars), eqns=[equation])
    return list(core.jaxpr_as_fun(core.ClosedJaxpr(program, []))(*chosen.values()))
