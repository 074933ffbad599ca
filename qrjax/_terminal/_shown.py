"""What results have in common: they show themselves, and leave as plain values."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import shutil
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from qrjax._terminal._packages import package
from qrjax._terminal._tables import Table, as_html, text

# Rows of what a prompt shows; columns where there is no terminal.
ROWS, WIDTH = 20, 120


class Shown:
    """Results that are read as a table."""

    @abstractmethod
    def _table(self) -> Table:
        """What a reader sees."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values: numbers, strings, lists and dicts."""

    @abstractmethod
    def _rows(self) -> list[dict[str, Any]]:
        """The rows of a DataFrame."""

    def to_json(self, indent: int | None = None) -> str:
        """What `to_dict` has, as JSON; null where there is no finite number, which JSON cannot say."""
        return json.dumps(finite(self.to_dict()), indent=indent, allow_nan=False)

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame.

        Raises:
          ImportError: if pandas is not installed.
        """
        return frame(self._rows())

    def __str__(self) -> str:
        return text(self._table()._replace(title=""))

    def __repr__(self) -> str:
        width = shutil.get_terminal_size((WIDTH, 0)).columns
        return text(self._table(), width, ROWS, "; print() shows all")

    def _repr_html_(self) -> str:
        return as_html(self._table())


def plain(row: Any) -> dict[str, Any]:
    """A dataclass' row as plain values: its fields and its properties, but for fields that do not compare."""
    names = [field.name for field in dataclasses.fields(row) if field.compare]
    names += [name for name, _ in inspect.getmembers_static(type(row), lambda found: isinstance(found, property))]
    return {name: _plain(getattr(row, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def finite(value: Any) -> Any:
    """The same with None for infinities and NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars_of(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, float]:
    """The numbers of named rows by "name/column"; of rows that share a name the later ones are "name.2", ..."""
    found: dict[str, float] = {}
    seen: dict[str, int] = {}
    for path, row in rows:
        name = path or "whole"
        seen[name] = seen.get(name, 0) + 1
        place = name if seen[name] == 1 else f"{name}.{seen[name]}"
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        found |= {f"{place}/{key}": float(value) for key, value in numbers.items()}
    return found


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> Any:
    """A pandas.DataFrame.

    Raises:
      ImportError: if pandas is not installed.
    """
    pandas = package("pandas", "a DataFrame needs pandas", "bench")
    return pandas.DataFrame(list(rows), columns=columns)
