"""What a sweep returns."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qrjax._files._replacing import replacing
from qrjax._terminal._cells import cell, number
from qrjax._terminal._names import listed, meant
from qrjax._terminal._shown import Shown, frame, scalars_of
from qrjax._terminal._tables import Table

Values = np.ndarray[Any, Any]
SUMMARY = ("mean", "deviation", "least", "median", "most", "finite")
COLUMNS = ("seed", "metric", "step", "value")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep(Shown, Mapping[str, Values]):
    """The results of every seed, by name: `sweep["loss"]` has the shape (seeds, ...).

    Attributes:
      seeds: the seeds, in the order of the first axis.
      arrays: the results by name, as a plain mapping.
      seconds: what running them took, without compiling; of a continued sweep, all its runs, and of several
        processes the sum of theirs.

    Example:
      >>> import jax, qrjax
      >>> found = qrjax.sweep(lambda seed: {"luck": jax.random.normal(jax.random.key(seed))}, 3, progress=False)
      >>> found["luck"].shape, next(found.rows())["metric"]
      ((3,), 'luck')
    """

    seeds: tuple[int, ...]
    arrays: Mapping[str, Values]
    seconds: float

    def __getitem__(self, name: str) -> Values:
        if name not in self.arrays:
            raise KeyError(
                f"no result has the name {name!r}; names: {listed(list(self.arrays))}{meant(name, self.arrays)}"
            )
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each number: seed, metric, step (None where there is one number a seed), value.

        A result of several axes has as many steps as elements, in row-major order.
        """
        for name, values in self.arrays.items():
            for seed, value in zip(self.seeds, values, strict=True):
                if value.ndim == 0:
                    yield {"seed": seed, "metric": name, "step": None, "value": value.item()}
                for step, found in enumerate(value.ravel().tolist() if value.ndim else []):
                    yield {"seed": seed, "metric": name, "step": step, "value": found}

    def to_csv(self, file: str | os.PathLike[str]) -> None:
        """Writes the rows, whole or not at all.

        Raises:
          OSError: if `file` cannot be written; it is then as it was.
        """
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows())
        with replacing(file) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame.

        Raises:
          ImportError: if pandas is not installed.
        """
        return frame(self.rows(), list(COLUMNS)).astype({"step": "Int64"})

    def to_dict(self) -> dict[str, Any]:
        """{"seeds", "seconds", "arrays": {name: nested lists, seeds first}}, plain values."""
        arrays = {name: values.tolist() for name, values in self.arrays.items()}
        return {"seeds": list(self.seeds), "seconds": self.seconds, "arrays": arrays}

    def scalars(self) -> dict[str, float]:
        """Of the last step of each result over the seeds: "loss/mean", "loss/deviation", "loss/least", ..."""
        return scalars_of((name, summary(values)) for name, values in self.arrays.items())

    def _rows(self) -> list[dict[str, Any]]:
        return list(self.rows())

    def _table(self) -> Table:
        cells = [
            [name, cell(values.shape[1:]) or "()", *(number(summary(values).get(column), 4) for column in SUMMARY)]
            for name, values in self.arrays.items()
        ]
        title, headings = f"Sweep of {len(self.seeds)} seeds", ("result", "shape", *SUMMARY)
        return Table(title, headings, cells, {0, 1}, (1, 5, 7), remarks=["of each result its last step, where finite"])


def summary(values: Values) -> dict[str, float]:
    """Of the last step; how many seeds end finite, and of those the rest."""
    last = values.reshape(len(values), -1)[:, -1].astype(np.float64) if values.size else np.array([np.nan])
    kept = last[np.isfinite(last)]
    found = {"finite": float(kept.size)}
    if not kept.size:
        return found
    deviation = {"deviation": float(kept.std(ddof=1))} if kept.size > 1 else {}
    ends = {"least": float(kept.min()), "median": float(np.median(kept)), "most": float(kept.max())}
    return found | {"mean": float(kept.mean())} | deviation | ends
