"""`rule` and `module_rule`: what users teach the walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jax.extend.core import primitives

from qrjax._interpreter._model import checked
from qrjax._rules._equations import Equation
from qrjax._rules._modules import MODULES
from qrjax._rules._registry import CUSTOM, RULES, STRUCTURAL
from qrjax._signals._signal import Signal
from qrjax._terminal._names import meant
from qrjax._terminal._received import received

Function = TypeVar("Function", bound=Callable[..., Any])


def rule(primitive: Any) -> Callable[[Function], Function]:
    """Registers how signals pass a JAX primitive.

    The function is called as `function(*signals, **params)` with the primitive's inputs and parameters and
    returns a `qrjax.Signal`, or a list of them, of the shapes of its outputs. It comes before qrjax's own rules.
    Without a rule a primitive is sampled, and the report says so.

    Args:
      primitive: a primitive of JAX (`jax.extend.core.Primitive`) or its name.

    Returns:
      A decorator, which gives the function back.

    Raises:
      TypeError: if `primitive` is neither a primitive nor a name. In a walk, if the function returns no Signal.
      ValueError: if `primitive` is a name that JAX lacks but nearly has. In a walk, if a signal has the wrong shape
        or no finite second moment.

    Example:
      >>> import jax, jax.extend.core, numpy as np, qrjax
      >>> cube_p = jax.extend.core.Primitive("cube")
      >>> _ = cube_p.def_impl(lambda x: x**3)
      >>> _ = cube_p.def_abstract_eval(lambda x: x)
      >>> @qrjax.rule(cube_p)
      ... def cube(x):
      ...     return x.map(lambda values: values**3)
    """
    name = primitive if isinstance(primitive, str) else getattr(primitive, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"`primitive` must be a JAX primitive or its name, got {received(primitive)}")
    if isinstance(primitive, str):
        _check_name(name)

    def register(function: Function) -> Function:
        def apply(equation: Equation, *signals: Signal) -> list[Signal]:
            result = function(*signals, **equation.params)
            results = list(result) if isinstance(result, (list, tuple)) else [result]
            if len(results) != len(equation.outputs):
                raise ValueError(f"the rule of {name} must return {len(equation.outputs)} signals, got {len(results)}")
            pairs = zip(results, equation.outputs, strict=True)
            return [checked(signal, tuple(output.shape), f"the rule of {name}") for signal, output in pairs]

        CUSTOM[name] = apply
        return function

    return register


def _check_name(name: str) -> None:
    """Nothing, if this is the name of a primitive that JAX has, or not like any of these."""
    made = [getattr(primitive, "name", None) for primitive in vars(primitives).values()]
    known = {found for found in made if isinstance(found, str)} | RULES.keys() | STRUCTURAL.keys() | CUSTOM.keys()
    if name not in known and (question := meant(name, sorted(known))):
        raise ValueError(
            f"`primitive` must be one of JAX's by its name, got {name!r}{question} A primitive of your own is passed "
            "itself"
        )


def module_rule(kind: type) -> Callable[[Function], Function]:
    """Registers how signals pass a type of module, Linen or NNX, and the types derived from it.

    The function is called as `function(*signals)` with the module's inputs and returns a `qrjax.Signal`, or a list
    of them, for the module's outputs, in place of what the walk through its body finds.

    Args:
      kind: the class of the module.

    Returns:
      A decorator, which gives the function back.

    Raises:
      TypeError: if `kind` is no class. In a walk, if the function returns no Signal.
      ValueError: in a walk, if a signal has the wrong shape or no finite second moment.

    Example:
      >>> import flax.linen as nn, jax, qrjax
      >>> class Whiten(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         q, _ = jax.numpy.linalg.qr(x)
      ...         return q * x.shape[0] ** 0.5
      >>> @qrjax.module_rule(Whiten)
      ... def whitened(x):
      ...     return qrjax.Signal.normal(x.shape)
    """
    if not isinstance(kind, type):
        raise TypeError(f"`kind` must be a class of modules, got {kind!r}")

    def register(function: Function) -> Function:
        MODULES[kind] = function
        return function

    return register
