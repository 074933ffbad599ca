"""Functions of one array and of known ones: what they are at each of a few places.

The pieces of a spline, the degrees of a polynomial, the centres of bumps lie along an axis of their own: element k is
f_k(x), of one x for all k. Taken for one typical element it would be a function of x and of an independent number, and
where such functions meet again, as in the recursion of B-splines, their joint law would be lost. So each f_k is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._signals import _tables
from qrjax._signals._blocks import Blocks
from qrjax._signals._joint import Function, finite, source_tables, ties
from qrjax._signals._masks import KEPT, compacted
from qrjax._signals._quadrature import NODES, ORDERS, WEIGHTS, Floats, correlation, hermite, hermite_squares, quantiles
from qrjax._signals._responses import pair_moments
from qrjax._signals._signal import Signal, related
from qrjax._signals._tables import Shape

# Places that are told apart at most, and functions of functions of ... that wait to be asked for.
PLACES, DEPTH = 512, 64
_PROJECTION = hermite(NODES, ORDERS) * WEIGHTS


@dataclasses.dataclass(eq=False)
class Family:
    """What an array is at each place of another one.

    Attributes:
      base: that array's source, as a normal array of this one's shape.
      places: the shape of the places that are told apart: length 1 along axes where the function is the same.
      make: gives the functions' values at the nodes, of shape (nodes, *places).
      law: the values of the signal that this is about; a signal with others is another function.
    """

    base: Signal
    places: Shape
    make: Callable[[], NDArray[Any]]
    law: Floats
    depth: int = 0

    @functools.cached_property
    def table(self) -> NDArray[Any]:
        return np.asarray(self.make(), np.float64)

    def tells_of(self, x: Signal) -> bool:
        """Whether it is still about this signal, which may have been changed since."""
        return self.law is x.values and self.base.shape == x.shape

    def strengths(self) -> NDArray[Any]:
        """The second moments at the places, relative to their mean."""
        moments = np.tensordot(WEIGHTS, self.table**2, 1)
        found: NDArray[Any] = moments / moments.mean() if moments.any() else np.ones_like(moments)
        return found

    def sampled(self, fiber: Any) -> Floats:
        """The values on a sample of rows of an array of this shape, each place as often as the array has it."""
        function = fiber.taken(np.arange(math.prod(self.places)).reshape(self.places))
        table = self.table.reshape(NODES.size, -1)
        found = np.empty_like(fiber.z)
        for one in np.unique(function):
            here = function == one
            found[here] = np.interp(fiber.z[here], NODES, table[:, one])
        return found


def family_of(x: Signal) -> Family | None:
    """What it is at each place, where that is known still."""
    found: Family | None = x.family
    return found if found is not None and found.tells_of(x) else None


def widened(x: Signal, shape: Shape) -> Family | None:
    """What it is at each place, of an array with the same rank: along axes of length 1 nothing differs."""
    found = family_of(x)
    if found is None or x.ndim != len(shape):
        return None
    return dataclasses.replace(found, base=found.base.fresh(shape=shape), make=lambda: found.table)


def jointly(function: Function, operands: Sequence[Signal], shape: Shape, dtype: Any) -> Signal | None:
    """The function of arrays that are functions of one source and of known arrays; None where they are not such."""
    if not any(family_of(o) is not None for o in operands):
        return None
    found = _described(function, operands, shape, NODES)
    return None if found is None else signal_of(found.base, found.table, dtype)


def begun(function: Function, operands: Sequence[Signal], result: Signal) -> Signal:
    """The result, which remembers what it is at each place, where it is a function of one source and known arrays."""
    if result.is_constant or result.mask is not None or not any(map(is_place, operands)):
        return result
    found = _described(function, operands, result.shape, result.values)
    if found is None or math.prod(found.places) == 1:
        return result
    return dataclasses.replace(result, family=found)


def beyond(operands: Sequence[Signal], shape: Shape) -> int:
    """How many places functions of one number are told apart at, if these are too many to be followed; else 0."""
    known = [o for o in operands if is_place(o) and o.size > PLACES and o.array is not None and o.ndim == len(shape)]
    owners = _owners(operands)
    if not known or not owners or not all(map(_is_simple, operands)):
        return 0
    arrays = [np.asarray(o.array) for o in known]
    places = np.broadcast_shapes(*((compacted(a) if a.size <= KEPT else a).shape for a in arrays))
    count = math.prod(places)
    if count <= PLACES or len(places) != len(shape):
        return 0
    alone = [tuple(int(b == a) for b in range(len(shape))) for a, n in enumerate(places) if n > 1]
    shares = all(any(o.rho[one] >= 1.0 for one in alone) for o in owners if o.ndim == len(shape))
    return count if shares else 0


def _described(function: Function, operands: Sequence[Signal], shape: Shape, law: Floats) -> Family | None:
    owners = _owners(operands)
    sources = {o.source for o in owners}
    if len(sources) != 1 or not all(map(_is_simple, operands)) or any(o.shape != shape for o in owners):
        return None
    parts = [_part(o) for o in operands]
    if any(p is None for p in parts):
        return None
    places = _common([own for own, _ in parts])  # type: ignore[misc]
    depth = 1 + max((f.depth for o in operands if (f := family_of(o)) is not None), default=0)
    if math.prod(places) > PLACES or depth > DEPTH or len(places) != len(shape):
        return None
    (source,) = sources
    assert source is not None
    table = source_tables(owners, [source])[0]
    base = Signal(shape, np.dtype(np.float32), NODES, source, table)

    def make() -> NDArray[Any]:
        with np.errstate(all="ignore"):
            values = function(*(make_part() for _, make_part in parts))  # type: ignore[misc]
        return np.broadcast_to(np.nan_to_num(finite(values)), (NODES.size, *places))

    return Family(base, places, make, law, depth)


def _owners(operands: Sequence[Signal]) -> list[Signal]:
    """The arrays whose functions the operands are, but for known ones."""
    plain = [o for o in operands if o.source is not None and not is_place(o)]
    return [f.base if (f := family_of(o)) is not None else o for o in plain]


def _is_simple(x: Signal) -> bool:
    """Whether the law of one element, and whose it is, says all."""
    leaves = x.recipe is not None and bool(x.recipe.leaves)
    plain = x.mask is None and x.sample is None and x.weight is None and not x.drawn and not leaves
    # What pairs of a block have in common says nothing of one element.
    return plain and not x.profiles and all(isinstance(kind, Blocks) for kind in x.twins)


def is_place(x: Signal) -> bool:
    """Whether it is a known array of which the model's input has no part."""
    return x.array is not None and x.recipe is not None and not x.recipe.data


def _part(x: Signal) -> tuple[Shape, Callable[[], Any]] | None:
    """The places that an operand tells apart, and its values at the nodes and at them."""
    family = family_of(x)
    if family is not None:
        return family.places, lambda: family.table
    one = (1,) * x.ndim
    if x.source is None:
        return one, lambda: x.values[0]
    if not is_place(x):
        return one, lambda: x.values.reshape(-1, *one)
    if x.array is None or x.array.ndim != x.ndim or x.size > KEPT or x.array.dtype.kind in "cO":
        return None
    small = np.asarray(compacted(x.array), np.float64)
    return small.shape, lambda: np.nan_to_num(finite(small))[None]


def _common(shapes: Sequence[Shape]) -> Shape:
    longest = max(map(len, shapes))
    return tuple(np.broadcast_shapes(*(s for s in shapes if len(s) == longest)))


# -- the signal ---------------------------------------------------------------------------------------------------


def signal_of(base: Signal, table: NDArray[Any], dtype: Any) -> Signal:
    """The signal that is such a function of the base at each place."""
    assert base.source is not None
    places, shape = tuple(table.shape[1:]), base.shape
    if math.prod(places) == 1:
        values = np.ascontiguousarray(table.reshape(-1))
        if np.ptp(values) == 0:
            return Signal.constant(float(values[0]), shape, dtype)
        return Signal(shape, np.dtype(dtype), values, base.source, base.rho)
    weights = np.broadcast_to(WEIGHTS.reshape(-1, *(1,) * len(places)) / math.prod(places), table.shape)
    law = quantiles(table, weights)
    if np.ptp(law) == 0:
        return Signal.constant(float(law[0]), shape, dtype)
    mean = float((table * weights).sum())
    rho = correlation(hermite_squares(law), _pair_moments(table, base.rho) - mean**2)
    rho.flat[0] = 1.0
    # Where neither the place nor the number differs, two elements are one.
    same = [1 if n > 1 else 0 for n in places]
    for pattern in np.ndindex(rho.shape):
        if base.rho[pattern] >= 1.0 and not any(p and s for p, s in zip(pattern, same, strict=True)):
            rho[pattern] = 1.0
    nodes = NODES.reshape(-1, *(1,) * len(places))
    source = related(ties(table, weights, [(base.source, nodes)]))
    family = Family(base, places, lambda: table, law)
    return Signal(shape, np.dtype(dtype), law, source, _tables.settled(rho, shape), family=family)


def _pair_moments(table: NDArray[Any], rho: Floats) -> Floats:
    """E[y y'] of two elements, by the axes along which they differ, for rho between their base's."""
    roots = np.sqrt(WEIGHTS).reshape(-1, *(1,) * rho.ndim)
    same = pair_moments(table * roots)
    coefficients = np.tensordot(_PROJECTION, table, 1)
    by_order = np.stack([pair_moments(c[None]) for c in coefficients])
    powers = rho[None] ** np.arange(ORDERS).reshape(-1, *(1,) * rho.ndim)
    found: Floats = (by_order * powers).sum(0) + (same - by_order.sum(0)) * rho**ORDERS
    return found
