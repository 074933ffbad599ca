"""Results as tables for other programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrjax._experiments._records import NAMES, Record, experiment, filled, stopped
from qrjax._experiments._run import KIND
from qrjax._experiments._tuning import is_trial
from qrjax._files._journal import read
from qrjax._files._replacing import replacing
from qrjax._terminal._shown import frame as frame_of

# These name an experiment.
NAMING = ("dataset", "model", "optimizer", "initializer")
WRITERS = {".csv": "to_csv", ".parquet": "to_parquet"}


def load_results(*files: str | os.PathLike[str], trials: bool = False) -> list[Record]:
    """The records of one or several files that `run` or `qrjax train` wrote; equal ones once.

    A line that is damaged is left out, with a `qrjax.DamagedLineWarning`.

    Args:
      *files: their paths.
      trials: whether those are wanted, too, by which learning rates were chosen.

    Raises:
      FileNotFoundError: if a file is not there.
      ValueError: if it holds something else, or two files disagree about a result.

    Example:
      >>> import pathlib, tempfile
      >>> from qrjax import experiments
      >>> settings = experiments.Settings(model="mlp1", epochs=1, units=8, limit=128)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = pathlib.Path(folder) / "results.jsonl"
      ...     _ = experiments.run(settings, 1, file, progress=False)
      ...     len(experiments.load_results(file))
      1
    """
    found: dict[tuple[str, int], Record] = {}
    for file in files:
        for record in map(filled, read(file, KIND, NAMES)):
            if is_trial(record) and not trials:
                continue
            before = found.setdefault((experiment(record), record["seed"]), record)
            if before["accuracy"] != record["accuracy"]:
                raise ValueError(
                    f"{os.fspath(file)!r} disagrees with the files before it about seed {record['seed']} of "
                    f"{record['settings']}; aggregate them apart"
                )
    return list(found.values())


def frame(records: Iterable[Record]) -> Any:
    """A pandas.DataFrame with a row for each experiment, seed and epoch.

    Its columns are the settings, "scheme", "seed", "dim", "rate" (the learning rate that was taken), "epoch" (from 1),
    "loss" (mean over the epoch, in nats), "accuracy" and "validation accuracy" (shares of the test and of the
    validation examples after it).

    Raises:
      ImportError: if pandas is not installed.

    Example:
      >>> from qrjax import experiments
      >>> record = {"settings": {"model": "mlp1"}, "seed": 3, "scheme": None, "dim": None,
      ...           "loss": [1.0, 0.5], "accuracy": [0.8, 0.9]}
      >>> experiments.frame([record])[["model", "seed", "epoch", "accuracy"]].values.tolist()
      [['mlp1', 3, 1, 0.8], ['mlp1', 3, 2, 0.9]]
    """
    rows = [row for record in records for row in _rows(record)]
    made = frame_of(rows)
    return made.astype({"dim": "Int64", "rate": "float64", "validation accuracy": "float64"}) if rows else made


def _rows(record: Record) -> list[dict[str, Any]]:
    settings = {name: _cell(value) for name, value in record["settings"].items()}
    scheme = (record["scheme"] or {}).get("name", "")
    same = {**settings, "scheme": scheme, "seed": record["seed"], "dim": record["dim"], "rate": record.get("rate")}
    held = record.get("validation") or [None] * len(record["loss"])
    numbers = zip(record["loss"], record["accuracy"], held, strict=True)
    return [
        {**same, "epoch": n, "loss": loss, "accuracy": hits, "validation accuracy": right}
        for n, (loss, hits, right) in enumerate(numbers, 1)
    ]


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def save_frame(made: Any, file: str | os.PathLike[str]) -> None:
    """Writes a DataFrame as .csv or .parquet, whole or not at all.

    Raises:
      ValueError: if the name ends in something else.
      OSError: if the file cannot be written; it is then as it was.
    """
    suffix = Path(file).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"`file` must end in {' or '.join(WRITERS)}, got {os.fspath(file)!r}")
    with replacing(file) as temporary:
        getattr(made, WRITERS[suffix])(temporary, index=False)


def panels(records: Iterable[Record]) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """What box plots show: for each experiment, by source, accuracies of (seeds, epochs) in percent.

    Experiments are named by their dataset, network, optimizer and initializer, and by what else varies.
    """
    listed = list(records)
    shown = [*NAMING, *varying([record["settings"] for record in listed])]
    schemes = len({str(record["scheme"]) for record in listed if record["scheme"]}) > 1
    found: dict[str, dict[str, list[Record]]] = {}
    for record in listed:
        settings, scheme = record["settings"], record["scheme"]
        panel = ", ".join(_said(name, settings[name]) for name in shown)
        source = f"{settings['source']} {_scheme(scheme)}" if schemes and scheme else settings["source"]
        found.setdefault(panel, {}).setdefault(source, []).append(record)
    return {
        panel: {
            source: 100 * np.array([stopped(one) for one in sorted(many, key=lambda record: record["seed"])])
            for source, many in sources.items()
        }
        for panel, sources in found.items()
    }


def varying(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all of them, but for the source and those that always name one."""
    names = [name for name in (settings[0] if settings else ()) if name not in (*NAMING, "source")]
    return [name for name in names if len({str(one.get(name)) for one in settings}) > 1]


def _said(name: str, value: Any) -> str:
    return str(value) if name in NAMING else f"{name} {value}"


def _scheme(scheme: Mapping[str, Any]) -> str:
    return f"({scheme['name']} from {scheme['min_dim']})"
