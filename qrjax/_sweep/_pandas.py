"""Pandas, or the error that says how to get it."""

from __future__ import annotations

from typing import Any


def required() -> Any:
    """The package.

    Raises:
      ImportError: if it is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ImportError("a DataFrame needs pandas, which is not installed: pip install 'qrjax[bench]'") from error
    return pandas
