"""Experiments on one dataset, all seeds of one side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import numpy as np

from qrjax._datasets._dataset import Dataset
from qrjax._experiments._records import Record
from qrjax._experiments._schemes import Scheme, Starts
from qrjax._experiments._settings import Settings
from qrjax._experiments._training import Trained, Trainer, Trainers, initial
from qrjax._sweep._seeds import padded


class Bench:
    """Runs experiments; what they share is compiled once."""

    def __init__(self, data: Dataset, scheme: Scheme, chunk: int | None) -> None:
        self._data = data
        self._scheme = scheme
        self._trainers = Trainers(data, chunk)

    def results(
        self, settings: Settings, blanks: Sequence[Record], report: Callable[[int], None]
    ) -> Iterator[list[Record]]:
        """The blank records filled in, chunk by chunk; `report` is told how many epochs of a chunk are done."""
        if not blanks:
            return
        by_seed = {record["seed"]: record for record in blanks}
        starts = self._starts(settings, list(by_seed))
        dims = dict(zip(by_seed, starts.dims, strict=True))
        trainer, draw = self._trainers.of(settings, len(by_seed)), initial(settings, self._data)
        for part in padded(list(by_seed), trainer.chunk):
            drawn = partial(draw, part, [dims[seed] for seed in part])
            found = trainer.train(drawn, part, settings.epochs, report)
            yield [
                by_seed[seed] | {"dim": dims[seed], "trials": [list(trial) for trial in starts.trials]}
                | _results(found, row) | _circumstances(found, trainer)
                for row, seed in enumerate(dict.fromkeys(part))
            ]  # fmt: skip

    def _starts(self, settings: Settings, seeds: Sequence[int]) -> Starts:
        if settings.source != "sequence":
            return Starts((None,) * len(seeds), ())
        return self._scheme.dims(seeds, settings.kernels(self._data), partial(self._score, settings))

    def _score(self, settings: Settings, dims: Sequence[int], epochs: int, repetitions: int) -> Sequence[float]:
        """The mean test accuracy from each starting dimension, over orders of the data."""
        seeds = [seed for _ in dims for seed in range(repetitions)]
        starts = [dim for dim in dims for _ in range(repetitions)]
        trainer, draw = self._trainers.of(settings, len(seeds)), initial(settings, self._data)
        accuracies: list[float] = []
        for places in padded(range(len(seeds)), trainer.chunk):
            part, first = [seeds[place] for place in places], [starts[place] for place in places]
            found = trainer.train(partial(draw, part, first), part, epochs)
            accuracies += found.accuracies[: len(dict.fromkeys(places)), -1].tolist()
        return np.reshape(accuracies, (len(dims), repetitions)).mean(-1).tolist()


def _results(found: Trained, row: int) -> Record:
    # Through float64, whose shortest decimal form gives every float32 back.
    loss, accuracy = (values[row].astype(np.float64).tolist() for values in (found.losses, found.accuracies))
    return {"loss": loss, "accuracy": accuracy}


def _circumstances(found: Trained, trainer: Trainer) -> Record:
    seconds = {"initialize": found.initialize_seconds, "train": found.train_seconds}
    versions = {name: sys.modules[name].__version__ for name in ("qrjax", "jax", "flax", "optax", "numpy")}
    return {
        "seconds": seconds | {"compile (shared)": trainer.compile_seconds}, "versions": versions,
        "device": jax.devices()[0].device_kind, "chunk": trainer.chunk,
    }  # fmt: skip
