"""How functions of one array at a few places pass what moves elements, and sums over their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Known, Value
from qrjax._rules._registry import FIRST, STRUCTURAL
from qrjax._signals._families import Family, family_of, signal_of
from qrjax._signals._signal import Signal

Table = NDArray[Any]


def moved_family(equation: Equation, values: Sequence[Value]) -> list[Value] | None:
    """The output at each of its places, where the operand is known at each."""
    move = MOVED.get(equation.name)
    if move is None or not isinstance(values[0], Signal) or equation.context.twin is not None:
        return None
    family = family_of(values[0])
    if family is None or len(equation.outputs) != 1:
        return None
    table = move(equation, family, values)
    if table is None:
        return None
    base = family.base
    if equation.name == "reduce_sum":
        summed = equation.params["axes"]
        rho = base.rho[tuple(0 if a in summed else slice(None) for a in range(base.ndim))]
        base = Signal(equation.shape, base.dtype, base.values, base.source, rho)
    else:
        moved = STRUCTURAL[equation.name](equation, base, *values[1:])
        if not isinstance(moved, Signal) or moved.source is None:
            return None
        base = Signal(moved.shape, base.dtype, base.values, moved.source, moved.rho)
    return [signal_of(base, table, equation.dtype)]


def _transposed(equation: Equation, family: Family, _values: Sequence[Value]) -> Table:
    return family.table.transpose(0, *(a + 1 for a in equation.params["permutation"]))


def _broadcast(equation: Equation, family: Family, values: Sequence[Value]) -> Table | None:
    shape, old = [1] * len(equation.shape), values[0].shape
    for axis, place in enumerate(equation.params["broadcast_dimensions"]):
        if family.places[axis] > 1 and old[axis] != equation.shape[place]:
            return None
        shape[place] = family.places[axis]
    return family.table.reshape(-1, *shape)


def _reshaped(equation: Equation, family: Family, values: Sequence[Value]) -> Table | None:
    """Axes of length 1 come and go; others must stay."""
    old, new = values[0].shape, equation.shape
    if [n for n in old if n > 1] != [n for n in new if n > 1] or equation.params.get("dimensions") is not None:
        return None
    kept = iter([p for n, p in zip(old, family.places, strict=True) if n > 1])
    return family.table.reshape(-1, *(next(kept) if n > 1 else 1 for n in new))


def _sliced(equation: Equation, family: Family, _values: Sequence[Value]) -> Table:
    p = equation.params
    strides = p["strides"] or (1,) * len(family.places)
    cuts = zip(p["start_indices"], p["limit_indices"], strides, family.places, strict=True)
    return family.table[(slice(None), *(slice(a, b, s) if n > 1 else slice(None) for a, b, s, n in cuts))]


def _sliced_at(equation: Equation, family: Family, values: Sequence[Value]) -> Table | None:
    starts = [int(v.array) for v in values[1:] if isinstance(v, Known)]
    if len(starts) != len(family.places):
        return None
    sizes = zip(starts, values[0].shape, equation.shape, family.places, strict=True)
    cuts = [(min(max(0, s), n - m), m, own) for s, n, m, own in sizes]
    return family.table[(slice(None), *(slice(s, s + m) if own > 1 else slice(None) for s, m, own in cuts))]


def _summed(equation: Equation, family: Family, values: Sequence[Value]) -> Table | None:
    """A sum of functions of one number is one, where the number is the same along the axes."""
    axes, shape = equation.params["axes"], values[0].shape
    pattern = tuple(int(a in axes) for a in range(len(shape)))
    if family.base.rho[pattern] < 1.0:
        return None
    copies = math.prod(shape[a] for a in axes if family.places[a] == 1)
    total: Table = family.table.sum(tuple(a + 1 for a in axes)) * copies
    return total


def _squeezed(equation: Equation, family: Family, _values: Sequence[Value]) -> Table:
    return np.squeeze(family.table, tuple(d % len(family.places) + 1 for d in equation.params["dimensions"]))


MOVED = {
    "transpose": _transposed, "broadcast_in_dim": _broadcast, "reshape": _reshaped, "squeeze": _squeezed,
    "slice": _sliced, "dynamic_slice": _sliced_at, "reduce_sum": _summed,
}  # fmt: skip
FIRST.append(moved_family)
