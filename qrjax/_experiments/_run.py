"""Experiments, run and kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrjax._datasets._dataset import Dataset
from qrjax._datasets._table import load
from qrjax._experiments._records import NAMES, Record, blank, digest, identity
from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings
from qrjax._files._journal import Journal, opened
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

    All seeds of an experiment train side by side, and a seed has the same order of the data in all experiments, so
    that they can be compared in pairs. A record is a line of JSON with every setting, versions and timings, and is
    on the disk before the next chunk begins: a run that was killed goes on with what is missing. Results may depend on
    `chunk` in the last bits, as a matrix product's do; give it where a continued run shall be the undisturbed one.

    Args:
      experiments: one or several `Settings`; of the same dataset, which is read once.
      seeds: different whole numbers from 0 to 2**32 - 1, or how many, from 0.
      file: where the results are kept; one that exists is added to.
      folder: where the files of the dataset are; digits and mnist1d need none.
      checksums: whether to compare the files' checksums with those published, or with these by name.
      download: whether to fetch the dataset's files where they are missing, into `folder` or the user's cache.
      scheme: how starting dimensions are chosen for the source "sequence"; None: each repetition starts where the
        one before ended.
      chunk: how many seeds train side by side; None: as many as fit into half of the free memory.
      progress: whether to show a bar, on a terminal.

    Returns:
      The records of these experiments and seeds, in their order, old and new: "settings", "seed", "data" (the
      examples' digest), "dim" (of the first kernel, for "sequence"), "scheme", "trials", "loss" and "accuracy" (lists
      over epochs), "seconds", "versions", "device", "chunk".

    Raises:
      FileNotFoundError: if a file of the dataset is missing; it says which, and where it is published.
      ValueError: if the dataset's files are damaged, `file` holds something else, the experiments are of several
        datasets, a network or scheme does not fit the data, or an initializer of your own is not what it must be.
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
    first = _one_dataset(listed)
    data = load(
        first.dataset, None if folder is None else Path(folder), checksums=checksums, vocabulary=first.vocabulary,
        length=first.length, limit=first.limit, download=download,
    )  # fmt: skip
    for settings in listed:
        settings.check(data)
        if settings.source == "sequence":
            scheme.check(numbers, settings.kernels(data))
    name = digest(data)
    blanks = {settings: [blank(settings, seed, scheme, name) for seed in numbers] for settings in listed}
    with opened(file, KIND, NAMES) as journal:
        done = {identity(record): record for record in journal.records}
        missing = {settings: [b for b in many if identity(b) not in done] for settings, many in blanks.items()}
        if any(missing.values()):
            bench = _bench(data, scheme, chunk)
            done |= {identity(record): record for record in _run_missing(missing, journal, bench, progress)}
    return [done[identity(record)] for many in blanks.values() for record in many]


def _scheme(scheme: Any) -> Scheme:
    if scheme is None:
        return Scheme()
    if not isinstance(scheme, Scheme):
        raise TypeError(f"`scheme` must be a Scheme, got {scheme!r}; for example Scheme('auto')")
    return scheme


def _bench(data: Dataset, scheme: Scheme, chunk: int | None) -> Any:
    # Flax and optax are loaded when something is to be trained.
    from qrjax._experiments._bench import Bench

    return Bench(data, scheme, chunk)


def _run_missing(
    wanted: Mapping[Settings, Sequence[Record]], journal: Journal, bench: Any, progress: bool
) -> Iterator[Record]:
    with bar(len(wanted), "experiments", progress) as update:
        for number, (settings, blanks) in enumerate(wanted.items()):

            def report(epoch: int, settings: Settings = settings, number: int = number) -> None:
                update(number, f"{settings.model} {settings.initializer} {settings.source}, epoch {epoch}")

            for records in bench.results(settings, blanks, report):
                journal.append(records)
                yield from records


def _one_dataset(listed: Sequence[Settings]) -> Settings:
    if not listed:
        raise ValueError("`experiments` is empty; give one `Settings` or several")
    fields = "dataset", "vocabulary", "length", "limit"
    kinds = {tuple(getattr(settings, field) for field in fields) for settings in listed}
    if len(kinds) > 1:
        raise ValueError(f"`experiments` must share {', '.join(fields)}, got {sorted(map(str, kinds))}; run each apart")
    return listed[0]
