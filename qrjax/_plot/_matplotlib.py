"""Matplotlib, or the error that says how to get it."""

from __future__ import annotations

from typing import Any

from qrjax._terminal._packages import package


def required() -> Any:
    """The package, with its axes.

    Raises:
      ImportError: if it is not installed.
    """
    package("matplotlib.axes", "pictures need matplotlib", "plot")
    return package("matplotlib", "pictures need matplotlib", "plot")
