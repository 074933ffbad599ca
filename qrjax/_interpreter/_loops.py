"""Loops of unknown length that can be differentiated: going back, each step is computed again from the start.

JAX has no reverse mode for these. The states of all steps would need memory of a size that is not known; computing
them again takes as many steps squared, which for a measurement is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Arrays = Sequence[Any]
# (state, operands) -> whether to go on, or the next state.
Step = Callable[[Arrays, Arrays], Any]


def looped(check: Step, step: Step, state: Arrays, operands: Arrays) -> list[Any]:
    """The state after the last step."""
    state, operands = ([jnp.asarray(a) for a in arrays] for arrays in (state, operands))
    split, joined = _divided(state)
    own_split, own_joined = _divided(operands)

    @jax.custom_vjp
    def run(numbers: Arrays, rest: Arrays, own: Arrays, own_rest: Arrays) -> list[Any]:
        return _forward(check, step, joined(numbers, rest), own_joined(own, own_rest))[0]

    def forward(numbers: Arrays, rest: Arrays, own: Arrays, own_rest: Arrays) -> Any:
        final, count = _forward(check, step, joined(numbers, rest), own_joined(own, own_rest))
        return final, (numbers, rest, own, own_rest, count)

    def backward(kept: Any, cotangents: Arrays) -> Any:
        numbers, rest, own, own_rest, count = kept
        start, given = joined(numbers, rest), own_joined(own, own_rest)

        def back(state: Any) -> Any:
            number, cotangent, total = state
            before = lax.fori_loop(0, number - 1, lambda _, s: step(s, given), start)
            floats, others = split(before)
            _, pull = jax.vjp(lambda f, o: split(step(joined(f, others), own_joined(o, own_rest)))[0], floats, own)
            cotangent, more = pull(cotangent)
            return number - 1, cotangent, jax.tree.map(jnp.add, total, more)

        begin = (count, split(cotangents)[0], [jnp.zeros_like(a) for a in own])
        _, cotangent, total = lax.while_loop(lambda s: s[0] > 0, back, begin)
        return cotangent, None, total, None

    run.defvjp(forward, backward)
    return run(*split(state), *own_split(operands))


def _forward(check: Step, step: Step, state: Arrays, operands: Arrays) -> tuple[list[Any], Any]:
    """The last state, and after how many steps."""

    def following(found: Any) -> Any:
        return list(step(found[0], operands)), found[1] + 1

    final: tuple[list[Any], Any] = lax.while_loop(
        lambda found: check(found[0], operands), following, (list(state), jnp.int32(0))
    )
    return final


def _divided(arrays: Arrays) -> tuple[Callable[[Arrays], Any], Callable[[Arrays, Arrays], list[Any]]]:
    """How to split such arrays into those that have derivatives and the others, and how to join them again."""
    has = [bool(jnp.issubdtype(a.dtype, np.inexact)) for a in arrays]

    def split(all_of_them: Arrays) -> tuple[list[Any], list[Any]]:
        pairs = list(zip(all_of_them, has, strict=True))
        return [a for a, own in pairs if own], [a for a, own in pairs if not own]

    def joined(numbers: Arrays, rest: Arrays) -> list[Any]:
        sources = iter(numbers), iter(rest)
        return [next(sources[not own]) for own in has]

    return split, joined
