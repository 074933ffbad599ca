"""Packages that extras install, loaded when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any


def package(module: str, needed: str, extra: str) -> Any:
    """A module of such a package; `needed` says what for: "pictures need matplotlib".

    Raises:
      ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and lacks something itself
        raise ImportError(f"{needed}, which is not installed: pip install 'qrjax[{extra}]'") from error
