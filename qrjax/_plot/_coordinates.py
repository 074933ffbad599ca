"""By how much training changes each output, against the width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qrjax._coordinates._result import FAILING, Coordinate, CoordinateCheck
from qrjax._plot._axes import entry, in_numbers, marker_size, panel, plain, titled
from qrjax._plot._colors import ink
from qrjax._plot._legend import legend
from qrjax._plot._styles import styled
from qrjax._terminal._cells import counted
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Outputs that are named, the steepest ones; of more the legend would be all that is seen.
NAMED = 7
# The least that the vertical axis shows.
OCTAVES = 4.0


def coordinates(found: CoordinateCheck, *, ax: Axes | None = None) -> Axes:
    """Draws the root mean square of each output's change by training against the width, both axes logarithmic.

    Stable outputs are fine lines in the color of the text; those that grow, fall or are not finite at some widths have
    colors and, the steepest seven of them, names with their slopes.

    Args:
      found: what `qrjax.coordinate_check` gives.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes.

    Raises:
      TypeError: if `found` is none, or `ax` is no Axes.
      ValueError: if no output has changed at all.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import flax.linen as nn, jax, qrjax
      >>> def make(width):
      ...     return nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(4)])
      >>> x = jax.random.normal(jax.random.key(0), (16, 8))
      >>> found = qrjax.coordinate_check(make, [16, 256], x, lambda y: ((y - 1) ** 2).mean(), steps=2, seeds=1)
      >>> axes = qrjax.plot.coordinates(found)
      >>> axes.get_xlabel(), axes.get_xscale()
      ('width', 'log')
    """
    if not isinstance(found, CoordinateCheck):
        raise TypeError(f"`found` must be what qrjax.coordinate_check gives, got {received(found)}")
    seen = [row for row in found if any(0 < change < math.inf for change in row.changes)]
    if not seen:
        raise ValueError("`found` has no output that training changed; does the loss depend on what the model returns?")
    failing = sorted((row for row in seen if row.verdict in FAILING), key=_steepness, reverse=True)
    axes = panel(ax)
    stable = [row for row in seen if row.verdict not in FAILING]
    for place, row in enumerate(stable):
        label = entry(axes, f"{counted(len(stable), 'output')}, stable") if not place else None
        axes.plot(*_points(row), "-", color=ink(axes), linewidth=0.9, alpha=0.6, label=label)
    _draw_failing(axes, failing)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(found.widths, labels=list(map(str, found.widths)))
    axes.minorticks_off()
    _widened(axes)
    axes.set(xlabel="width", ylabel=f"root mean square of the change by {counted(found.settings['steps'], 'step')}")
    plain(axes)
    titled(axes, "What training changes, by width")
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None)
    in_numbers(axes.yaxis)
    return axes


def _widened(axes: Axes) -> None:
    """At least four octaves, among which one sees that a stable output is level, and more than one tick."""
    low, high = axes.get_ylim()
    missing = OCTAVES - math.log2(high / low)
    if missing > 0:
        axes.set_ylim(low * 2 ** (-missing / 2), high * 2 ** (missing / 2))


def _draw_failing(axes: Axes, rows: Sequence[Coordinate]) -> None:
    # The first style is that of the text, in which the stable ones are drawn.
    styles = [*styled(map(str, range(len(rows) + 1)), axes).values()][1:]
    for place, (row, style) in enumerate(zip(rows, styles, strict=True)):
        named = entry(axes, _name(row)) if place < NAMED else None
        look: dict[str, Any] = {"color": style.color, "linestyle": style.line, "marker": style.marker}
        axes.plot(*_points(row), label=named, markersize=marker_size(axes), **look)
    if len(rows) > NAMED:
        axes.plot([], [], " ", label=f"and {len(rows) - NAMED} more")


def _points(row: Coordinate) -> tuple[list[int], list[float]]:
    """What is finite and can stand on a logarithmic axis."""
    kept = [(w, c) for w, c in zip(row.widths, row.changes, strict=True) if 0 < c < math.inf]
    return [w for w, _ in kept], [c for _, c in kept]


def _steepness(row: Coordinate) -> float:
    return math.inf if row.slope is None else abs(row.slope)


def _name(row: Coordinate) -> str:
    slope = row.verdict if row.slope is None else f"{row.slope:+.2f}"
    return f"{row.path or '(whole)'}: {slope}"
