"""Tables of what runs measured, a row for every seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrjax._plot._arrays import Floats, named, real


def runs(name: str, given: Any, columns: str) -> dict[str, Floats]:
    """Tables of a row for every seed, all with the same columns.

    Raises:
      TypeError: if `given` is no mapping of names to arrays of real numbers.
      ValueError: if it is empty, a table has not two axes or is empty, or the numbers of columns differ.
    """
    found = named(name, given, f'{{"he_normal_qr()": an array of (seeds, {columns})}}')
    tables = {key: real(f"`{name}`[{key!r}]", values) for key, values in found.items()}
    for key, table in tables.items():
        if table.ndim != 2 or not table.size:
            raise ValueError(
                f"`{name}`[{key!r}] must have the shape (seeds, {columns}), each at least 1, got {table.shape}; "
                "a single seed is a table of one row, values[None]"
            )
    if len({table.shape[1] for table in tables.values()}) > 1:
        lengths = ", ".join(f"{table.shape[1]} in {key!r}" for key, table in tables.items())
        raise ValueError(f"`{name}` must all have the same number of {columns}, got {lengths}; cut them to the least")
    return tables


def whole(table: Floats) -> Floats:
    """The rows of the seeds that did not diverge: those of which the last value is a number."""
    return table[np.isfinite(table[:, -1])]


def diverged(table: Floats) -> Floats:
    """The other rows, with NaN for infinities."""
    rows = table[~np.isfinite(table[:, -1])]
    return np.where(np.isfinite(rows), rows, np.nan)


def labelled(name: str, table: Floats) -> str:
    """The name, with the numbers of seeds that diverged and of those that have no number somewhere before."""
    lost, gaps = len(diverged(table)), int((~np.isfinite(whole(table))).any(1).sum())
    notes = [f"{lost} of {len(table)} seeds diverged"] * (lost > 0)
    notes += [f"{gaps} of {len(table)} seeds {'has' if gaps == 1 else 'have'} gaps"] * (gaps > 0)
    return f"{name} ({', '.join(notes)})" if notes else name


def number(tables: Mapping[str, Floats]) -> str:
    """How many seeds there are, such as "20 seeds"."""
    counts = sorted({len(table) for table in tables.values()})
    if counts == [1]:
        return "1 seed"
    return " to ".join(str(n) for n in dict.fromkeys([counts[0], counts[-1]])) + " seeds"
