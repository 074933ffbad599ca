"""Pictures as files, drawn without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qrjax._cli._failure import Failure
from qrjax._cli._files import written

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def check_matplotlib() -> None:
    """Nothing, if pictures can be drawn."""
    from qrjax._plot._matplotlib import required

    try:
        required()
    except ImportError as error:
        raise Failure(str(error)) from error


def save(draw: Callable[[], Figure | SubFigure], path: Path, option: str = "--plot") -> None:
    """Draws a figure and writes it whole or not at all; the suffix of `path` says in which format."""
    check_matplotlib()
    figure = draw().get_figure(root=True)
    assert figure is not None
    with written(path, f"choose another {option}") as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
