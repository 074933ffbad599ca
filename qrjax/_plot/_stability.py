"""What layers of an activation do to a gradient and to the scale, by the second moment that they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._activations._stability import Stability
from qrjax._plot._axes import entry, marker_size, panel, plain, titled
from qrjax._plot._colors import ink
from qrjax._plot._legend import legend
from qrjax._plot._styles import styled
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Layers that the vertical axis counts by.
LAYERS = 100
# The axis is linear up to here, in octaves; what an eye is to tell apart lies around it.
LINEAR = 1.0


def stability(found: Stability | Sequence[Stability] | Mapping[str, Stability], *, ax: Axes | None = None) -> Axes:
    """Draws by how much a gradient and an error of the scale grow over 100 layers, against the layers' second moment.

    A solid line is the gradient's second moment, a dashed one a small error of the signal's, in octaves (powers of
    two). Where both are near 0 both halves of the signal hold. Both axes are logarithmic, the vertical one beyond one
    octave.

    Args:
      found: what `qrjax.stability` gives, or several, in a list or by names of your own.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes.

    Raises:
      TypeError: if `found` holds anything else, or `ax` is no Axes.
      ValueError: if `found` is empty.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax, qrjax
      >>> axes = qrjax.plot.stability([qrjax.stability(f) for f in (jax.numpy.tanh, jax.nn.gelu)])
      >>> [text.get_text() for text in axes.get_legend().get_texts()]
      ['gradient', 'error of the scale', 'tanh', 'gelu']
    """
    curves = _named(found)
    axes = panel(ax)
    for line, label in (("-", "gradient"), ("--", "error of the scale")):
        axes.plot([], [], line, color=ink(axes), label=label)
    for (name, one), style in zip(curves.items(), styled(curves, axes).values(), strict=True):
        order = np.argsort(one.targets)
        for factor, line in ((one.gradient, "-"), (one.scale, "--")):
            octaves = LAYERS * np.log2(np.maximum(factor[order], 1e-300))
            axes.plot(one.targets[order], octaves, line, color=style.color)
            if line == "-":
                axes.lines[-1].set(marker=style.marker, markersize=marker_size(axes), label=entry(axes, name))
    axes.set_xscale("log", base=2)
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="second moment of each layer's output", ylabel=f"octaves over {LAYERS} layers")
    plain(axes)
    axes.axhline(0, color=ink(axes), linewidth=0.8, zorder=0)
    titled(axes, "What layers do to a gradient and to an error")
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None)
    return axes


def _named(found: Any) -> dict[str, Stability]:
    if isinstance(found, Stability):
        return {found.name: found}
    several = dict(found) if isinstance(found, Mapping) else None
    if several is None and isinstance(found, (list, tuple)):
        several = {getattr(one, "name", str(number)): one for number, one in enumerate(found)}
        if len(several) < len(found):
            raise ValueError('`found` has two of one name; name them yourself: {"tanh": found, ...}')
    if several is None or not all(isinstance(one, Stability) for one in several.values()):
        raise TypeError(f"`found` must be what qrjax.stability gives, or several of it, got {received(found)}")
    if not several:
        raise ValueError("`found` is empty; pass at least one, such as qrjax.stability(jax.nn.gelu)")
    return several
