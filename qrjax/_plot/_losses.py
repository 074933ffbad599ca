"""Curves of training, each the mean of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qrjax._plot._arrays import Floats, real
from qrjax._plot._axes import entry, in_numbers, marker_size, panel, plain, titled
from qrjax._plot._legend import legend
from qrjax._plot._seeds import diverged, labelled, number, runs, whole
from qrjax._plot._styles import Style, styled
from qrjax._terminal._names import choice
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Band = Literal["range", "deviation"]
Scale = Literal["linear", "log"]

BANDS = {"range": "range", "deviation": "standard deviation"}
# From this ratio of the largest to the smallest value on, a logarithmic axis tells more.
WIDE = 10.0
# Fewer steps than these are marked, as the line between them is drawn and not measured.
MARKED = 16
# Names that color, lightness and line tell apart; of more, some steps are marked as well.
FEW, MARKERS = 3, 8
# Names whose bands can be told apart; of more they would be a fog.
BANDED = 7


def losses(
    curves: Mapping[str, Any], *, x: Any = None, xlabel: str = "epoch", ylabel: str = "loss",
    yscale: Scale | None = None, band: Band = "range", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draws the mean over seeds of a loss, or of anything else that training changes, and a band around it.

    Of more than seven names there are only the means, as the bands would hide each other.

    A seed that ends with a NaN or infinity has diverged: it is left out of the mean and of the band at all steps, as it
    would bend them where it ends, and is a thin line as far as it comes, with a cross at its end. A NaN or infinity
    before is a gap: there mean and band are those of the other seeds. The legend counts both.

    Args:
      curves: names and arrays of (seeds, steps). The numbers of seeds may differ, those of steps not.
      x: (steps,), increasing, where the steps lie on the horizontal axis; by default 1, 2, 3, ...
      xlabel: what `x` counts.
      ylabel: what the curves are, with the unit.
      yscale: "linear" or "log". By default logarithmic where all values are positive and the largest is more than ten
        times the smallest.
      band: "range", from the smallest to the largest seed, or "deviation", one standard deviation of the seeds below
        and above the mean; on a logarithmic axis, where that reaches 0, it ends at the smallest seed.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `curves` does not map names to arrays of real numbers, `x` is none, or `ax` is no Axes.
      ValueError: if `curves` or an array is empty, shapes do not fit, `x` does not increase, or `yscale` or `band` is
        not one of those named.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import numpy as np, qrjax
      >>> seeds = np.exp(-np.linspace(0, 5, 20)) * np.array([[0.9], [1.0], [1.1]])
      >>> axes = qrjax.plot.losses({"he_normal_qr()": seeds}, ylabel="training loss, nats")
      >>> axes.get_title(), axes.get_yscale()
      ('Mean and range of 3 seeds', 'log')
    """
    tables = runs("curves", curves, "steps")
    steps = _steps(x, next(iter(tables.values())).shape[1])
    choice("yscale", yscale, (None, "linear", "log"))
    choice("band", band, tuple(BANDS))
    scale = yscale or _scale([whole(table) for table in tables.values()])
    axes = panel(ax)
    styles = styled(tables, axes)
    for place, (name, table) in enumerate(tables.items()):
        look = _look(styles[name], len(steps), place, len(tables)) | {"markersize": marker_size(axes)}
        look["label"] = entry(axes, labelled(name, table))
        _draw(axes, steps, whole(table), look, band if len(tables) <= BANDED else None, scale)
    axes.set(yscale=scale, xlabel=xlabel, ylabel=ylabel)
    _draw_diverged(axes, steps, tables, styles)
    axes.grid(which="minor", alpha=0.3, linewidth=0.5)
    plain(axes)
    if x is None:
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    titled(axes, _title(tables, band))
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None)
    if scale == "log":
        in_numbers(axes.yaxis)
    return axes


def _steps(x: Any, count: int) -> Floats:
    if x is None:
        return np.arange(1, count + 1, dtype=np.float64)
    steps = real("`x`", x)
    if steps.shape != (count,):
        raise ValueError(f"`x` must have the shape ({count},), a number for every step, got {steps.shape}")
    if not (np.isfinite(steps).all() and (np.diff(steps) > 0).all()):
        raise ValueError(f"`x` must be finite and increase, got {received(x)}; sort the steps first")
    return steps


def _scale(tables: Sequence[Floats]) -> Scale:
    values = np.concatenate([table[np.isfinite(table)] for table in tables])
    return "log" if values.size and values.min() > 0 and values.max() > WIDE * values.min() else "linear"


def _look(style: Style, steps: int, place: int, names: int) -> dict[str, Any]:
    look: dict[str, Any] = {"color": style.color, "linestyle": style.line}
    if steps >= MARKED and names <= FEW:
        return look
    apart = 1 if steps < MARKED else steps // MARKERS
    return look | {"marker": style.marker, "markevery": (place * apart // names, apart)}


def _draw(axes: Axes, steps: Floats, table: Floats, look: dict[str, Any], band: Band | None, scale: Scale) -> None:
    seeds = np.ma.masked_invalid(table)
    if len(table) > 1 and band:
        axes.fill_between(steps, *_band(seeds, band, scale), color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(steps, seeds.mean(0).filled(np.nan) if len(table) else np.full_like(steps, np.nan), **look)


def _draw_diverged(axes: Axes, steps: Floats, tables: Mapping[str, Floats], styles: Mapping[str, Style]) -> None:
    """As far as they come, within the limits that the others have given the Axes."""
    limits = axes.get_ylim() if any(len(whole(table)) for table in tables.values()) else None
    for name, table in tables.items():
        for seed in diverged(table):
            if np.isfinite(seed).any():
                end = int(np.flatnonzero(np.isfinite(seed))[-1])
                look: dict[str, Any] = {"color": styles[name].color, "linestyle": styles[name].line}
                axes.plot(steps, seed, linewidth=0.7, alpha=0.7, marker="x", markevery=[end], **look)
    if limits:
        axes.set_ylim(limits)


def _band(seeds: Any, band: Band, scale: Scale) -> tuple[Floats, Floats]:
    low, high = seeds.min(0).filled(np.nan), seeds.max(0).filled(np.nan)
    if band == "range":
        return low, high
    mean, deviation = seeds.mean(0).filled(np.nan), seeds.std(0, ddof=1).filled(np.nan)
    reaches_zero = (mean <= deviation) & (scale == "log")
    return np.where(reaches_zero, low, mean - deviation), mean + deviation


def _title(tables: Mapping[str, Floats], band: Band) -> str:
    seeds = number(tables)
    banded = f" and {BANDS[band]}" if len(tables) <= BANDED else ""
    return "One seed" if seeds == "1 seed" else f"Mean{banded} of {seeds}"
