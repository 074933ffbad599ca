"""Experiments, run and kept."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrjax._datasets._dataset import Dataset
from qrjax._datasets._table import load
from qrjax._experiments._records import NAMES, Job, Record, blank, digest, filled, identity
from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings
from qrjax._experiments._tuning import SEEDS, best, check, trials
from qrjax._files._journal import Journal, opened
from qrjax._sweep._places import Group, group
from qrjax._sweep._seeds import checked, checked_chunk
from qrjax._terminal._bar import bar

KIND = "qrjax.experiments"


def run(
    experiments: Settings | Iterable[Settings],
    seeds: Any,
    file: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    checksums: Mapping[str, str] | bool = False,
    download: bool = False,
    scheme: Scheme | None = None,
    chunk: int | None = None,
    progress: bool = True,
) -> list[Record]:
    """Trains a network of every seed for each experiment, and keeps every result in a file.

    All seeds of an experiment train side by side, a chunk on every device, and a seed has the same order of the data
    in all experiments, so that they can be compared in pairs. A record is a line of JSON with every setting, versions
    and timings, and is on the disk before the next seeds begin: a run that was killed goes on with what is missing.
    Results may depend on `chunk` and on the number of devices in the last bits, as the compiler makes other programs;
    give `chunk` where a continued run shall be the undisturbed one. Under `jax.distributed` every process makes the
    same call, with a `chunk` and a file that all of them see, trains its share and returns the whole.

    Where `learning_rate` is several, each is tried first with two seeds that are no results' (2**32 - 1 and
    2**32 - 2); the trials are kept in the file, too.

    Args:
      experiments: one or several `Settings`; of the same dataset, which is read once.
      seeds: different whole numbers from 0 to 2**32 - 1, or how many, from 0.
      file: where the results are kept; one that exists is added to.
      folder: where the files of the dataset are; digits and mnist1d need none.
      checksums: whether to compare the files' checksums with those published, or with these by name.
      download: whether to fetch the dataset's files where they are missing, into `folder` or the user's cache.
      scheme: how starting dimensions are chosen for the source "sequence"; None: each repetition starts where the
        one before ended.
      chunk: how many seeds train side by side on one device; None: its share of them, or as many as fit into half of
        its free memory.
      progress: whether to show a bar, on a terminal.

    Returns:
      The records of these experiments and seeds, in their order, old and new: "settings", "seed", "data" (the
      examples' digest), "dim" (of the first kernel, for "sequence"), "scheme", "trials", "rate" (the learning rate
      that was taken), "rates" (those that were tried, with their validation accuracies), "loss", "accuracy" and
      "validation" (accuracy, without such examples empty; lists over epochs), "seconds", "versions", "device", "chunk".

    Raises:
      FileNotFoundError: if a file of the dataset is missing; it says which, and where it is published.
      ValueError: if the dataset's files are damaged, `file` holds something else, the experiments are of several
        datasets, a network or scheme does not fit the data, or an initializer of your own is not what it must be;
        if several processes have no `chunk`, or not as many devices each.
      OSError: if `file` cannot be written; what it held is kept.

    A line of `file` that is damaged is a `qrjax.DamagedLineWarning`, and what it held is run again.

    Example:
      >>> import pathlib, tempfile
      >>> from qrjax import experiments
      >>> settings = experiments.Settings(model="mlp1", epochs=1, units=16, limit=256)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     records = experiments.run(settings, 2, pathlib.Path(folder) / "results.jsonl", progress=False)
      >>> [record["seed"] for record in records], len(records[0]["accuracy"])
      ([0, 1], 1)
    """
    listed = [experiments] if isinstance(experiments, Settings) else list(experiments)
    numbers, scheme = checked(seeds), _scheme(scheme)
    chunk = checked_chunk(chunk)
    check(listed, numbers)
    first = _one_dataset(listed)
    data = load(
        first.dataset, None if folder is None else Path(folder), checksums=checksums, vocabulary=first.vocabulary,
        length=first.length, limit=first.limit, download=download,
    )  # fmt: skip
    for settings in listed:
        settings.check(data)
        if settings.source == "sequence":
            scheme.check(numbers, settings.kernels(data))
    together, name = _group(chunk), digest(data)
    with opened(file, KIND, NAMES, shared=together.processes > 1) as journal:
        work = Work(journal, together, scheme, name, functools.cache(lambda: _bench(data, scheme, chunk, together)))
        tried = {settings: trials(settings) for settings in listed}
        # All rates of an experiment train side by side.
        work.run(
            {many[0]: [work.job(one, seed) for one in many for seed in SEEDS] for many in tried.values() if many},
            progress,
        )
        chosen = {settings: best(many, work.record) for settings, many in tried.items() if many}
        work.run(
            {settings: [work.job(settings, seed, chosen.get(settings)) for seed in numbers] for settings in listed},
            progress,
        )
    return [work.record(settings, seed) for settings in listed for seed in numbers]


class Work:
    """What a file holds, and the rest that is to be done for it."""

    def __init__(self, journal: Journal, together: Group, scheme: Scheme, data: str, bench: Callable[[], Any]) -> None:
        self._journal, self._together, self._bench = journal, together, bench
        self._blank = functools.partial(blank, scheme=scheme, data=data)
        self._done: dict[str, Record] = {}

    def job(self, settings: Settings, seed: int, tuned: tuple[float, list[list[float]]] | None = None) -> Job:
        rate, tried = (settings.learning_rate, []) if tuned is None else tuned
        return Job(self._blank(settings, seed) | {"rates": tried}, float(rate))  # type: ignore[arg-type]

    def record(self, settings: Settings, seed: int) -> Record:
        return self._done[identity(self._blank(settings, seed))]

    def run(self, wanted: Mapping[Settings, Sequence[Job]], progress: bool) -> None:
        """What is missing of these jobs; of several processes each does its share, and none goes on before all did."""
        self._read()
        self._together.wait("read")
        missing = {
            settings: [job for job in jobs if identity(job.blank) not in self._done]
            for settings, jobs in wanted.items()
        }
        if any(missing.values()):
            for records in _ran(missing, self._bench(), progress):
                self._journal.append(records)
                self._done |= {identity(record): record for record in records}
        if self._together.processes > 1:
            self._together.wait("written")
            self._journal.reload()
            self._read()

    def _read(self) -> None:
        self._done |= {identity(record): filled(record) for record in self._journal.records}


def _group(chunk: int | None) -> Group:
    found = group()
    if found.processes > 1 and chunk is None:
        raise ValueError(
            f"`chunk` is None, and {found.processes} processes must share the seeds in equal chunks; give one, for "
            "example 10"
        )
    return found


def _scheme(scheme: Any) -> Scheme:
    if scheme is None:
        return Scheme()
    if not isinstance(scheme, Scheme):
        raise TypeError(f"`scheme` must be a Scheme, got {scheme!r}; for example Scheme('auto')")
    return scheme


def _bench(data: Dataset, scheme: Scheme, chunk: int | None, together: Group) -> Any:
    # Flax and optax are loaded when something is to be trained.
    from qrjax._experiments._bench import Bench

    return Bench(data, scheme, chunk, together)


def _ran(wanted: Mapping[Settings, Sequence[Job]], bench: Any, progress: bool) -> Iterator[list[Record]]:
    kinds: dict[Settings, dict[Settings, Sequence[Job]]] = {}
    for settings, jobs in wanted.items():
        kinds.setdefault(settings.kind(), {})[settings] = jobs
    done = 0
    with bar(sum(map(len, wanted.values())), "networks", progress) as update:
        for kind, of_kind in kinds.items():

            def report(finished: int, epoch: int, kind: Settings = kind, done: int = done) -> None:
                update(done + finished, f"{kind.model} {kind.optimizer}, epoch {epoch}")

            yield from bench.results(of_kind, report)
            done += sum(map(len, of_kind.values()))


def _one_dataset(listed: Sequence[Settings]) -> Settings:
    if not listed:
        raise ValueError("`experiments` is empty; give one `Settings` or several")
    fields = "dataset", "vocabulary", "length", "limit"
    kinds = {tuple(getattr(settings, field) for field in fields) for settings in listed}
    if len(kinds) > 1:
        raise ValueError(f"`experiments` must share {', '.join(fields)}, got {sorted(map(str, kinds))}; run each apart")
    return listed[0]
