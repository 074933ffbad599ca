"""The search for the factors with which every weight's output has the target, the weights themselves scaled."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._interpreter._gains import Named, Target, target_at
from qrjax._interpreter._ledger import Entry, Ledger
from qrjax._interpreter._model import Model
from qrjax._interpreter._replay import Moments, Path, Replay, is_spoiled
from qrjax._signals._complexes import unit_of
from qrjax._signals._quadrature import Floats
from qrjax._terminal._frames import warn_caller

# Weights are settled to this, in logarithms of their outputs' second moment; half precision rounds more coarsely.
TOLERANCE = 2e-3
# What is further away at the end is said.
MISSED = 1e-2
ROUNDS = 40
# Rounds without progress after which the search ends.
PATIENCE = 8
# An output answers to its weight's factor by at least so much, or not at all; and at most by so much.
INERT, STEEP = 0.03, 6.0
# How far a squared factor has to have moved, in logarithms, before its answer tells anything.
TOLD = 0.02
# One round changes a second moment by no more than this, in logarithms.
STRIDE = 12.0


class CalibrationWarning(UserWarning):
    """Some weights' outputs are not at the target: no factor of the weight brings them there."""


Factors = dict[str, tuple[Floats, tuple[int, ...]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """A place where a weight meets a signal.

    Attributes:
      place: in the program.
      entry: its row, or the first of its rows.
      layers: for the position of each step of the scans around it, that of the layer which it takes.
    """

    place: Path
    entry: Entry
    layers: Mapping[tuple[int, ...], tuple[int, ...]]


@dataclasses.dataclass
class Search:
    """The factor of one weight, or of each layer of a stack.

    Attributes:
      path: the parameter.
      uses: where it meets a signal.
      axes: of the parameter, those along which layers are stacked.
      alone: whether each layer is used at one place and in one step, so that its output can be corrected on the spot.
      factor: what the parameter is multiplied with.
      companions: tables whose look-ups are added to this one's, which makes logits; they keep their size beside it.
      gains: parameters that hold the scale of a normalized weight, to be multiplied if its own has no effect.
      keeps: of a recurrent weight the predicted ratio of the second moments of its input and of its output, as it came
        in; else None.
      before: the last factor and the second moment that it gave, in logarithms.
      slope: how the second moment answers to the squared factor, in logarithms.
      inert: where it does not answer.
    """

    path: str
    uses: list[Use]
    axes: tuple[int, ...]
    alone: bool
    factor: Floats
    companions: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()
    keeps: float | None = None
    by_gains: bool = False
    before: tuple[Floats, Floats] | None = None
    slope: Any = 1.0
    inert: Any = False

    @property
    def factors(self) -> Factors:
        """What parameters are multiplied with."""
        weight = self.uses[0].entry.weight
        held, idle = (np.ones_like(self.factor), self.factor) if self.by_gains else (self.factor, np.ones(()))
        return dict.fromkeys((self.path, *weight.also, *self.companions), (held, self.axes)) | {
            path: (np.asarray(idle), ()) for path in self.gains
        }

    @property
    def deciding(self) -> list[Use]:
        """The uses that count: of a table that also makes logits, the logits."""
        products = [use for use in self.uses if use.entry.op != "gather"]
        return products or self.uses

    def moment(self, moments: Mapping[Path, Any]) -> Floats:
        """The second moment of its outputs, as the factor is: by layer, the mean over steps and places."""
        total, count = np.zeros(self.factor.shape), np.zeros(self.factor.shape)
        for use in self.deciding:
            found = _by_step(moments[use.place], use.entry.kinds, self.factor.ndim) / unit_of(use.entry.output)
            for step, layer in use.layers.items() if self.factor.ndim else [((), ())]:
                value = found[step[: found.ndim]]
                if np.isfinite(value):
                    total[layer] += value
                    count[layer] += 1
        with np.errstate(all="ignore"):
            return np.asarray(total / count)

    def goal(self, moment: Floats, target: Target) -> Any:
        """What its outputs are to have, that have this second moment now: see `Gains`."""
        wanted = target_at(target, self.path)
        if self.keeps is None or isinstance(wanted, Named):
            return wanted
        return np.minimum(wanted, moment * self.keeps / self.factor**2)

    def miss(self, moments: Mapping[Path, Any], target: Target) -> Floats:
        """How far the outputs are from their goal, in logarithms; what is zero or never ran has no factor."""
        moment = self.moment(moments)
        with np.errstate(all="ignore"):
            miss = np.clip(np.log(self.goal(moment, target) / moment), -STRIDE, STRIDE)
        return np.where(self.inert | np.isnan(moment) | (moment <= 0), 0.0, miss)

    def learn(self, miss: Floats) -> None:
        """Takes the next factor, by how the last one was answered."""
        place = 2 * np.log(self.factor)
        if self.before is None:
            self.before = (place, miss)
        else:
            step, answer = place - self.before[0], self.before[1] - miss
            told = np.abs(step) > TOLD
            slope = np.where(told, answer / np.where(told, step, 1.0), self.slope)
            self.inert = self.inert | (told & (np.abs(slope) < INERT))
            self.slope = np.clip(slope, 0.15, STEEP)
            # Steps too small to tell anything add up until they do.
            self.before = (np.where(told, place, self.before[0]), np.where(told, miss, self.before[1]))
        if np.any(self.inert) and self.gains and not self.by_gains and not self.axes:
            self.by_gains, self.before, self.inert, self.slope = True, None, False, 1.0
            self.factor = np.ones_like(self.factor)
            return
        self.factor = np.where(self.inert, 1.0, np.exp((place + miss / self.slope) / 2))


def _by_step(found: Any, kinds: Sequence[str], layers: int) -> Floats:
    """The second moments of one place, the mean over all but the layers' axes."""
    stacked = [a for a, kind in enumerate(kinds[: found.ndim - 1]) if kind == "layer"][:layers]
    others = tuple(a for a in range(found.ndim - 1) if a not in stacked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing, where a branch was never taken
        # As the weight is, without what was corrected on the spot.
        return np.asarray(np.nanmean(found[..., 1] / found[..., 2] ** 2, others), np.float64)


def _searches(model: Model, ledger: Ledger, chosen: Callable[[str], bool]) -> list[Search]:
    """The weights in the order of their first use."""
    uses: dict[str, dict[Path, list[tuple[tuple[int, ...], Entry]]]] = {}
    for (place, steps), entry in ledger.entries.items():
        if entry.weight is not None and chosen(entry.weight.path):
            uses.setdefault(entry.weight.path, {}).setdefault(place, []).append((steps, entry))
    shapes = {leaf.path: leaf.shape for leaf in model.leaves}
    companions = ledger.companions()
    following = {path for together in companions.values() for path in together}
    searches = [
        _search(path, [Use(p, rows[0][1], {s: _position(e) for s, e in rows}) for p, rows in found.items()], shapes)
        for path, found in uses.items()
        if path not in following
    ]
    for search in searches:
        search.companions = tuple(p for p in sorted(companions.get(search.path, ())) if p in uses)
    return searches


def _position(entry: Entry) -> tuple[int, ...]:
    return tuple(position for _, position in entry.weight.layer)


def _search(path: str, uses: list[Use], shapes: Mapping[str, tuple[int, ...]]) -> Search:
    stacks = {tuple(axis for axis, _ in use.entry.weight.layer) for use in uses}
    (axes,) = stacks if len(stacks) == 1 else {()}
    if any("time" in use.entry.kinds for use in uses) and len(uses[0].layers) == 1:
        axes = ()  # a loop takes the layers in turn: its row is their mean
    taken = [layer for use in uses for layer in use.layers.values()]
    alone = len(taken) == len(set(taken)) and all(set(use.entry.kinds) <= {"layer"} for use in uses)
    alone = alone and (len(uses) == 1 or bool(axes))
    gains = tuple(w.path for w in uses[0].entry.beside)
    return Search(path, uses, axes, alone, np.ones([shapes[path][a] for a in axes]), gains=gains, keeps=_kept(uses))


def _kept(uses: Sequence[Use]) -> float | None:
    entries = [use.entry for use in uses if use.entry.recurrent]
    met = sum(entry.sums[3] / unit_of(entry.input) for entry in entries)
    made = sum(entry.sums[1] / unit_of(entry.output) for entry in entries)
    return met / made if made > 0 else None


def settled(
    model: Model, flat: Sequence[Any], ledger: Ledger, target: Target, chosen: Callable[[str], bool], key: Any
) -> Factors:
    """What each weight is to be multiplied with, by path: a number, or one for each layer and the layers' axes."""
    searches = _searches(model, ledger, chosen)
    run = functools.partial(_sweep(model, searches, target), [*flat], key)
    best, least, since = [(s.factor, s.by_gains) for s in searches], np.inf, 0
    for _ in range(ROUNDS):
        moments = _moments(run, searches)
        misses = [s.miss(moments, target) for s in searches]
        error = max((float(np.abs(m).max(initial=0.0)) for m in misses), default=0.0)
        since += 1
        if error < least:
            best, least, since = [(s.factor, s.by_gains) for s in searches], error, 0
        if error <= TOLERANCE or since >= PATIENCE:
            break
        for search, miss in zip(searches, misses, strict=True):
            search.learn(miss)
    if since:
        for search, (factor, by_gains) in zip(searches, best, strict=True):
            search.factor, search.by_gains = factor, by_gains
        moments = _moments(run, searches)
    _tell(searches, moments, target)
    idle = {path for search in searches if not search.by_gains for path in search.gains} - {s.path for s in searches}
    return {path: found for path, found in _factors(searches).items() if path not in idle}


def _sweep(model: Model, searches: Sequence[Search], target: Target) -> Callable[..., Moments]:
    """(variables, key, factors, whether to correct on the spot) -> moments, compiled once for all rounds."""
    places = frozenset(use.place for search in searches for use in search.uses)
    axes = {path: along for path, (_, along) in _factors(searches).items()}

    @jax.jit
    @model.bound
    def run(flat: list[Any], key: Any, factors: Mapping[str, Any], live: Mapping[str, Any]) -> Moments:
        scaled = [
            times(array, factors[leaf.path], axes[leaf.path]) if leaf.path in factors else array
            for leaf, array in zip(model.leaves, flat, strict=True)
        ]
        correct = {
            use.place: functools.partial(
                _to, target_at(target, search.path) * unit_of(use.entry.output), live[search.path]
            )
            for search in searches
            if search.alone
            for use in search.uses
        }
        return Replay(places, correct).run(model.program, [*scaled, *[key] * model.keys, *model.inputs])[1]

    return run


def _moments(run: Callable[..., Moments], searches: Sequence[Search]) -> dict[Path, Any]:
    factors = {path: np.asarray(factor, np.float32) for path, (factor, _) in _factors(searches).items()}
    live = {search.path: search.alone and not np.any(search.inert) for search in searches}
    return {place: np.asarray(m, np.float64) for place, m in run(factors, live).items()}


def _to(target: float, live: Any, moment: Any) -> Any:
    """The gain that gives an output the target; an output that is zero has none."""
    some = live & (moment > 0)
    return jnp.where(some, jnp.sqrt(target / jnp.where(some, moment, 1)), 1.0)


def _factors(searches: Sequence[Search]) -> Factors:
    # About a parameter its own search decides, not that of a weight beside which it stands.
    beside = {path: found for search in searches for path, found in search.factors.items()}
    return beside | {path: found for s in searches for path, found in s.factors.items() if path not in s.gains}


def _tell(searches: Sequence[Search], moments: Mapping[Path, Any], target: Target) -> None:
    """Warns of weights whose outputs are not at the target."""
    missed = []
    for search in searches:
        moment = search.moment(moments)
        goal = search.goal(moment, target)
        with np.errstate(all="ignore"):  # a head of zeros has nothing to miss
            miss = np.abs(np.log(moment / goal))
        if any(is_spoiled(moments[use.place]) for use in search.uses):
            missed.append(f"{search.path} (NaN)")
        elif np.any((moment > 0) & (miss > MISSED)):
            reason = ", whatever its scale" if np.any(search.inert) else ""
            own = f" in the place of {np.nanmean(goal):.3g}" if callable(target) or search.keeps is not None else ""
            missed.append(f"{search.path} ({np.nanmean(moment):.3g}{own}{reason})")
    if missed:
        common = "" if callable(target) else f" {target:.3g}"
        warn_caller(
            f"calibrate: the second moment of {len(missed)} weights' outputs is not the target{common} but: "
            f"{', '.join(missed[:20])}{', ...' if len(missed) > 20 else ''}; leave them out with `select`",
            CalibrationWarning,
        )


def times(array: Any, factor: Any, axes: tuple[int, ...]) -> Any:
    """The array times its layers' factors, rounded once."""
    shape = [array.shape[a] if a in axes else 1 for a in range(array.ndim)]
    ordered = jnp.transpose(jnp.asarray(factor, jnp.float32), [int(a) for a in np.argsort(np.argsort(axes))])
    wide = np.promote_types(array.dtype, np.float32)
    return (array.astype(wide) * ordered.reshape(shape).astype(wide)).astype(array.dtype)
