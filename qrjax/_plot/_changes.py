"""What training changed: bars for every variable, and one kernel weight by weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._interpreter._processes import gathered
from qrjax._plot._axes import SMALLER, Panels, color_scale, inches, plain, text_size, titled, wide
from qrjax._plot._colors import muted
from qrjax._plot._legend import legend_above
from qrjax._plot._matplotlib import required
from qrjax._plot._styles import BLUE, VERMILION
from qrjax._terminal._abbreviations import in_order, shortened
from qrjax._terminal._received import received
from qrjax._tracking._changes import Change, Changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANGED, BROKEN = BLUE, VERMILION
# The share of the text's color in what sleeps.
ASLEEP = 0.18
# A heat map has at most so many cells along an axis; beyond, each is the mean over a block.
CELLS = 256
# Inches of a bar, and of the least and the tallest figure; of the heat map's height.
BAR, LEAST, TALLEST, HEAT = 0.2, 3.2, 24.0, 4.5
# Bars that the least figure has room for; fewer are not made thicker.
FEW = 8
# Inches of a line of letters, small ones and those still smaller.
SMALL, LINE = 0.14, 0.11
# Letters of a variable's name, in a figure of our own and in small Axes.
LONG, SHORT = 34, 16


def changes(found: Changes, *, kernel: str | None = None, ax: Iterable[Axes] | None = None) -> Panels:
    """Draws how much of every variable training changed and by how much, and one kernel weight by weight.

    The left panel holds for every variable the share of its weights that changed, the next the root-mean-square
    of the changes on a logarithmic axis, and the heat map |w - w0| of one kernel: a column for every output, a row
    for every input of one, blocks of them averaged where there are too many to see. What did not change by more
    than the threshold is grey. Variables are in the order of the params, or where that is the alphabet's, in that of
    their numbers. Where the params span processes, each of them has to call it.

    Args:
      found: from `qrjax.changes`.
      kernel: the path of the variable in the heat map; by default, of those with two axes or more, the one that
        changed most (root-mean-square).
      ax: None for a new figure, or three of matplotlib's Axes.

    Returns:
      The three Axes (shares, sizes, heat map). `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `found` is not what `qrjax.changes` returns, or `ax` not three Axes.
      KeyError: if there is no variable of the path `kernel`.
      ValueError: if nothing is there to draw, or `kernel` has fewer than two axes.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import flax.linen as nn, functools, jax, jax.numpy as jnp, matplotlib, qrjax
      >>> matplotlib.use("agg")
      >>> init = functools.partial(nn.Dense(64).init, jax.random.key(0), jnp.ones((1, 32)))
      >>> params = jax.tree.map(lambda w: jnp.where(w > 0, w + 0.01, w), init())
      >>> shares, sizes, heat = qrjax.plot.changes(qrjax.changes(init, params))
      >>> sizes.get_xscale(), heat.get_title()
      ('log', '|Δ| of kernel, 32 x 64')
    """
    if not isinstance(found, Changes):
        raise TypeError(f"`found` must be what qrjax.changes(record, params) returns, got {received(found)}")
    rows = [found[path] for path in in_order([row.path for row in found if row.weights])]
    shown = _kernel(found, rows, kernel)
    panels = _panels(ax, len(rows), found)
    _shares(panels[0], rows)
    _sizes(panels[1], rows)
    _heat(panels[2], found, shown)
    return panels


def _kernel(found: Changes, rows: Sequence[Change], path: str | None) -> Change:
    if path is not None:
        row = found[path]
        if len(row.shape or ()) < 2:
            raise ValueError(f"`kernel` {path!r} has the shape {row.shape}; a heat map needs two axes or more")
        return row
    kernels = [row for row in rows if len(row.shape or ()) > 1]
    if not kernels:
        raise ValueError("`found` holds no variable of two axes or more, so there is no kernel to draw")
    return max(kernels, key=lambda row: row.rms_change)


def _panels(ax: Any, count: int, found: Changes) -> Panels:
    axes_type = required().axes.Axes
    if ax is None:
        return _figure(count, found)
    panels = Panels(ax if np.iterable(ax) else (ax,))
    if len(panels) != 3 or not all(isinstance(axes, axes_type) for axes in panels):
        raise TypeError(f"`ax` must be three of matplotlib's Axes, got {ax!r}; None makes a figure")
    return panels


def _figure(count: int, found: Changes) -> Panels:
    """Bars over the whole height, and a heat map that does not grow with their number."""
    import matplotlib.pyplot as plt

    height = min(max(LEAST, 1.2 + BAR * count), TALLEST)
    figure = plt.figure(figsize=(13, height), layout="constrained")
    parts = (height,) if height <= HEAT else (HEAT, height - HEAT)
    grid = figure.add_gridspec(len(parts), 3, width_ratios=(1, 1, 1.5), height_ratios=parts)
    total = found.total
    figure.suptitle(
        f"{total.changed:,} of {total.weights:,} weights ({total.changed_percent:.1f} %) moved by more than "
        f"{found.threshold:g}", x=0.01, horizontalalignment="left", fontsize="medium",
    )  # fmt: skip
    return Panels(figure.add_subplot(part) for part in (grid[:, 0], grid[:, 1], grid[0, 2]))


def _shares(axes: Axes, rows: Sequence[Change]) -> None:
    places = np.arange(len(rows))
    changed = np.array([row.changed_percent for row in rows])
    sleeping = np.array([row.sleeping_percent for row in rows])
    broken = 100 - changed - sleeping
    axes.barh(places, changed, color=CHANGED, label="changed")
    axes.barh(places, sleeping, left=changed, color=muted(axes, ASLEEP), label="sleeping")
    if broken.max() > 1e-9:
        axes.barh(places, broken, left=changed + sleeping, color=BROKEN, label="NaN or infinite")
    axes.set(xlim=(0, 100), xlabel="weights, %")
    _plain(axes, [row.path for row in rows])
    legend_above(axes, axes.get_legend_handles_labels()[0], columns=3)


def _sizes(axes: Axes, rows: Sequence[Change]) -> None:
    places = np.arange(len(rows))
    sizes = np.array([row.rms_change for row in rows])
    moved = sizes > 0
    # Whole decades, so that the axis has numbers to read.
    low = 10.0 ** math.floor(math.log10(sizes[moved].min()) - 0.3) if moved.any() else 1e-3
    high = max(10 * low, 10.0 ** math.ceil(math.log10(sizes.max()))) if moved.any() else 1.0
    axes.barh(places[moved], sizes[moved] - low, left=low, color=CHANGED)
    size = SMALLER[text_size(axes)]
    for place in places[~moved]:
        axes.text(low, place, " no change", verticalalignment="center", color=muted(axes), fontsize=size)
    axes.set(xscale="log", xlim=(low, high), xlabel="root-mean-square |Δ| (log scale)")
    axes.xaxis.set_minor_formatter("")  # between decades numbers would overlap
    _plain(axes, [""] * len(rows))


def _plain(axes: Axes, names: Sequence[str]) -> None:
    """A place for every bar, and names at as many as have room."""
    axes.set_ylim(max(len(names), FEW) - 0.4, -0.6)
    plain(axes, "x")
    titled(axes, "")
    width, height = inches(axes)
    size = SMALLER[SMALLER[text_size(axes)] if len(names) * SMALL > height and wide(axes) else text_size(axes)]
    every = math.ceil(max(len(names), FEW) * LINE / height)
    shown = [shortened(name, LONG if width > 2.4 else SHORT) for name in names[::every]]
    axes.set_yticks(range(0, len(names), every), shown, fontsize=size)


def _heat(axes: Axes, found: Changes, row: Change) -> None:
    from matplotlib.colors import LogNorm

    distance = gathered(abs(found.delta(row.path))).astype(np.float64)
    cells = averaged(distance.reshape(-1, distance.shape[-1]))
    awake = np.ma.masked_where(~(cells > max(found.threshold, 0.0)) | ~np.isfinite(cells), cells)
    colors: dict[str, Any] = {"cmap": "viridis", "aspect": "auto", "interpolation": "nearest"}
    if awake.count():
        top = float(awake.max())
        # A decade at least, so that nearly equal changes look it.
        colors["norm"] = LogNorm(float(np.clip(awake.min(), top / 1e4, top / 10)), top)
    axes.set_facecolor(muted(axes, ASLEEP))
    axes.grid(False)  # which some styles draw over images
    image = axes.imshow(awake, **colors)
    if awake.count():
        color_scale(axes, image, "|Δ| (log scale); grey: sleeping")
    shape = " x ".join(map(str, row.shape or ()))
    axes.set(xlabel="output", ylabel="input of an output")
    titled(axes, f"|Δ| of {row.path}, {shape}")
    axes.set_xlim(-0.5, cells.shape[1] - 0.5)
    _number(axes, distance.shape, cells.shape)


def _number(axes: Axes, shape: tuple[int, ...], cells: tuple[int, ...]) -> None:
    """Ticks count weights, not cells."""
    whole = (math.prod(shape[:-1]), shape[-1])
    width, height = inches(axes)
    for axis, n, m, room in ((axes.yaxis, whole[0], cells[0], height), (axes.xaxis, whole[1], cells[1], width)):
        ticks = np.unique(np.linspace(0, n - 1, min(n, 6 if room > 1.5 else 3)).round().astype(int))
        axis.set_ticks(ticks * m / n, [f"{t:,}" for t in ticks])


def averaged(values: np.ndarray) -> np.ndarray:
    """A matrix of at most CELLS x CELLS, each entry the mean over a block of nearly equal size."""
    for axis, n in enumerate(values.shape):
        if n > CELLS:
            starts = (np.arange(CELLS) * n) // CELLS
            counts = np.diff(np.append(starts, n)).reshape([-1 if a == axis else 1 for a in range(2)])
            values = np.add.reduceat(values, starts, axis=axis) / counts
    return values
