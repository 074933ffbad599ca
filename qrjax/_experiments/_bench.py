"""Experiments on one dataset, all seeds of one side by side, on all devices."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from qrjax._datasets._dataset import Dataset
from qrjax._experiments._records import Job, Record
from qrjax._experiments._schemes import Scheme, Starts
from qrjax._experiments._settings import Settings
from qrjax._experiments._training import Initial, Trained, Trainer, Trainers, initial
from qrjax._sweep._places import Group
from qrjax._sweep._seeds import padded


class Bench:
    """Runs experiments; what they share is compiled once."""

    def __init__(self, data: Dataset, scheme: Scheme, chunk: int | None, together: Group) -> None:
        self._data = data
        self._scheme = scheme
        self._together = together
        self._trainers = Trainers(data, chunk)
        self._initial: dict[Settings, Initial] = {}

    def results(
        self, wanted: Mapping[Settings, Sequence[Job]], report: Callable[[int, int], None]
    ) -> Iterator[list[Record]]:
        """The jobs of one kind of network filled in, as many together as the devices take, of any experiments.

        Of several processes each does its share. `report` is told how many are finished, and their epochs.
        """
        jobs = [(settings, job) for settings, many in wanted.items() for job in many]
        if not jobs:
            return
        starts = {settings: self._starts(settings, [job.blank["seed"] for job in m]) for settings, m in wanted.items()}
        dims = [dim for settings in wanted for dim in starts[settings].dims]
        trainer = self._trainers.of(jobs[0][0], max(map(len, wanted.values())))
        if len(set(self._together.every(trainer.together))) > 1:
            raise ValueError("the processes have not as many devices each, and share the seeds; run them on equal ones")
        for number, places in enumerate(self._together.share(padded(range(len(jobs)), trainer.together))):
            part = [jobs[place] for place in places]
            seeds, rates = [job.blank["seed"] for _, job in part], [job.rate for _, job in part]
            drawn = partial(self._drawn, [settings for settings, _ in part], seeds, [dims[place] for place in places])
            finished = number * trainer.together
            found = trainer.train(drawn, seeds, rates, part[0][0].epochs, partial(report, finished))
            yield [
                job.blank | {"dim": dims[place], "trials": [list(trial) for trial in starts[settings].trials]}
                | {"rate": job.rate} | _results(found, row) | _circumstances(found, trainer)
                for row, (place, (settings, job)) in enumerate(dict(zip(places, part, strict=True)).items())
            ]  # fmt: skip

    def _drawn(self, many: Sequence[Settings], seeds: Sequence[int], dims: Sequence[int | None]) -> Any:
        """The initial params of these experiments and seeds, stacked."""
        runs = [list(group) for _, group in itertools.groupby(range(len(many)), many.__getitem__)]
        trees = [
            self._draw(many[run[0]])([seeds[place] for place in run], [dims[place] for place in run]) for run in runs
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)

    def _draw(self, settings: Settings) -> Initial:
        # What does not enter the initial weights is set to one value.
        same = dataclasses.replace(
            settings, optimizer="adam", learning_rate=None, epochs=1, batch_size=1, validation=0.0
        )
        if same not in self._initial:
            self._initial[same] = initial(same, self._data)
        return self._initial[same]

    def _starts(self, settings: Settings, seeds: Sequence[int]) -> Starts:
        if settings.source != "sequence":
            return Starts((None,) * len(seeds), ())
        return self._scheme.dims(seeds, settings.kernels(self._data), partial(self._score, settings))

    def _score(self, settings: Settings, dims: Sequence[int], epochs: int, repetitions: int) -> Sequence[float]:
        """The mean test accuracy from each starting dimension, over orders of the data."""
        seeds = [seed for _ in dims for seed in range(repetitions)]
        starts = [dim for dim in dims for _ in range(repetitions)]
        trainer, draw = self._trainers.of(settings, len(seeds)), self._draw(settings)
        accuracies: list[float] = []
        for places in padded(range(len(seeds)), trainer.together):
            part, first = [seeds[place] for place in places], [starts[place] for place in places]
            found = trainer.train(partial(draw, part, first), part, [_one_rate(settings)] * len(part), epochs)
            accuracies += found.accuracies[: len(dict.fromkeys(places)), -1].tolist()
        return np.reshape(accuracies, (len(dims), repetitions)).mean(-1).tolist()


def _one_rate(settings: Settings) -> float:
    """That a search for a first dimension trains with: the middle one of several."""
    rates = settings.learning_rate
    return sorted(rates)[len(rates) // 2] if isinstance(rates, tuple) else float(rates or 0)


def _results(found: Trained, row: int) -> Record:
    named = {"loss": found.losses, "accuracy": found.accuracies, "validation": found.held}
    # Through float64, whose shortest decimal form gives every float32 back.
    return {name: [] if values is None else values[row].astype(np.float64).tolist() for name, values in named.items()}


def _circumstances(found: Trained, trainer: Trainer) -> Record:
    seconds = {"initialize": found.initialize_seconds, "train": found.train_seconds}
    versions = {name: sys.modules[name].__version__ for name in ("qrjax", "jax", "flax", "optax", "numpy")}
    return {
        "seconds": seconds | {"compile (shared)": trainer.compile_seconds}, "versions": versions,
        "device": jax.devices()[0].device_kind, "chunk": trainer.chunk,
    }  # fmt: skip
