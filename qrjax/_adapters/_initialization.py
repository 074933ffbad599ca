"""Where variables come from: an initialization program, run in part or only walked, or arrays that exist already."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from qrjax._adapters._axes import with_axes
from qrjax._adapters._trace import abstract
from qrjax._interpreter._model import laws_of
from qrjax._interpreter._processes import gathered
from qrjax._interpreter._shards import in_shards
from qrjax._rules._operands import KNOWN_SIZE, Known, Opaque, Value
from qrjax._signals._recipe import NOISE
from qrjax._signals._signal import Signal


class Origin(NamedTuple):
    """The variables' shapes, their laws, how to compute some of them, and the program that does, if there is one."""

    shapes: Any
    laws: Callable[[], list[Value]]
    materialize: Callable[[Any, Sequence[bool]], list[Any]]
    program: Any = None


def origin(init: Callable[..., Any], arrays: Sequence[Any], variables: Any, sizes: Mapping[Any, int]) -> Origin:
    """From variables that exist already or, where they are None, from init(key, *arrays), which is only traced."""
    if variables is not None:
        values = jax.tree.leaves(variables)
        shapes = jax.tree.map(abstract, variables)
        laws = functools.cache(lambda: [law_of_array(value) for value in values])
        return Origin(shapes, laws, functools.partial(_chosen, values))
    inputs = [abstract(a) for a in arrays]
    # Variables are the same in all shards, so named axes, where they are needed, are gone from the program.
    (program, shapes), _ = with_axes(
        sizes,
        lambda axes: jax.make_jaxpr(in_shards(init, axes), return_shape=True)(jax.random.key(0), *inputs),
        {},
    )
    count = len(jax.tree.leaves(shapes))
    laws = functools.cache(functools.partial(_initial_laws, program, arrays, count))
    return Origin(shapes, laws, functools.partial(_initial_values, program, arrays), program)


def part_of(closed: Any, needed: Sequence[bool]) -> tuple[Any, list[bool]]:
    """The program of the needed outputs alone, and which arguments it takes."""
    body, used = partial_eval.dce_jaxpr(closed.jaxpr, list(needed))
    constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    return jax.extend.core.ClosedJaxpr(body, [constants[v] for v in body.constvars]), used


def run_part(closed: Any, needed: Sequence[bool], arguments: Sequence[Any]) -> list[Any]:
    """The needed outputs, computed without the others."""
    part, used = part_of(closed, needed)
    kept = [a for a, use in zip(arguments, used, strict=True) if use]
    run = jax.jit(jax.extend.core.jaxpr_as_fun(part))
    return list(run(*kept))


def _chosen(values: Sequence[Any], key: Any, needed: Sequence[bool]) -> list[Any]:
    """Variables that exist already."""
    del key
    return [value for value, need in zip(values, needed, strict=True) if need]


def law_of_array(value: Any) -> Value:
    """The law of an actual array: itself if it is small, else its mean and its variance, without a copy."""
    if not hasattr(value, "dtype"):
        return Known(np.asarray(value, abstract(value).dtype))
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Opaque(tuple(value.shape))
    if value.size <= KNOWN_SIZE:
        return Known(gathered(value))
    with jax.ensure_compile_time_eval():  # an array that exists, within a program that is being traced
        mean, variance = map(float, _moments(value))
    return Signal.normal(tuple(value.shape), mean, variance, np.dtype(value.dtype))


@jax.jit
def _moments(value: Any) -> tuple[Any, Any]:
    """Mean and variance, in one program."""
    return jnp.mean(value, dtype=jnp.float32), jnp.var(value.astype(jnp.float32))


def _initial_laws(program: Any, arrays: Sequence[Any], count: int) -> list[Value]:
    """The laws of the variables that an initialization program returns."""
    part, used = part_of(program, [True] * count)
    values: list[Value] = [Opaque(()), *(Opaque(np.shape(a)) for a in arrays)]
    laws = laws_of(part, [v for v, use in zip(values, used, strict=True) if use])
    iterated = [isinstance(law, Signal) and law.recipe is not None and law.recipe.summed for law in laws]
    if not any(iterated):
        return laws
    # Draws that were multiplied with each other, as by a power iteration: one of them says what no law does.
    with jax.ensure_compile_time_eval():
        drawn = iter(_initial_values(program, list(map(abstract, arrays)), jax.random.key(0), iterated))
        return [_as_drawn(next(drawn)) if by else law for law, by in zip(laws, iterated, strict=True)]


def _as_drawn(value: Any) -> Value:
    law = law_of_array(value)
    if isinstance(law, Signal):
        return dataclasses.replace(law, recipe=NOISE)
    return Known(law.array, random=True) if isinstance(law, Known) else law


def _filled(arrays: Sequence[Any]) -> list[Any]:
    """Inputs for the initialization of variables; where only shapes are known, zeros, which it hardly ever reads."""
    return [jax.numpy.zeros(a.shape, a.dtype) if isinstance(a, jax.ShapeDtypeStruct) else a for a in arrays]


def _initial_values(program: Any, arrays: Sequence[Any], key: Any, needed: Sequence[bool]) -> list[Any]:
    """The needed variables from an initialization program (key, inputs) -> variables."""
    return run_part(program, needed, [key, *_filled(arrays)])
