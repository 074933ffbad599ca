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
from qrjax._sweep import _pandas
from qrjax._terminal._names import listed, meant
from qrjax._terminal._text import text_of

Values = np.ndarray[Any, Any]
COLUMNS = ("seed", "metric", "step", "value")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep(Mapping[str, Values]):
    """The results of every seed, by name: `sweep["loss"]` has the shape (seeds, ...).

    Attributes:
      seeds: the seeds, in the order of the first axis.
      arrays: the results by name, as a plain mapping.
      seconds: what running them took, without compiling; of a continued sweep, all its runs.

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
                for step, number in enumerate(value.ravel().tolist() if value.ndim else []):
                    yield {"seed": seed, "metric": name, "step": step, "value": number}

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
        return _pandas.required().DataFrame(self.rows(), columns=list(COLUMNS)).astype({"step": "Int64"})

    def __str__(self) -> str:
        """A table: for each result its last step over the seeds."""
        from rich import box
        from rich.table import Table

        table = Table("result", "shape", "mean", "deviation", "least", "median", "most", box=box.SIMPLE_HEAD)
        table.title = f"{len(self.seeds)} seeds, last step of each result"
        for name, values in self.arrays.items():
            table.add_row(name, str(values.shape[1:]), *_summary(values))
        return text_of(table, 100).rstrip()

    __repr__ = __str__


def _summary(values: Values) -> list[str]:
    last = values.reshape(len(values), -1)[:, -1].astype(np.float64) if values.size else np.array([np.nan])
    finite = last[np.isfinite(last)]
    if not finite.size:
        return ["", "", "", "", "none finite"]
    deviation = f"{finite.std(ddof=1):.4g}" if finite.size > 1 else ""
    middle = [finite.min(), np.median(finite), finite.max()]
    return [f"{finite.mean():.4g}", deviation, *(f"{number:.4g}" for number in middle)]
