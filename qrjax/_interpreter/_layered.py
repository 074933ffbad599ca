"""Layers of what was made of stacked parameters: each layer's function of its own parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from qrjax._interpreter._binding import evaluation
from qrjax._interpreter._derived import followed, leaves_of
from qrjax._rules._elementwise import NAMES
from qrjax._rules._equations import Equation
from qrjax._rules._operands import Value, derived, tagged
from qrjax._rules._registry import STRUCTURAL
from qrjax._signals._recipe import Recipe
from qrjax._signals._signal import Signal

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

Slicing = Callable[[Value], Value]
# What takes a layer out of a stack, one after the other.
TAKING = frozenset({"slice", "squeeze", "unstack"})


def taken(walk: Walk, equation: Equation, values: list[Value]) -> list[Value] | None:
    """One layer, or all of them, of a function of stacked parameters; None if it is anything else that happens."""
    if walk.trial or equation.name not in TAKING or not _takes_one(equation, values[0]):
        return None

    def part(number: int) -> Slicing:
        def sliced(value: Value) -> Value:
            made: Any = STRUCTURAL[equation.name](equation, value)
            one = made[number] if isinstance(made, (list, tuple)) else made
            return tagged(one) if isinstance(one, Signal) and one.weight is not None else one

        return sliced

    found = [layer(walk, values[0], part(i), tuple(o.shape)) for i, o in enumerate(equation.outputs)]
    return None if any(f is None for f in found) else [f for f in found if f is not None]


def _takes_one(equation: Equation, value: Value) -> bool:
    if equation.name != "slice":
        return True
    cut = [m for n, m in zip(value.shape, equation.shape, strict=True) if n != m]
    return cut == [1]


def layer(walk: Walk, value: Value, sliced: Slicing, shape: tuple[int, ...]) -> Value | None:
    """A part of this shape of an elementwise function of parameters, as that function of their parts; else None."""
    if not isinstance(value, Signal) or value.weight is not None or not leaves_of(value):
        return None
    steps: list[Recipe] = []
    followed(value, lambda recipe, operands: _seen(steps, recipe, operands), lambda leaf: leaf)
    if not all(_is_by_layer(step, value.shape) for step in steps):
        return None
    return followed(value, lambda recipe, operands: [_one(walk, recipe, operands, sliced, shape)], sliced)


def _seen(steps: list[Recipe], recipe: Recipe, operands: list[Value]) -> list[Value]:
    """Takes down a step, whose result is not needed."""
    steps.append(recipe)
    return operands[:1]


def _is_by_layer(recipe: Recipe, whole: tuple[int, ...]) -> bool:
    """Whether a step does with each layer what it does with the stack."""
    if recipe.data or recipe.summed or recipe.make is None:
        return False
    shapes = [tuple(v.shape) for v in recipe.operands]
    return recipe.step is not None and recipe.step.primitive.name in NAMES and all(s in ((), whole) for s in shapes)


def _one(walk: Walk, recipe: Recipe, operands: list[Value], sliced: Slicing, shape: tuple[int, ...]) -> Value:
    """One step for one layer."""
    eqn = recipe.step
    own = [sliced(was) if v is was and v.shape else v for was, v in zip(recipe.operands, operands, strict=True)]
    outputs = [jax.ShapeDtypeStruct(shape, v.aval.dtype) for v in eqn.outvars]
    rule = walk.rule(eqn, Equation(eqn.primitive.name, eqn.params, outputs, evaluation(eqn), walk, id(eqn)))
    made = rule(*own)[recipe.number]
    told = derived(own, rule, recipe.number)
    if not isinstance(made, Signal) or told is None:
        return made
    return dataclasses.replace(made, recipe=dataclasses.replace(told, step=eqn))
