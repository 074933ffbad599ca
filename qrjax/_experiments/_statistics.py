"""Sources of randomness compared in pairs of equal seeds, as a reviewer asks for it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrjax._experiments._names import OWN, SOURCES
from qrjax._experiments._records import Record, filled, stopped
from qrjax._terminal._frames import warn_caller
from qrjax._terminal._names import choice
from qrjax._terminal._packages import package
from qrjax._words._numbers import real_number

Floats = np.ndarray[Any, np.dtype[np.float64]]

CONFIDENCE = 0.95
RESAMPLES = 9_999
# Pairs whose signs are all tried, and what is drawn for more.
EXACT, DRAWS, BATCH = 22, 1_000_000, 10_000
# Of the baseline's mean final accuracy: how soon is it reached?
TARGET_SHARE = 0.95


class IncompleteWarning(UserWarning):
    """Results that cannot be compared yet were left out."""


class Comparison(NamedTuple):
    """One source against the baseline, over the seeds that both have.

    Attributes:
      settings: of the experiment, without its source; with the baseline's initializer.
      source, baseline: what is compared; an initializer of your own by its name.
      seeds: how many pairs.
      mean, baseline_mean: accuracy after the last epoch, shares of the test examples; with validation examples after
        the epoch that is best on them.
      difference: of the means, positive where the source is better.
      low, high: 95 % confidence interval of the difference: bootstrap over pairs, bias-corrected and accelerated.
      wins: share of the pairs in which the source is better; ties count half.
      p_value: of a permutation test that flips the pairs' signs; two-sided.
      adjusted_p: corrected for all comparisons made together, by Holm's method.
      target: the accuracy that is waited for.
      epochs, baseline_epochs: mean number of epochs until then; a seed that never gets there counts as one epoch
        more than there were.
      reached, baseline_reached: share of the seeds that get there.
      scheme: how starting dimensions were chosen, for "sequence".
    """

    settings: Mapping[str, Any]
    source: str
    baseline: str
    seeds: int
    mean: float
    baseline_mean: float
    difference: float
    low: float
    high: float
    wins: float
    p_value: float
    adjusted_p: float
    target: float
    epochs: float
    baseline_epochs: float
    reached: float
    baseline_reached: float
    scheme: Mapping[str, Any] | None

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the corrected p-value is below 5 %, else "no difference seen".

        Of fewer than six pairs "too few seeds": whatever they are, the test cannot tell.
        """
        if 2.0 ** (1 - self.seeds) >= 1 - CONFIDENCE:
            return "too few seeds"
        if not self.adjusted_p < 1 - CONFIDENCE:
            return "no difference seen"
        return "better" if self.difference > 0 else "worse"


def compare(records: Iterable[Record], *, baseline: str = "random", target: float | None = None) -> list[Comparison]:
    """Compares every source of every experiment with a baseline, in pairs of equal seeds.

    An initializer of your own is a source, by its name, of every experiment that differs in the initializer alone.

    Args:
      records: from `run` or `load_results`.
      baseline: the source that the others are compared with.
      target: the accuracy whose first epoch is looked for, between 0 and 1; None: 95 % of the baseline's mean
        accuracy after the last epoch.

    Returns:
      A `Comparison` for each source of each experiment that the baseline has, too; p-values corrected for all. What
      shares fewer than two seeds with the baseline is left out, with a warning.

    Raises:
      ValueError: if `baseline` is unknown or comes with several schemes, `target` is not between 0 and 1, or there is
        nothing to compare.
      ImportError: if SciPy is not installed.

    Example:
      >>> from qrjax import experiments
      >>> record = lambda source, seed, accuracy: {
      ...     "settings": {"model": "mlp1", "source": source}, "seed": seed, "scheme": None, "accuracy": accuracy}
      >>> found = experiments.compare(
      ...     [record("random", s, [0.5, 0.8 + s / 100]) for s in range(20)]
      ...     + [record("hash", s, [0.6, 0.8 + s / 80]) for s in range(20)])
      >>> len(found), round(found[0].difference, 4), found[0].wins
      (1, 0.0237, 0.975)
    """
    choice("baseline", baseline, list(SOURCES))
    target = None if target is None else _accuracy(target)
    groups = _grouped(records)
    found = []
    for group, sources in groups.items():
        base = _baseline(sources, baseline)
        for source in sources:
            if base is None or source[0] == baseline:
                continue
            ours, theirs = sources[source], sources[base]
            if len(ours.keys() & theirs.keys()) < 2:
                _warn_of_missing(source[0], baseline, group)
                continue
            one = _compared(json.loads(group)[0], ours, theirs, target)
            found.append(one._replace(source=source[0], baseline=baseline, scheme=json.loads(source[1])))
    if not found:
        there = sorted({source for sources in groups.values() for source, _ in sources})
        raise ValueError(
            f"`records` holds no experiment with two seeds of the baseline {baseline!r} and of another source; there "
            f"is {', '.join(there) or 'nothing'}"
        )
    adjusted = holm([comparison.p_value for comparison in found])
    return [comparison._replace(adjusted_p=p) for comparison, p in zip(found, adjusted, strict=True)]


def _warn_of_missing(source: str, baseline: str, group: str) -> None:
    settings = json.loads(group)[0]
    named = ", ".join(str(settings.get(name)) for name in ("dataset", "model", "optimizer", "initializer"))
    warn_caller(
        f"{named}: {source} and {baseline} have fewer than two seeds in common yet, so they are left out",
        IncompleteWarning,
    )


def _baseline(sources: Mapping[tuple[str, str], Any], baseline: str) -> tuple[str, str] | None:
    """The baseline among the sources of an experiment; of "sequence" with several schemes none is it."""
    found = [source for source in sources if source[0] == baseline]
    if len(found) > 1:
        raise ValueError(f"`baseline` {baseline!r} comes with several schemes in one experiment; aggregate them apart")
    return found[0] if found else None


def _grouped(records: Iterable[Record]) -> dict[str, dict[tuple[str, str], dict[int, Floats]]]:
    """Accuracies by experiment without its source, by source and scheme, by seed."""
    groups: dict[str, dict[tuple[str, str], dict[int, Floats]]] = {}
    for record in records:
        source, group = _named(record)
        of_source = groups.setdefault(group, {}).setdefault(source, {})
        of_source[record["seed"]] = stopped(record)
    return _with_own(groups)


def _named(record: Record) -> tuple[tuple[str, str], str]:
    """The source and scheme, and all else; of a person's own initializer its name is the source."""
    settings = dict(filled(record)["settings"])
    source = settings.pop("source")
    if source == OWN:
        source, settings["initializer"] = settings["initializer"], OWN
    scheme = json.dumps(record["scheme"], sort_keys=True)
    return (source, scheme), json.dumps([settings, record.get("data")], sort_keys=True)


def _with_own(groups: dict[str, dict[tuple[str, str], dict[int, Floats]]]) -> Any:
    """Each group with the initializers of a person's own that differ in nothing else; those without one are left."""
    found: dict[str, dict[tuple[str, str], dict[int, Floats]]] = {}
    used = set()
    for group, sources in groups.items():
        settings, data = json.loads(group)
        own = json.dumps([{**settings, "initializer": OWN}, data], sort_keys=True)
        is_own = own == group
        if not is_own and own in groups:
            used.add(own)
        found[group] = sources if is_own else sources | groups.get(own, {})
    return {group: sources for group, sources in found.items() if group not in used}


def _compared(
    settings: Mapping[str, Any], ours: Mapping[int, Floats], theirs: Mapping[int, Floats], target: float | None
) -> Comparison:
    seeds = sorted(ours.keys() & theirs.keys())
    one, other = (np.stack([side[seed] for seed in seeds]) for side in (ours, theirs))
    gaps = one[:, -1] - other[:, -1]
    if target is None:
        target = float(TARGET_SHARE * other[:, -1].mean())
    (soon, reached), (their_soon, they_reached) = (epochs_to(side, target) for side in (one, other))
    low, high = interval(gaps)
    p_value = sign_flips(gaps)
    return Comparison(
        settings, "", "", len(seeds), float(one[:, -1].mean()), float(other[:, -1].mean()), float(gaps.mean()), low,
        high, float((gaps > 0).mean() + (gaps == 0).mean() / 2), p_value, p_value, target, soon, their_soon, reached,
        they_reached, None,
    )  # fmt: skip


def _accuracy(target: Any) -> float:
    try:
        found = real_number(target)
    except TypeError:
        found = np.nan
    if not 0 < found < 1:
        raise ValueError(f"`target` must be an accuracy between 0 and 1, got {target!r}")
    return found


def epochs_to(accuracies: Floats, target: float) -> tuple[float, float]:
    """The mean first epoch of (seeds, epochs) at which the accuracy is reached, and the share that reach it."""
    hits = accuracies >= target
    first = np.where(hits.any(1), hits.argmax(1) + 1, accuracies.shape[1] + 1)
    return float(first.mean()), float(hits.any(1).mean())


def interval(gaps: Floats) -> tuple[float, float]:
    """Of the mean; a point where all are equal."""
    if np.ptp(gaps) == 0:
        return float(gaps[0]), float(gaps[0])
    stats = package("scipy.stats", "comparing needs SciPy", "bench")
    with warnings.catch_warnings():
        # Where nearly all are equal the acceleration is 0 / 0; the percentiles serve then.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            found = stats.bootstrap(
                (gaps,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
            if np.isfinite([found.low, found.high]).all():
                break
    return float(found.low), float(found.high)


def sign_flips(gaps: Floats) -> float:
    """How often random signs give a mean as far from 0: of all signs for up to 22 pairs, else of a million."""
    # By hand, as SciPy's permutation_test lists the signs in Python: of 20 pairs it takes 3.6 s where this takes 0.03.
    observed = abs(gaps.sum()) * (1 - 1e-12)  # sums in another order differ in the last bits
    if len(gaps) <= EXACT:
        half = len(gaps) // 2
        sums = np.add.outer(_signed_sums(gaps[:half]), _signed_sums(gaps[half:]))
        return float((abs(sums) >= observed).mean())
    rng, found = np.random.default_rng(0), 1
    for _ in range(DRAWS // BATCH):
        signs = rng.integers(0, 2, (BATCH, len(gaps)), np.int8) * 2 - 1
        found += int((abs(signs @ gaps) >= observed).sum())
    return found / (DRAWS + 1)


def _signed_sums(gaps: Floats) -> Floats:
    """Of all choices of signs."""
    sums = np.zeros(1)
    for gap in gaps:
        sums = np.concatenate([sums + gap, sums - gap])
    return sums


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the family-wise error keeps its level whatever depends on what.

    Reference:
      Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()
