"""Sources of randomness compared in pairs of equal seeds, as a reviewer asks for it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrjax._experiments._initializers import SOURCES
from qrjax._experiments._records import Record
from qrjax._experiments._settings import chosen

Floats = np.ndarray[Any, np.dtype[np.float64]]

CONFIDENCE = 0.95
RESAMPLES = 9_999
# Of the baseline's mean final accuracy: how soon is it reached?
TARGET_SHARE = 0.95


class Comparison(NamedTuple):
    """One source against the baseline, over the seeds that both have.

    Attributes:
      settings: of the experiment, without its source.
      source, baseline: what is compared.
      seeds: how many pairs.
      mean, baseline_mean: accuracy after the last epoch, shares of the test examples.
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
        """ "better" or "worse" where the corrected p-value is below 5 %, else "no difference seen"."""
        if not self.adjusted_p < 1 - CONFIDENCE:
            return "no difference seen"
        return "better" if self.difference > 0 else "worse"


def compare(records: Iterable[Record], *, baseline: str = "random", target: float | None = None) -> list[Comparison]:
    """Compares every source of every experiment with a baseline, in pairs of equal seeds.

    Args:
      records: from `run` or `load_results`.
      baseline: the source that the others are compared with.
      target: the accuracy whose first epoch is looked for, between 0 and 1; None: 95 % of the baseline's mean
        accuracy after the last epoch.

    Returns:
      A `Comparison` for each source of each experiment that the baseline has, too; p-values corrected for all.

    Raises:
      ValueError: if `baseline` is unknown, `target` is not between 0 and 1, or there is nothing to compare.
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
    chosen("baseline", baseline, list(SOURCES))
    if target is not None and not (isinstance(target, (int, float)) and 0 < target < 1):
        raise ValueError(f"`target` must be an accuracy between 0 and 1, got {target!r}")
    groups = _grouped(records)
    pairs = [
        (group, source, scheme)
        for group, sources in groups.items()
        for source, scheme in sources
        if source != baseline and (baseline, "null") in sources
    ]
    if not pairs:
        raise ValueError(
            f"`records` holds no experiment with both the baseline {baseline!r} and another source; there are "
            f"{sorted({source for sources in groups.values() for source, _ in sources})}"
        )
    found = [
        _compared(json.loads(group), groups[group][source, scheme], groups[group][baseline, "null"], target)
        ._replace(source=source, baseline=baseline, scheme=json.loads(scheme))
        for group, source, scheme in pairs
    ]  # fmt: skip
    adjusted = holm([comparison.p_value for comparison in found])
    return [comparison._replace(adjusted_p=p) for comparison, p in zip(found, adjusted, strict=True)]


def _grouped(records: Iterable[Record]) -> dict[str, dict[tuple[str, str], dict[int, Floats]]]:
    """Accuracies by experiment without its source, by source and scheme, by seed."""
    groups: dict[str, dict[tuple[str, str], dict[int, Floats]]] = {}
    for record in records:
        settings = dict(record["settings"])
        source = settings.pop("source"), json.dumps(record["scheme"])
        of_source = groups.setdefault(json.dumps(settings), {}).setdefault(source, {})
        of_source[record["seed"]] = np.asarray(record["accuracy"], np.float64)
    return groups


def _compared(
    settings: Mapping[str, Any], ours: Mapping[int, Floats], theirs: Mapping[int, Floats], target: float | None
) -> Comparison:
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        raise ValueError(f"`records` has {len(seeds)} seeds in common for {dict(settings)}; pairs need two or more")
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


def epochs_to(accuracies: Floats, target: float) -> tuple[float, float]:
    """The mean first epoch of (seeds, epochs) at which the accuracy is reached, and the share that reach it."""
    hits = accuracies >= target
    first = np.where(hits.any(1), hits.argmax(1) + 1, accuracies.shape[1] + 1)
    return float(first.mean()), float(hits.any(1).mean())


def interval(gaps: Floats) -> tuple[float, float]:
    """Of the mean; a point where all are equal."""
    if np.ptp(gaps) == 0:
        return float(gaps[0]), float(gaps[0])
    stats = _scipy_stats()
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
    """How often random signs give a mean as far from 0."""
    if not gaps.any():
        return 1.0
    test = _scipy_stats().permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue)


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


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise ImportError("comparing needs SciPy, which is not installed: pip install 'qrjax[bench]'") from error
    return stats
