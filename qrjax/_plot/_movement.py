"""How far training moved each layer, checkpoint by checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._plot._arrays import Floats
from qrjax._plot._axes import entry, marker_size, panel, plain, titled
from qrjax._plot._colors import ink, is_dark
from qrjax._plot._legend import legend
from qrjax._plot._styles import styled
from qrjax._terminal._abbreviations import in_order
from qrjax._tracking._changes import Change, Changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Layers with a line of their own look and an entry in the legend; of more, three entries along the colors.
NAMED = 7
TOTAL = "all weights"
# The part of the color map that is seen on a dark ground, and on a light one.
LIGHT, DARK = (0.2, 1.0), (0.0, 0.9)


def movement(found: Mapping[Any, Changes], *, ax: Axes | None = None) -> Axes:
    """Draws the root-mean-square distance of each layer from its initial weights against the steps of training.

    A layer's variables count together, weight by weight; the thick line is all of them. On the logarithmic axis a
    layer's line begins where it first moved.

    Args:
      found: for every step what `qrjax.changes` returned for its checkpoint.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `found` does not map numbers to what `qrjax.changes` returns, or `ax` is no Axes.
      ValueError: if `found` is empty, or its checkpoints have different layers.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax, jax.numpy as jnp, matplotlib, qrjax
      >>> matplotlib.use("agg")
      >>> start = {"first": {"kernel": jnp.ones((4, 4))}, "last": {"kernel": jnp.ones((4, 2))}}
      >>> moved = {step: jax.tree.map(lambda w: w + 0.01 * step, start) for step in (10, 20, 40)}
      >>> axes = qrjax.plot.movement({step: qrjax.changes(start, params) for step, params in moved.items()})
      >>> [text.get_text() for text in axes.get_legend().get_texts()]
      ['first', 'last', 'all weights']
    """
    steps, lines = _lines(found)
    axes = panel(ax)
    for (name, line), look in zip(lines.items(), _looks(list(lines), axes), strict=True):
        if look["label"]:
            look["label"] = entry(axes, look["label"])
        axes.plot(steps, np.where(line > 0, line, np.nan), **look)
        if name == TOTAL:
            axes.lines[-1].set_zorder(3)
    if any((line > 0).any() for line in lines.values()):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="root-mean-square |Δ|")
    axes.grid(which="minor", alpha=0.3, linewidth=0.5)
    plain(axes)
    titled(axes, "Movement from the initial weights")
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None)
    return axes


def layers(found: Changes) -> dict[str, float]:
    """The root-mean-square change of each layer, of which a variable's path is all but the last step."""
    groups: dict[str, list[Change]] = {}
    for row in found:
        groups.setdefault(row.path.rpartition("/")[0] or row.path, []).append(row)
    return {name: _together(groups[name]) for name in in_order(list(groups))} | {TOTAL: found.total.rms_change}


def _together(rows: Sequence[Change]) -> float:
    counts = [row.weights - row.not_finite for row in rows]
    squares = sum(n * row.rms_change**2 for n, row in zip(counts, rows, strict=True))
    return math.sqrt(squares / max(sum(counts), 1))


def _lines(found: Any) -> tuple[Floats, dict[str, Floats]]:
    """The steps in order, and each layer's movement at them."""
    if not isinstance(found, Mapping) or not all(isinstance(value, Changes) for value in found.values()):
        raise TypeError(f"`found` must map steps to what qrjax.changes(record, params) returns, got {found!r:.80}")
    if not found:
        raise ValueError("`found` must have one step or more, got none")
    try:
        steps = np.array([float(step) for step in found])
    except (TypeError, ValueError):
        raise TypeError(f"`found` must have numbers for its steps, got {next(iter(found))!r}") from None
    order = np.argsort(steps, kind="stable")
    rows = [layers(found[step]) for step in found]
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError("`found` must have the same variables at every step; are these checkpoints of one run?")
    return steps[order], {name: np.array([rows[i][name] for i in order]) for name in rows[0]}


def _looks(names: Sequence[str], axes: Axes) -> list[dict[str, Any]]:
    """Color, line and entry in the legend of each, the last being the total."""
    import matplotlib

    looks: list[dict[str, Any]]
    count = len(names) - 1
    if count < NAMED:
        styles = styled(["", *names[:-1]], axes).values()
        looks = [
            {"color": s.color, "linestyle": s.line, "marker": s.marker, "markersize": marker_size(axes), "label": name}
            for s, name in zip(list(styles)[1:], names[:-1], strict=True)
        ]
    else:
        colors = matplotlib.colormaps["viridis"](np.linspace(*(LIGHT if is_dark(axes) else DARK), count))
        told = {0, count // 2, count - 1}
        labels = [name if i in told else None for i, name in enumerate(names[:-1])]
        looks = [
            {"color": color, "linewidth": 1.0, "marker": ".", "label": label}
            for color, label in zip(colors, labels, strict=True)
        ]
    return [*looks, {"color": ink(axes), "linewidth": 2.0, "label": names[-1]}]
