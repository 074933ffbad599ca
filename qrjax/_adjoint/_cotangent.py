"""The derivative of the loss by one array, as a law."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from qrjax._adjoint._moments import moments, strengths
from qrjax._adjoint._refinements import aligned, common, laid, refined, runs
from qrjax._adjoint._terms import Base, Term, added
from qrjax._signals import _tables
from qrjax._signals._places import is_entangled, lineage
from qrjax._signals._profiles import kept, normalized, renamed
from qrjax._signals._quadrature import WEIGHTS, Floats
from qrjax._signals._signal import Profiles, Signal
from qrjax._signals._tables import Shape

# With more terms than this the sum becomes a base of its own.
MOST = 8
# Of so many atoms it is followed what becomes of them, the strongest, if they have this share of all.
ATOMS, TELLING = 24, 1e-4
# Terms that leave this share of their own moments, or less, leave nothing but rounding.
ROUNDING = 1e-6
# Factors whose variance is this share of their second moment, or less, are one number: .03 octaves.
ALIKE = 0.02
# What lies between a gate's two numbers is of this share.
GATE = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Cotangent:
    """A sum of terms of one shape.

    Attributes:
      shape: that of the array.
      terms: what adds up; none where the derivative is zero. All have one shape, of which `shape` may merge axes.
    """

    shape: Shape
    terms: tuple[Term, ...] = ()

    @staticmethod
    def of(law: Signal) -> Cotangent:
        """A derivative of which only the second moments count."""
        return Cotangent(law.shape, () if law.is_constant else (Term.of(law),))

    @staticmethod
    def noise(shape: Shape, moment: float, rho: Floats | None = None, profiles: Profiles | None = None) -> Cotangent:
        """A derivative with these second moments."""
        if not moment > 0 or not math.isfinite(moment):
            return Cotangent(shape)
        law = Signal.normal(shape, 0.0, moment, np.float32, rho)
        return Cotangent.of(dataclasses.replace(law, profiles=profiles or {}))

    @staticmethod
    def of_table(shape: Shape, table: Floats, profiles: Profiles | None = None) -> Cotangent:
        """The derivative with these second moments, by the axes along which two elements differ."""
        moment = float(table.flat[0])
        if not moment > 0 or not math.isfinite(moment):
            return Cotangent(shape)
        return Cotangent.noise(shape, moment, _tables.settled(np.clip(table / moment, -1.0, 1.0), shape), profiles)

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def laid(self) -> Shape:
        """The shape of its terms."""
        return self.terms[0].shape if self.terms else self.shape

    @functools.cached_property
    def runs(self) -> list[list[int]]:
        """For each axis those of its terms."""
        return runs(self.laid, self.shape)

    def fine(self, axes: Iterable[int]) -> list[int]:
        """The axes of its terms that these are."""
        return [a for axis in axes for a in self.runs[axis]]

    def plus(self, other: Cotangent) -> Cotangent:
        """The sum; terms of one kind become one."""
        mine, theirs = _alike(self, other)
        found = list(mine)
        for term in theirs:
            for i, own in enumerate(found):
                if own.like(term):
                    found[i] = dataclasses.replace(own, outer=added(own.outer, term.outer))
                    break
            else:
                found.append(term)
        result = Cotangent(self.shape, tuple(found))
        return result if len(found) <= MOST else result.settled

    def reshaped(self, shape: Shape) -> Cotangent:
        """The same elements in another shape."""
        fine = common(self.laid, shape) if self.terms else None
        if fine is None:
            return self._merged(shape) if self.terms else Cotangent(shape)
        terms = aligned([refined(term, fine) for term in self.terms])
        return self._merged(shape) if terms is None else Cotangent(shape, tuple(terms))

    def _merged(self, shape: Shape) -> Cotangent:
        table = _tables.reshaped(self.table, self.shape, shape)
        return Cotangent.of_table(shape, table, renamed(self.profiles, _tables.whole(self.shape, shape)))

    def each(self, shape: Shape, function: Callable[[Term], Term | None]) -> Cotangent | None:
        """A function of every term; None if it cannot be said of one of them."""
        made = [function(term) for term in self.terms]
        known = [term for term in made if term is not None]
        return Cotangent(shape, tuple(known)) if len(known) == len(made) else None

    def times(self, factor: Signal | float) -> Cotangent:
        """The product with a number or with a forward signal of this shape."""
        factor = _number(factor) if isinstance(factor, Signal) else factor
        if not isinstance(factor, Signal):
            return Cotangent(self.shape, tuple(term.times(factor) for term in self.terms) if factor else ())
        own = self.settled if self._is_independent_of(factor) else self
        factor = laid(factor, own.laid)
        if any(_is_far(term.outer, factor) for term in own.terms):
            own = self.settled
        return Cotangent(self.shape, tuple(term.times(laid(factor, own.laid)) for term in own.terms))

    def _is_independent_of(self, factor: Signal) -> bool:
        """Whether its own factors, if it has any but numbers, have nothing in common with another."""
        outers = [t.outer for t in self.terms if t.outer.source is not None]
        if not outers or factor.source is None or any(t.inner is not None for t in self.terms):
            return False
        return not any(_meet(outer, factor) for outer in outers)

    @functools.cached_property
    def table(self) -> Floats:
        """E[g g'] by the axes along which the two elements differ."""
        table = moments(self.terms, self.laid)
        return table if self.laid == self.shape else _tables.reshaped(table, self.laid, self.shape)

    @property
    def second_moment(self) -> float:
        """E[g^2] of an element."""
        return float(self.table.flat[0]) if self.terms else 0.0

    def at(self, layer: Sequence[tuple[int, int]]) -> float:
        """E[g^2] of an element at these places along these axes."""
        along = {axis: place for axis, place in layer if axis in self.profiles}
        return self.second_moment * math.prod(float(self.profiles[axis][place]) for axis, place in along.items())

    @functools.cached_property
    def profiles(self) -> Profiles:
        """How the second moment varies along axes."""
        found: dict[int, list[tuple[float, Floats]]] = {}
        if not any(term.base.law.profiles or term.outer.profiles for term in self.terms):
            return {}
        shares = [term.base.law.second_moment * term.outer.second_moment for term in self.terms]
        several = [strengths(term.base, term.place, term.outer) for term in self.terms]
        for axis, size in enumerate(self.shape):
            run = self.runs[axis]
            for share, own in zip(shares, several, strict=True):
                profile = own.get(run[0]) if len(run) == 1 else None
                found.setdefault(axis, []).append((share, np.ones(size) if profile is None else profile))
        return kept({axis: normalized(_mean(parts)) for axis, parts in found.items()})

    @property
    def cancels(self) -> bool:
        """Whether its terms add up to nothing, as by what a softmax's inputs are shifted."""
        own = sum(float(moments([term], term.shape).flat[0]) for term in self.terms)
        return len(self.terms) > 1 and self.second_moment <= ROUNDING * own

    def law(self) -> Signal | None:
        """The derivative as one signal; None where it is zero."""
        settled = self.settled
        return settled.terms[0].base.law if settled else None

    def of_size_one(self) -> Signal:
        """Its law with a second moment of 1, everywhere."""
        law = self.law()
        assert law is not None
        return dataclasses.replace(law, values=law.values / math.sqrt(law.second_moment), profiles={})

    @functools.cached_property
    def settled(self) -> Cotangent:
        """The same second moments in one term: the same one along all ways on which it is followed."""
        alone = len(self.terms) == 1 and self.terms[0].is_base and self.laid == self.shape
        if alone and math.isfinite(self.second_moment):
            return self
        return Cotangent.of_table(self.shape, self.table, self.profiles).made_of(self.atoms()) if self.terms else self

    def atoms(self) -> dict[Base, float]:
        """The atoms of its bases, by which numbers they are multiplied on average."""
        found: dict[Base, float] = {}
        for term in self.terms:
            if term.is_plain and term.base.law.shape == self.shape and term.place == tuple(range(len(self.shape))):
                for atom, factor in term.base.atoms or ((term.base, 1.0),):
                    found[atom] = found.get(atom, 0.0) + factor * term.outer.mean
        return found

    def made_of(self, atoms: Mapping[Base, float]) -> Cotangent:
        """A derivative of one term as a sum of these atoms, the strongest of them, and of one of its own."""
        if not self:
            return self
        law = self.terms[0].base.law
        energies = {atom: factor**2 * atom.law.second_moment for atom, factor in atoms.items()}
        strong = sorted(energies, key=energies.__getitem__, reverse=True)[:ATOMS]
        held = [(atom, atoms[atom]) for atom in strong if energies[atom] > TELLING * law.second_moment]
        if not held:
            return self
        rest = self.table - sum(factor**2 * atom.law.moments for atom, factor in held)
        own = Cotangent.of_table(self.shape, rest, self.profiles)
        base = dataclasses.replace(self.terms[0].base, atoms=(*held, *((term.base, 1.0) for term in own.terms)))
        return Cotangent(self.shape, (dataclasses.replace(self.terms[0], base=base),))

    def born(self, other: Signal, along: Sequence[int]) -> Cotangent:
        """The derivative as one that a contraction with `other` made, whose own axes it has along these."""
        known = None if other.source is None else other.source.born
        if known is None:
            return self
        terms = (
            dataclasses.replace(t, base=dataclasses.replace(t.base, born=known, along=tuple(along))) for t in self.terms
        )
        return Cotangent(self.shape, tuple(terms))

    @property
    def bases(self) -> int:
        """How many bases its terms have."""
        return len({id(term.base) for term in self.terms})


def _alike(first: Cotangent, second: Cotangent) -> tuple[Sequence[Term], Sequence[Term]]:
    """The terms of both in one shape, over bases that are split alike."""
    if not first or not second:
        return first.terms, second.terms
    fine = common(first.laid, second.laid) if first.laid != second.laid else first.laid
    if fine is not None:
        terms = aligned([refined(term, fine) for term in (*first.terms, *second.terms)])
        if terms is not None:
            return terms[: len(first.terms)], terms[len(first.terms) :]
    return first.settled.terms, second.settled.terms


def _number(factor: Signal) -> Signal | float:
    """What many elements share and hardly differs, as the deviation that a norm divides by, as one number.

    So it is the same one along all ways, on which what a norm takes away of a derivative cancels. What is of each
    element, such as a gate that is nearly always open, is not: a factor beside it may depend on which.
    """
    if factor.profiles or factor.variance > ALIKE * factor.second_moment or not _is_shared(factor):
        return factor
    return math.copysign(math.sqrt(factor.second_moment), factor.mean)


def _is_shared(factor: Signal) -> bool:
    """Whether all elements along some axis are one."""
    units = np.eye(factor.ndim, dtype=int)
    return any(n > 1 and factor.rho[tuple(unit)] >= 1.0 for n, unit in zip(factor.shape, units, strict=True))


def _is_far(outer: Signal, factor: Signal) -> bool:
    """Whether two factors have little in common, so that their squares' means multiply; a joint law would be dear."""
    if outer.source is None or factor.source is None or outer.source is factor.source:
        return False
    if outer.fiber is not None and outer.fiber is factor.fiber:
        return False
    # Gates of one shortcut are open for the same elements from block to block: few numbers, which are cheap together.
    if _is_gate(outer) and _is_gate(factor):
        return False
    return is_entangled([outer.source, factor.source])


def _meet(x: Signal, y: Signal) -> bool:
    """Whether two signals have to do with each other."""
    assert x.source is not None
    assert y.source is not None
    if x.fiber is not None and x.fiber is y.fiber:
        return True
    return not lineage(x.source).keys().isdisjoint(lineage(y.source))


def _is_gate(x: Signal) -> bool:
    """Whether it is one number or nothing."""
    values = np.abs(x.values)
    top = float(values.max())
    return float(WEIGHTS @ ((values < GATE * top) | (values > (1 - GATE) * top))) > 1 - GATE


def _mean(parts: Sequence[tuple[float, Floats]]) -> Floats:
    total = sum(share for share, _ in parts)
    return np.asarray(sum(share * profile for share, profile in parts) / max(total, 1e-300), np.float64)
