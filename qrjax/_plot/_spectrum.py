"""The singular values of matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._layouts._effective_rank import effective_rank
from qrjax._plot._arrays import Floats, matrix, named
from qrjax._plot._axes import entry, in_numbers, marker_size, panel, plain, titled, wide
from qrjax._plot._legend import legend
from qrjax._plot._styles import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Singular values this far below the largest are the rounding of float32.
ROUNDING = 1e-7
# Markers along a line.
MARKERS = 8


def spectrum(matrices: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draws the singular values of matrices, which tell how many directions carry their weights.

    Each is relative to the root mean square of its matrix's, on a logarithmic axis, and has its place among them from
    0, the largest, to 1, so that matrices of all sizes and scales compare. An orthogonal matrix is a line at 1;
    one of few directions falls at once. Values below 1e-7 of the largest are rounding and are left out.

    Args:
      matrices: names and arrays of two axes or more, real and finite; one of more axes, such as a convolution's
        kernel, is a matrix with a column for every entry of its last axis.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes, with the effective rank (`qrjax.effective_rank`) of each matrix in the legend.

    Raises:
      TypeError: if `matrices` does not map names to arrays of real numbers, or `ax` is no Axes.
      ValueError: if `matrices` is empty, or an array has fewer than two axes, no elements or only zeros, or holds a
        NaN or infinity.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax, qrjax
      >>> weights = qrjax.orthogonal_qr()(jax.random.key(0), (64, 32))
      >>> axes = qrjax.plot.spectrum({"orthogonal": weights})
      >>> axes.get_legend().get_texts()[0].get_text()
      'orthogonal: effective rank 32.0 of 32'
    """
    found = {name: _checked(name, weights) for name, weights in named("matrices", matrices, '{"kernel": w}').items()}
    axes = panel(ax)
    for place, ((name, kernel), style) in enumerate(zip(found.items(), styled(found, axes).values(), strict=True)):
        values = relative(kernel)
        kept = values >= ROUNDING * values[0]
        label = f"{name}: effective rank {effective_rank(kernel):.1f}" + f" of {len(values)}" * wide(axes)
        look: dict[str, Any] = {"color": style.color, "linestyle": style.line, "marker": style.marker}
        apart = max(1, int(kept.sum()) // MARKERS)
        look |= {"markersize": marker_size(axes), "markevery": (place * apart // len(found), apart)}
        axes.plot(_places(len(values))[kept], values[kept], label=entry(axes, label), **look)
    axes.set(xlim=(0, 1), xlabel="index / number of singular values", ylabel="singular value / root mean square")
    _octaves(axes)
    plain(axes)
    titled(axes, "Singular values, the largest first")
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None, above=False)
    in_numbers(axes.yaxis)
    return axes


def _octaves(axes: Axes) -> None:
    """A logarithmic axis of an octave around 1 or more, so that equal values look it."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 0.5), max(high, 2.0)
    axes.set_ylim(low, high)


def _checked(name: str, weights: Any) -> Floats:
    label = f"`matrices`[{name!r}]"
    kernel = matrix(label, weights)
    if not kernel.any():
        raise ValueError(f"{label} holds only zeros, which have no directions; leave it out")
    return kernel


def relative(kernel: Floats) -> Floats:
    """Singular values, the largest first, over their root mean square."""
    values = np.linalg.svd(kernel, compute_uv=False)
    return np.asarray(values / np.sqrt(np.mean(values**2)), np.float64)


def _places(count: int) -> Floats:
    """The centres of `count` equal parts of [0, 1]."""
    return (np.arange(count) + 0.5) / count
