"""An entry of the table of models that nobody here wrote, and how their libraries' models become pairs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from zoo import Network


@dataclasses.dataclass(frozen=True)
class Wild(Network):
    """A public architecture, its authors' code unchanged, in a small setting.

    package: what it needs, imported by `build` alone.
    """

    package: str = ""


def flax_module(model: Any) -> Any:
    """The Linen module within one of transformers' models."""
    return model.module


def equinox_pair(make: Callable[[jax.Array], Any], call: Callable[..., Any]) -> tuple[Any, Any]:
    """The pair of an Equinox module: its arrays of floats are the parameters, all else belongs to the program.

    make: a key to the module. call: the module and the inputs to the outputs.
    """
    import equinox as eqx

    fixed = eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)[1]

    def init(key, *_inputs):
        return eqx.filter(make(key), eqx.is_inexact_array)

    def apply(params, *inputs):
        return call(eqx.combine(params, fixed), *inputs)

    return init, apply


def haiku_pair(function: Callable[..., Any]) -> tuple[Any, Any]:
    """The pair of a function that makes and calls Haiku modules; statistics are as they start."""
    import haiku as hk

    both = hk.transform_with_state(function)

    def init(key, *inputs):
        return both.init(key, *inputs)[0]

    def apply(params, *inputs):
        state = jax.eval_shape(both.init, jax.random.key(0), *inputs)[1]
        # Statistics that a call in training writes and does not read.
        empty = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), state)
        return both.apply(params, empty, jax.random.key(0), *inputs)[0]

    return init, apply


def keras_pair(make: Callable[[], Any], **options: Any) -> tuple[Any, Any]:
    """The pair of a built Keras model, by the names of its variables; statistics and seeds are as they start."""
    import keras

    keras.utils.clear_session(free_memory=False)  # names count the layers that were made before
    keras.utils.set_random_seed(0)  # else weights and dropout have seeds of Python's, others for each model made
    model = make()
    places = [variable.path for variable in model.trainable_variables]
    assert len(set(places)) == len(places)

    def init(_key, *_inputs):
        return dict(zip(places, [variable.value for variable in model.trainable_variables], strict=True))

    def apply(params, *inputs):
        fixed = [variable.value for variable in model.non_trainable_variables]
        arguments = inputs if len(inputs) == 1 else (list(inputs),)
        return model.stateless_call([params[p] for p in places], fixed, *arguments, **options)[0]

    return init, apply


def normal(*shape: int, mean: float = 0.0) -> Callable[[int], tuple[np.ndarray]]:
    """Standard normal inputs, by a seed."""
    return lambda seed: (mean + np.random.default_rng(seed).standard_normal(shape, np.float32),)
