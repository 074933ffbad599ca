"""Learning rates, chosen for every way to begin on the validation examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qrjax._experiments._names import TWINS
from qrjax._experiments._records import Record
from qrjax._experiments._settings import Settings
from qrjax._sweep._seeds import MOST

# Which nobody takes for results.
SEEDS = (MOST, MOST - 1)


def is_trial(record: Record) -> bool:
    """Whether it was made to choose a rate."""
    return record["seed"] in SEEDS and record["settings"]["validation"] > 0


def check(listed: Sequence[Settings], seeds: Sequence[int]) -> None:
    """Whether no result has a trial's seed.

    Raises:
      ValueError: if one has.
    """
    for seed in SEEDS:
        if seed in seeds and any(settings.validation for settings in listed):
            raise ValueError(f"`seeds` holds {seed}, with which rates are tried; choose others")


def trials(settings: Settings) -> list[Settings]:
    """What is tried to find its rate: an experiment for each of several rates; none where there is one rate alone."""
    if not isinstance(settings.learning_rate, tuple):
        return []
    source = "random" if settings.source in TWINS else settings.source
    return [dataclasses.replace(settings, source=source, learning_rate=rate) for rate in settings.learning_rate]


def best(tried: Sequence[Settings], record: Callable[[Settings, int], Record]) -> tuple[float, list[list[float]]]:
    """The rate whose trials' best validation accuracies have the highest mean, the smallest of several; and the means.

    `tried` has an experiment for each rate, and `record` finds the result of one with a seed.
    """
    found = {}
    for settings in tried:
        results = [record(settings, seed) for seed in SEEDS]
        found[results[0]["rate"]] = float(np.mean([max(result["validation"]) for result in results]))
    return highest(found), [[rate, found[rate]] for rate in sorted(found)]


def highest(scores: Mapping[float, float]) -> float:
    """The rate with the highest score, the smallest of several."""
    return max(sorted(scores), key=scores.__getitem__)  # the first of equal ones
