"""Functions of weights: told apart from signals, sized where they meet one.

What the model's input has no part in has a recipe (`qrjax._signals._recipe`). Such a value that parameters went into
is a weight still, however it was made of them, until it meets a signal. Where it is contracted with one, its
parameters get the scale that the output needs. Where it is added to one or meets it otherwise after a layer of its
own, such as positions that went through a Dense, it was a signal all along: it is walked again as one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qrjax._interpreter._binding import bind
from qrjax._interpreter._laws import scaled
from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Value, as_data, derived, described, recipe_of, tagged
from qrjax._rules._sampling import drawn
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._recipe import Key, Recipe
from qrjax._signals._signal import Signal

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

# What sums over a parameter's axis, or looks up in it: the operands that may be the weight.
SUMS = {"dot_general": (0, 1), "conv_general_dilated": (1,), "ragged_dot": (1,), "ragged_dot_general": (1,),
        "gather": (0,)}  # fmt: skip
# Sums of products of what was drawn.
PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
# Functions of whole matrices, whose laws are not those of exchangeable elements.
MATRICES = frozenset({"custom_linear_solve", "triangular_solve", "cholesky", "lu", "householder_product", "geqrf", "qr",
                      "eigh", "eig", "svd", "schur", "tridiagonal_solve"})  # fmt: skip
# A layer's own nonlinearity: weights are not passed through these after a sum.
SQUASHING = frozenset({"tanh", "logistic", "erf", "erfc", "sin", "cos"})


# -- what a value is ----------------------------------------------------------------------------------------------


def untold(x: Signal) -> Signal:
    """The signal as one whose making does not matter."""
    if isinstance(x, ComplexSignal):
        return dataclasses.replace(x.each(untold), weight=None, recipe=None)
    return dataclasses.replace(x, weight=None, recipe=None)


def leaves_of(value: Value) -> Mapping[Key, Any]:
    recipe = recipe_of(value)
    return {} if recipe is None else recipe.leaves


def told(walk: Walk, eqn: Any, equation: Equation, values: list[Value], results: list[Value]) -> list[Value]:
    """The results with their recipes, or as data where an operand is."""
    # Which slice is taken does not make a weight less of one.
    deciding = values[:1] if equation.name == "dynamic_slice" else values
    return [_told(walk, eqn, equation, deciding, values, r, i) for i, r in enumerate(results)]


def _told(
    walk: Walk, eqn: Any, equation: Equation, deciding: list[Value], values: list[Value], result: Value, number: int
) -> Value:
    kind = derived(deciding, lambda *_: []) or _modulated(equation, values)
    if kind is None:
        return as_data(result)
    if isinstance(result, Known) and kind.leaves:
        result = described(result)  # a sample of what has no rule
    if isinstance(result, Known):
        flags = (False, kind.noise or result.random, kind.state)
        return result if flags == (result.data, result.random, result.state) else Known(result.array, *flags)
    if not isinstance(result, Signal):
        return result
    if result.weight is not None and result.weight.key not in kind.leaves:
        return tagged(result)  # a layer of a stack
    if kind.noise and equation.name in PRODUCTS and all(r is not None and r.noise for r in map(recipe_of, values)):
        kind = dataclasses.replace(kind, summed=True)
    if kind.leaves:
        if equation.name in SUMS:
            kind = dataclasses.replace(kind, summed=True, acts=kind.acts or _acts(equation, values))
        elif equation.name in MATRICES:
            kind = dataclasses.replace(kind, matrix=True)
        elif kind.summed and _activates(equation, values):
            kind = dataclasses.replace(kind, acts=True)
        note, make = (eqn, walk.place()), walk.rule(eqn, equation)
        kind = dataclasses.replace(kind, operands=values, make=make, number=number, note=note, step=eqn)
    return dataclasses.replace(result, recipe=kind)


def _modulated(equation: Equation, values: list[Value]) -> Recipe | None:
    """The recipe of weights times a signal that is the same for many of them: each example has weights of its own."""
    if equation.name not in ("mul", "div") or sum(map(bool, map(leaves_of, values))) != 1:
        return None
    weight, signal = sorted(values, key=lambda v: not leaves_of(v))
    recipe = recipe_of(weight)
    assert recipe is not None
    shared = set(_broadcast_axes(signal, equation.shape)) - set(_broadcast_axes(weight, equation.shape))
    if recipe.summed or not shared or (equation.name == "div" and weight is not values[0]):
        return None
    return dataclasses.replace(recipe, data=True)


def _acts(equation: Equation, values: list[Value]) -> bool:
    """Whether a sum of what the input has no part in is a layer that constants go through, or a look-up."""
    if equation.name == "gather":
        return math.prod(equation.shape) > math.prod(values[0].shape)
    first = recipe_of(values[0])
    is_constant = first is not None and not first.leaves and not first.state
    return is_constant and bool(leaves_of(values[1]))


def _activates(equation: Equation, values: list[Value]) -> bool:
    """Whether a bias is added after a sum, or the result goes through a nonlinearity."""
    if equation.name in SQUASHING:
        return True
    return equation.name == "add" and any(map(_is_bias, values))


def _is_bias(value: Value) -> bool:
    recipe = recipe_of(value)
    laws = [] if recipe is None or recipe.summed else list(recipe.leaves.values())
    return bool(laws) and all(law.is_constant and law.size == max(law.shape) for law in laws)


# -- meeting a signal ---------------------------------------------------------------------------------------------


def meeting(walk: Walk, equation: Equation, values: list[Value]) -> list[Value]:
    """The operands, where some are signals and others made of weights: as what these act here."""
    if walk.trial or walk.twin is not None or len(values) < 2:
        return values
    recipes = [recipe_of(v) for v in values]
    with_recipes = list(zip(values, recipes, strict=True))
    if all(r is not None for r in recipes):
        if equation.name in SUMS and any(map(leaves_of, values)):
            return [as_data(v) if r is not None and r.noise and not r.leaves else v for v, r in with_recipes]
        return values
    if equation.name == "dynamic_slice":
        return values
    return [_met(walk, equation, values, i) if leaves_of(v) else v for i, v in enumerate(values)]


def _met(walk: Walk, equation: Equation, values: list[Value], place: int) -> Value:
    value = values[place]
    recipe = recipe_of(value)
    assert recipe is not None
    if place in SUMS.get(equation.name, ()):
        acts = recipe.summed and (recipe.acts or bool(_broadcast_axes(value, tuple(value.shape))))
        return resolved(walk, value) if acts else value
    if equation.name in MATRICES or _waves_alone(value):
        _left(walk, equation, recipe)
        return as_data(sampled(value, as_it_is))
    if recipe.matrix and not recipe.acts:  # such as a determinant
        _left(walk, equation, recipe)
        return as_data(sampled(value, lambda law: _as_decided(walk, law)))
    if recipe.summed:
        return resolved(walk, value)
    if _modulated(equation, values):
        return value
    _left(walk, equation, recipe)
    return value


def _left(walk: Walk, equation: Equation, recipe: Recipe) -> None:
    for key, law in recipe.leaves.items():
        if not law.is_constant:
            walk.met.setdefault(key, (equation.name, law.shape))


def _waves_alone(value: Value) -> bool:
    """Whether parameters alone, some made complex, were summed with one another, as a filter of a state space is made.

    Powers at successive places are no exchangeable elements; and nothing goes through a layer here.
    """
    waiting, seen, has_waves, has_sum = [value], set(), False, False
    while waiting:
        recipe = recipe_of(waiting.pop())
        if recipe is None or not recipe.operands or id(recipe.operands) in seen:
            continue
        seen.add(id(recipe.operands))
        if recipe.note is None:
            return False
        name = recipe.note[0].primitive.name
        if name in SUMS and not all(map(leaves_of, recipe.operands[:2])):
            return False
        if not all(leaves_of(o) or isinstance(o, Known) or described(o).is_constant for o in recipe.operands):
            return False  # a constant of which the walk has the law alone
        has_sum = has_sum or name in SUMS or name == "reduce_sum"
        has_waves = has_waves or any(isinstance(o, ComplexSignal) for o in recipe.operands)
        waiting += recipe.operands
    return has_waves and has_sum


def _broadcast_axes(value: Value, shape: tuple[int, ...]) -> list[int]:
    """The axes along which nothing differs, as that of the examples of what is the same for all."""
    value = value.re if isinstance(value, ComplexSignal) else value
    if not isinstance(value, Signal) or value.is_constant or value.ndim != len(shape):
        return []
    ones = [(axis, tuple(int(a == axis) for a in range(value.ndim))) for axis, n in enumerate(shape) if n > 1]
    return [axis for axis, one in ones if value.shape[axis] == 1 or value.rho[one] >= 1.0]


def resolved(walk: Walk, value: Value) -> Value:
    """What was made of weights walked again as a signal, with rows for its layers."""

    def make(recipe: Recipe, operands: list[Value]) -> list[Value]:
        known = walk.resolved.get(id(recipe.operands))
        if known is None:
            if recipe.note is None:
                assert recipe.make is not None
                results = list(recipe.make(*operands))
            else:
                eqn, place = recipe.note
                results = walk.again(eqn, place, _as_signals(eqn.primitive.name, operands))
                if walk.tape is not None:
                    walk.tape.again(recipe.operands, results)
            known = walk.resolved[id(recipe.operands)] = (recipe.operands, results)
        return known[1]

    return as_data(followed(value, make, lambda leaf: leaf))


def _as_signals(name: str, operands: list[Value]) -> list[Value]:
    """The operands of a sum, with the one that is no weight as a signal."""
    if name not in SUMS or any(recipe_of(o) is None for o in operands[:2]):
        return operands
    if name == "gather":
        return [operands[0], *map(as_data, operands[1:])]
    x = 1 if leaves_of(operands[0]) and not leaves_of(operands[1]) else 0
    return [as_data(o) if i == x else o for i, o in enumerate(operands)]


def followed(value: Value, make: Callable[[Recipe, list[Value]], list[Value]], leaf: Callable[[Any], Value]) -> Value:
    """A value made again from its recipe: each step once, its parameters by `leaf`."""
    made: dict[int, list[Value]] = {}

    def found(v: Value) -> Value | None:
        recipe = recipe_of(v)
        if recipe is None or not recipe.leaves:
            return v
        if recipe.make is None:
            return leaf(v)
        results = made.get(id(recipe.operands))
        return None if results is None else results[recipe.number]

    waiting = [value]
    while waiting:
        last = waiting[-1]
        if found(last) is not None:
            waiting.pop()
            continue
        recipe = recipe_of(last)
        assert recipe is not None
        missing = [o for o in recipe.operands if found(o) is None]
        if missing:
            waiting += missing
            continue
        made[id(recipe.operands)] = make(recipe, [_present(found(o)) for o in recipe.operands])
    return _present(found(value))


def _present(value: Value | None) -> Value:
    assert value is not None
    return value


def as_it_is(law: Signal) -> Signal:
    """A parameter with its own elements, where they are at hand: what an iteration finds in them no law tells."""
    assert law.weight is not None
    own = law.weight.own
    return untold(law) if own is None or law.weight.layer else dataclasses.replace(untold(law), array=own)


def _as_decided(walk: Walk, law: Signal) -> Signal:
    """A parameter at the scale that was decided for it, else with its own elements."""
    assert law.weight is not None
    variance = walk.gains.variances.get(law.weight.key)
    if variance is None or not law.second_moment > 0:
        return as_it_is(law)
    return scaled(untold(law), math.sqrt(variance / law.second_moment))


def sampled(value: Value, leaf: Callable[[Any], Signal]) -> Value:
    """A value made from actual arrays: an iteration that has met a parameter before knows it, as no law tells."""
    draws: dict[Any, Any] = {}

    def array(v: Value) -> Known:
        return v if isinstance(v, Known) else Known(drawn(described(v), draws))

    def make(recipe: Recipe, operands: list[Value]) -> list[Value]:
        arrays = list(map(array, operands))
        if recipe.note is None:
            assert recipe.make is not None
            return list(recipe.make(*arrays))
        with jax.ensure_compile_time_eval():  # arrays that exist, within a program that is being traced
            return [Known(np.asarray(r)) for r in bind(recipe.note[0], [v.array for v in arrays])]

    return followed(value, make, lambda law: array(leaf(law)))
