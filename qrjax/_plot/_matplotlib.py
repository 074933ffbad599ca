"""Matplotlib, or the error that says how to get it."""

from __future__ import annotations

from typing import Any


def required() -> Any:
    """The package, with its axes.

    Raises:
      ImportError: if it is not installed.
    """
    try:
        import matplotlib.axes
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("pictures need matplotlib, which is not installed: pip install 'qrjax[plot]'") from error
    return matplotlib
