"""Points of the unit square."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._plot._arrays import Floats, real
from qrjax._plot._axes import inches, marker_size, panel, titled
from qrjax._plot._colors import muted
from qrjax._plot._styles import BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = ("dimension 1", "dimension 2")
# Inches of a new figure.
SIZE = (5.4, 5.6)
# More lines than these are a surface.
FINEST = 256


def points(
    points: Any, *, labels: Sequence[str] = LABELS, grid: tuple[int, int] | None = None, ax: Axes | None = None
) -> Axes:
    """Draws points of the unit square, and counts them in its elementary intervals.

    A (t, m, 2)-net in base 2, such as the first 2**m points of two dimensions of a Sobol' sequence, has as many points
    in each elementary interval of area 2**(t - m) as in every other: with t = 0 and a grid of 2**m intervals, one.

    Args:
      points: (n, 2), real numbers in [0, 1].
      labels: of the horizontal and of the vertical axis.
      grid: the columns and rows of elementary intervals to draw, powers of 2 up to 256; None draws none.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `points` is not an array of real numbers, `labels` not two strings, `grid` not two integers, or
        `ax` no Axes.
      ValueError: if `points` is empty, has another shape or leaves [0, 1], or `grid` is not of powers of 2.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> pairs = jnp.stack([qrjax.sobol.points_range(dim, 0, 64) for dim in (1, 2)], axis=-1)
      >>> qrjax.plot.points(pairs, grid=(8, 8)).get_title()
      '64 points: 1 in each of 8 x 8 elementary intervals'
    """
    found = _checked(points)
    names = _labels(labels)
    cells = None if grid is None else _grid(grid)
    axes = panel(ax, SIZE)
    if cells is not None:
        _lines(axes, cells)
    size = float(np.clip(20 * min(inches(axes)) / np.sqrt(len(found)), 1.0, marker_size(axes)))
    axes.plot(*found.T, "o", color=BLUE, markersize=size, markeredgewidth=0, clip_on=False, zorder=3)
    axes.grid(False)  # a style's lines are no elementary intervals
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=names[0], ylabel=names[1])
    titled(axes, _title(found, cells))
    return axes


def counts(found: Floats, cells: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The points in each interval; 1 belongs to the last."""
    places = np.minimum((found * cells).astype(int), np.array(cells) - 1)
    return np.bincount(places[:, 0] * cells[1] + places[:, 1], minlength=cells[0] * cells[1])


def _checked(points: Any) -> Floats:
    found = real("`points`", points)
    if found.ndim != 2 or found.shape[1] != 2 or not len(found):
        raise ValueError(f"`points` must have the shape (n, 2), n at least 1, got {found.shape}; stack two dimensions")
    outside = int((~((found >= 0) & (found <= 1)).all(1)).sum())
    if outside:
        raise ValueError(f"`points` must lie in [0, 1], got {outside:,} of {len(found):,} outside; scale them first")
    return found


def _labels(labels: Any) -> tuple[str, str]:
    names = labels if isinstance(labels, (tuple, list)) else ()
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise TypeError(f"`labels` must be two strings, got {labels!r}; for example ('dimension 20', 'dimension 21')")
    return names[0], names[1]


def _grid(grid: Any) -> tuple[int, int]:
    try:
        columns, rows = (operator.index(n) for n in grid)
    except (TypeError, ValueError):
        raise TypeError(f"`grid` must be two integers, columns and rows, got {grid!r}; for example (8, 8)") from None
    if not all(1 <= n <= FINEST and n & (n - 1) == 0 for n in (columns, rows)):
        raise ValueError(f"`grid` must be powers of 2 from 1 to {FINEST}, got {grid!r}; for example (8, 8)")
    return columns, rows


def _lines(axes: Axes, cells: tuple[int, int]) -> None:
    for draw, n in zip((axes.axvline, axes.axhline), cells, strict=True):
        for j in range(1, n):
            draw(j / n, color=muted(axes), linewidth=0.6, zorder=1)


def _title(found: Floats, cells: tuple[int, int] | None) -> str:
    number = f"{len(found):,} point" + "s" * (len(found) != 1)
    if cells is None:
        return f"{number} of the unit square"
    inside = counts(found, cells)
    least, most = int(inside.min()), int(inside.max())
    each = str(least) if least == most else f"{least} to {most}"
    return f"{number}: {each} in each of {cells[0]} x {cells[1]} elementary intervals"
