"""Predicted and measured moments of one function or module, for the tables of tests in this folder."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter._model import laws_of
from qrjax._rules._operands import Opaque, described
from qrjax._signals._signal import Signal

# Issue 3: predicted within 5 % of the measured second moment.
WITHIN = 0.05


def normal(*shape, mean=0.0, variance=1.0):
    """The law of an input, and how it is drawn."""
    return Signal.normal(shape, mean, variance)


def shape_of(law):
    return jax.ShapeDtypeStruct(law.shape, law.dtype)


def takes_key(function):
    return "key" in inspect.signature(function).parameters


def predicted(function, *laws):
    """The law of function(*arrays), or with a random key after them; no weights."""
    keys = [jax.random.key(0)] if takes_key(function) else []
    # One law given twice stands for two independent arrays.
    laws = [Signal.normal(law.shape, law.mean, law.variance) for law in laws]
    program = jax.make_jaxpr(function)(*map(shape_of, laws), *keys)
    found = [described(value) for value in laws_of(program, [*laws, *[Opaque(()) for _ in keys]])]
    return found[0] if len(found) == 1 else found


def drawn(laws, draws):
    """Actual arrays of normal laws, with a leading axis of draws."""
    generator = np.random.Generator(np.random.PCG64(1))
    noise = [generator.standard_normal((draws, *law.shape), np.float32) for law in laws]
    return [np.float32(law.mean) + np.float32(law.variance**0.5) * z for law, z in zip(laws, noise, strict=True)]


def mapped(function, *arguments):
    """The function over leading axes, compiled fast rather than to run fast; in double precision afterwards."""
    compiled = jax.jit(jax.vmap(function), compiler_options={"xla_backend_optimization_level": 0})
    return np.asarray(compiled(*arguments), np.float64)


def measured(function, *laws, draws=32):
    """The mean and the second moment of the function's output, over several draws."""
    keys = [jax.random.split(jax.random.key(2), draws)] if takes_key(function) else []
    y = mapped(function, *drawn(laws, draws), *keys)
    return y.mean(), np.square(y).mean()


def agrees(law, second_moment, within=WITHIN):
    """Whether a predicted second moment is the measured one."""
    message = f"second moment {law.second_moment:.5g} predicted, {second_moment:.5g} measured"
    assert law.second_moment == pytest.approx(second_moment, rel=within, abs=1e-12), message


def function_agrees(function, *laws, draws=32, within=WITHIN):
    """Predicted against measured, for a function without weights."""
    law, (mean, second_moment) = predicted(function, *laws), measured(function, *laws, draws=draws)
    agrees(law, second_moment, within)
    # The mean as far as it matters beside the spread.
    assert abs(law.mean - mean) <= within * np.sqrt(second_moment), f"mean {law.mean} predicted, {mean} measured"


def module_agrees(module, *laws, draws=16, within=WITHIN, names=(), arrays=None, **options):
    """Predicted against measured, for the whole of a Linen module as autoinit initializes it.

    `arrays` are actual inputs with a leading axis of draws, where they are not normal.
    """
    options = {"source": "hash", "distribution": "uniform"} | options  # what compiles fastest
    shapes = [shape_of(law) for law in laws]
    numbers = {"input_mean": laws[0].mean, "input_variance": laws[0].variance, "rngs": names}
    walk = {name: option for name, option in options.items() if name in ("layout", "select", "target")}
    report = qrjax.analyze(module, *shapes, **numbers, **walk)

    def forward(seed, *inputs):
        variables = qrjax.autoinit(module, *shapes, seed=seed, **numbers, **options)
        streams = {name: jax.random.fold_in(jax.random.key(7), seed) for name in names}
        # The call may write to everything but the parameters.
        return module.apply(variables, *inputs, rngs=streams, mutable=[n for n in variables if n != "params"])[0]

    y = mapped(forward, jnp.arange(draws), *(drawn(laws, draws) if arrays is None else arrays))
    agrees(report.rows[-1], np.square(y).mean(), within)
    return report
