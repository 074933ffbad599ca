"""A few arrays laid side by side, worked on together and taken apart again, as what norms send between devices.

As one signal they are a mixture, from which no part comes back; so what they were is remembered beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Sequence

import jax
import numpy as np

from qrjax._rules._equations import Equation, Rule
from qrjax._rules._functions import Linear
from qrjax._rules._operands import Known, Opaque, Value, described
from qrjax._rules._registry import FIRST, STRUCTURAL
from qrjax._signals._combine import combine
from qrjax._signals._signal import Signal

# For a signal the axis along which parts of length 1 lie, and how to get one of them.
_STACKS: weakref.WeakKeyDictionary[Signal, tuple[int, Callable[[int], Value]]] = weakref.WeakKeyDictionary()
FEW = 8


def remembered(stack: Signal, axis: int, parts: Sequence[Signal]) -> Signal:
    """The stack, of parts of length 1 along the axis."""
    if len(parts) <= FEW and not stack.is_constant and all(p.shape[axis] == 1 for p in parts):
        _STACKS[stack] = (axis, parts.__getitem__)
    return stack


def carried(stack: Signal, changed: Signal) -> Signal:
    """The changed signal, which is made of the same parts."""
    if stack in _STACKS:
        _STACKS[changed] = _STACKS[stack]
    return changed


def part_at(x: Value, shape: tuple[int, ...], starts: Sequence[int]) -> Value | None:
    """The part that a slice takes, if it takes one."""
    if not isinstance(x, Signal) or x not in _STACKS:
        return None
    axis, at = _STACKS[x]
    whole = all(n == m for a, (n, m) in enumerate(zip(x.shape, shape, strict=True)) if a != axis)
    return at(starts[axis]) if whole and shape[axis] == 1 else None


def by_parts(rule: Rule, equation: Equation, operands: Sequence[Signal], result: Value) -> None:
    """Remembers that an elementwise rule acts on each part of a stack, where what it meets is a number."""
    held = [x for x in operands if x in _STACKS]
    if len(held) != 1 or not isinstance(result, Signal) or result.is_constant:
        return
    if any(x is not held[0] and not x.is_constant for x in operands):
        return
    axis, at = _STACKS[held[0]]

    @functools.cache
    def after(i: int) -> Value:
        return _of_one(rule, equation, operands, held[0], described(at(i)))

    _STACKS[result] = (axis, after)


def rearranged(
    stack: Value, result: Value, place: Callable[[int], int | None], rule: Callable[[Signal], Value]
) -> None:
    """Remembers that a rule acts on each part of a stack, whose axis it moves to another place, or takes away."""
    if not isinstance(stack, Signal) or stack not in _STACKS or not isinstance(result, Signal) or result.is_constant:
        return
    axis, at = _STACKS[stack]
    found = place(axis)
    if found is not None:
        _STACKS[result] = (found, functools.cache(lambda i: rule(described(at(i)))))


def _of_one(rule: Rule, equation: Equation, operands: Sequence[Signal], stack: Signal, part: Signal) -> Value:
    own = [part if x is stack else Signal.constant(x.mean, part.shape if x.ndim else (), x.dtype) for x in operands]
    outputs = [jax.ShapeDtypeStruct(part.shape, o.dtype) for o in equation.outputs]
    made = rule(dataclasses.replace(equation, outputs=outputs), *own)
    return made[0] if isinstance(made, Sequence) else made


def taken_apart(equation: Equation, values: Sequence[Value]) -> list[Value] | None:
    """The parts of a sum with a known array: those of the other summand, each with its own part of the array.

    Gates that lie side by side have biases of their own: ones for one of them and zeros for the others.
    """
    x = values[0]
    if equation.name not in ("slice", "split") or not isinstance(x, Signal) or x.mask is not None:
        return None
    if x.shift is None or x.recipe is not None or np.ptp(x.shift[1]) == 0:
        return None
    base, array = x.shift
    whole = Known(np.broadcast_to(array, x.shape))
    parts, arrays = _taken(equation, base), _taken(equation, whole)
    return [
        combine(Linear(np.add, (1.0, 1.0)), [described(p), described(a)], p.shape, x.dtype)
        for p, a in zip(parts, arrays, strict=True)
    ]


def _taken(equation: Equation, value: Value) -> list[Value]:
    made = STRUCTURAL[equation.name](equation, value)
    return [made] if isinstance(made, (Signal, Known, Opaque)) else list(made)


FIRST.append(taken_apart)
