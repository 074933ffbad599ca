"""Pictures as files, drawn without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qrjax._cli._failure import Failure
from qrjax._files._replacing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def check_matplotlib() -> None:
    """Nothing, if pictures can be drawn."""
    from qrjax._plot._matplotlib import required

    try:
        required()
    except ImportError as error:
        raise Failure(str(error)) from error


def save(draw: Callable[[], Figure | SubFigure], path: Path) -> None:
    """Draws a figure and writes it whole or not at all; the suffix of `path` says in which format."""
    check_matplotlib()
    figure = draw().get_figure(root=True)
    assert figure is not None
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
    except OSError as error:
        raise Failure(f"cannot write {str(path)!r}: {error.strerror or error}; choose another --plot") from error
