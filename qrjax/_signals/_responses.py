"""What a linear filter with known coefficients makes of a signal: how alike its outputs are along the filter's axis.

A recurrence h = a h + x, or `associative_scan` in its place, adds parts of one array over and over, and each place of
the result shares most of its terms with its neighbours. So the response to probes is computed alongside: independent
numbers along the axis in the array's place, whose products say what two places have in common, and a constant.
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
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._quadrature import NODES, WEIGHTS, Floats, correlation, hermite_squares, matched, quantiles
from qrjax._signals._signal import Signal, Source

Array = NDArray[Any]
# Along other axes than the filter's so many elements stand for all.
PICKED = 16
# Numbers of the responses to all probes, and probes at least.
SIZE, LEAST = 1 << 20, 16
# Steps of a recurrence that are told apart.
FIRST = 256
# Elements whose laws are mixed.
MIXED = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """An array as a linear function of another one, along an axis of it.

    Attributes:
      base: the other array.
      axis: its axis along which the function acts.
      places: for each axis of this array, the axis of the base that it is.
      make: the response to the probes, one after another; axes along which it is the same have length 1.
      sums: how many sums of parts of the base lie within each other in it.
    """

    base: Signal
    axis: int
    places: tuple[int, ...]
    make: Callable[[], Array | None]
    sums: int = 0

    @functools.cached_property
    def array(self) -> Array | None:
        """The response, of shape (probes, ...)."""
        found = self.make()
        return None if found is None or found.size > 4 * SIZE else found

    @property
    def own(self) -> int | None:
        """The filter's axis among this array's."""
        return self.places.index(self.axis) if self.axis in self.places else None

    def then(self, change: Callable[[Array], Array | None], **fields: Any) -> Response:
        """Of a linear function of this array."""

        def make() -> Array | None:
            return None if self.array is None else change(self.array)

        return dataclasses.replace(self, make=make, **fields)

    def meets(self, other: Response) -> bool:
        """Whether both are functions of one array."""
        same = self.base is other.base or (self.base.source is not None and self.base.source is other.base.source)
        return same and self.axis == other.axis and self.places == other.places


def identity(base: Signal, axis: int) -> Response:
    """The array itself."""
    return Response(base, axis, tuple(range(base.ndim)), lambda: _spread(base, axis, _probes(base.shape[axis])))


def step_of(base: Signal, number: int) -> Response:
    """What a recurrence is given of an array along its first axis, in its step of this number."""

    def make() -> Array | None:
        probes = np.zeros((min(base.shape[0], FIRST) + 1, 1))
        probes[-1] = 1.0
        if number < FIRST:
            probes[number] = 1.0
        found = _spread(base, 0, probes)
        return None if found is None else found[:, 0]

    return Response(base, 0, tuple(range(1, base.ndim)), make)


def _spread(base: Signal, axis: int, probes: Array | None) -> Array | None:
    """The probes along an axis, as strong as the base's places are."""
    if probes is None:
        return None
    rows = probes.reshape((-1, *(probes.shape[1] if a == axis else 1 for a in range(base.ndim))))
    if isinstance(base, ComplexSignal):
        parts = np.broadcast_arrays(rows * _strengths(base.re, axis), rows * _strengths(base.im, axis))
        return np.concatenate([parts[0], 1j * parts[1]])
    return rows * _strengths(base, axis)


def _strengths(base: Signal, axis: int) -> Array:
    """The roots of the relative second moments of the base's places."""
    roots = np.ones((1,) * base.ndim)
    for own, profile in base.profiles.items():
        if own != axis:
            line = np.sqrt(profile[picked(profile.size)])
            roots = roots * line.reshape([-1 if a == own else 1 for a in range(base.ndim)])
    if base.family is not None and base.family.tells_of(base):
        # What was multiplied by known numbers, as a filter's input by what keeps its output at one strength.
        found = base.family.strengths().mean(axis, keepdims=True)
        for own, n in enumerate(found.shape):
            found = found.take(picked(n), own)
        roots = roots * np.sqrt(found)
    return roots[None]


@functools.cache
def _probes(n: int) -> Array | None:
    """Rows that are orthonormal, or nearly, and last a constant one."""
    count = min(n, max(LEAST, SIZE // (PICKED * n)))
    if count * n > SIZE:
        return None
    if count == n:
        rows = np.eye(n)
    else:
        generator = np.random.Generator(np.random.PCG64(n))
        rows = generator.choice([-1.0, 1.0], (count, n)) / math.sqrt(count)
    return np.concatenate([rows, np.ones((1, n))])


def picked(n: int) -> Array:
    """The elements of an axis that stand for all."""
    return np.unique(np.linspace(0, n - 1, min(n, PICKED)).round().astype(int))


# -- the laws that follow -----------------------------------------------------------------------------------------


def settled(x: Signal, response: Response) -> Signal:
    """The signal with the moments that the response gives it."""
    return x if response.array is None else _from_rows(x, response, response.array)


def lengthened(x: Signal, steps: Sequence[Response], length: int) -> Signal:
    """The signal of `length` steps, stacked along a new first axis, of which these are the first.

    Where some are missing, the filter does at each place what it does at the last of these, and what it still has of
    a place dies out as it did last.
    """
    arrays = [s.array for s in steps]
    known = [a for a in arrays if a is not None]
    if len(known) < len(arrays) or sum(a.size for a in known) > 4 * SIZE:
        return x
    rows = np.stack(np.broadcast_arrays(*known), 1)
    halves = np.split(rows, 2) if isinstance(steps[-1].base, ComplexSignal) else [rows]
    rows = np.concatenate([_places(half, length) for half in halves])
    return _from_rows(x, dataclasses.replace(steps[-1], places=(steps[-1].axis, *steps[-1].places)), rows)


def _places(rows: Array, length: int) -> Array:
    """The response of all places to the probes, from that of the first ones to numbers at one place each."""
    m = rows.shape[1]
    line = rows[m - 1 :: -1, -1] if m <= len(rows) else rows[:0, -1]
    with np.errstate(all="ignore"):
        ratio = np.nan_to_num(line[-1] / line[-2]) if m > 1 else np.zeros_like(line[-1])
    ratio = np.where(np.abs(ratio) < 1, ratio, 0.0)
    further = ratio[None] ** np.arange(1, length - m + 1).reshape((-1, *(1,) * ratio.ndim)) * line[-1][None]
    line = np.concatenate([line, further])
    probes = _probes(length)
    assert probes is not None
    spread = probes.reshape((*probes.shape, *(1,) * ratio.ndim))
    waves = np.fft.fft(spread, 2 * length, 1) * np.fft.fft(line, 2 * length, 0)[None]
    found = np.fft.ifft(waves, axis=1)[:, :length]
    return found if line.dtype.kind == "c" else found.real


def _from_rows(x: Signal, response: Response, rows: Array) -> Signal:
    if not isinstance(x, ComplexSignal):
        return _law(x, response, rows.real)
    re, im = _law(x.re, response, rows.real), _law(x.im, response, rows.imag)
    return dataclasses.replace(x, re=re, im=im, modulus=None, values=np.hypot(re.values, im.values))


def _law(x: Signal, response: Response, rows: Array) -> Signal:
    """A real array's law from its response to the probes; the parts of a complex base are taken as independent."""
    base, half = response.base, len(rows) // 2
    parts = [(base, rows)]
    if isinstance(base, ComplexSignal):
        parts = [(base.re, rows[:half]), (base.im, rows[half:])]
    moments: Floats = np.zeros((2,) * x.ndim)
    means, spreads = np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    for part, found in parts:
        first, apart = _of_pairs(part, response)
        moments += pair_moments(found[:-1]) * (first - apart) + pair_moments(found[-1:]) * (apart + part.mean**2)
        means = means + found[-1] * part.mean
        spreads = spreads + (found[:-1] ** 2).sum(0) * (first - apart).flat[0] + found[-1] ** 2 * apart.flat[0]
    mean = float(means.mean())
    covariances = moments - mean**2
    variance = float(covariances.flat[0])
    if not variance > 1e-20 * max(mean**2, 1e-300):
        return Signal.constant(mean, x.shape, x.dtype)
    values = _mixed(means.ravel(), spreads.ravel(), mean, variance)
    rho = correlation(hermite_squares(values), covariances)
    rho[covariances >= variance * (1 - 1e-12)] = 1.0
    rho.flat[0] = 1.0
    return x.fresh(values=values, rho=_tables.settled(rho, x.shape), source=x.source or Source())


def pair_moments(x: Array) -> Floats:
    """The sum over the first axis of the mean product x x' of pairs of elements, for every subset of differing axes."""
    table = np.empty((2,) * (x.ndim - 1))
    for pattern in np.ndindex(table.shape):
        axes = tuple(axis + 1 for axis, p in enumerate(pattern) if p)
        table[pattern] = float((x.sum(axes) ** 2).sum())
    for axis, n in enumerate(x.shape[1:]):
        same, within = table.take(0, axis), table.take(1, axis)
        table = np.stack([same / n, (within - same) / (n * (n - 1.0)) if n > 1 else same], axis)
    return table


def _of_pairs(base: Signal, response: Response) -> tuple[Floats, Floats]:
    """The base's covariances, over the array's own axes: at one place along the filter's axis, and at two."""
    gone = [a for a in range(base.ndim) if a not in response.places]
    kept = [a for a in range(base.ndim) if a in response.places and a != response.axis]
    tables = []
    for differs in (0, 1):
        index = tuple(differs if a == response.axis else 0 if a in gone else slice(None) for a in range(base.ndim))
        own = [response.places.index(a) for a in kept]
        tables.append(_tables.broadcast(np.asarray(base.covariances[index]), own, len(response.places)))
    return tables[0], tables[1]


def _mixed(means: Array, spreads: Array, mean: float, variance: float) -> Floats:
    """The law of the elements: normal each, with variances of their own."""
    if np.ptp(spreads) <= 1e-9 * float(spreads.max()) and np.ptp(means) == 0:
        return mean + math.sqrt(variance) * NODES
    order = np.argsort(spreads, kind="stable")
    some = order[np.linspace(0, len(order) - 1, min(len(order), MIXED)).round().astype(int)]
    values = means[some, None] + np.sqrt(np.maximum(spreads[some, None], 0.0)) * NODES
    law = quantiles(values, np.broadcast_to(WEIGHTS / len(some), values.shape))
    return matched(law, mean, variance)
