"""The histogram of an initializer's weights against the density that it declares."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._initializers._arguments import shape_of
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._specification import Specification
from qrjax._plot._arrays import Floats
from qrjax._plot._axes import entry, panel, plain, titled, wide
from qrjax._plot._binomial import central_interval
from qrjax._plot._colors import ink
from qrjax._plot._laws import NAMES, densities, probabilities
from qrjax._plot._legend import legend
from qrjax._plot._styles import BLUE, VERMILION
from qrjax._terminal._received import received

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONFIDENCE = 0.95
MOST_BINS = 1000
# Standard deviations on a side without a bound; more where there are weights.
FAR = 3.0
# How much of the outline's color fills the bars.
FILL = 0.2


def density(init: Initializer, key: jax.Array, shape: Sequence[int], *, bins: int = 40, ax: Axes | None = None) -> Axes:
    """Draws the histogram of `init(key, shape)` against the density that `init` declares for this shape.

    Between the dashed lines lies a bin's count in at least 95 of 100 tensors of independent weights (the central
    binomial interval). Quasirandom weights keep closer to the density; how much closer, the legend says: the root mean
    square over the bins of count minus expectation, divided by that of independent weights. Hashed weights are about
    as good as independent, and have about 1.

    Args:
      init: what a builder other than the orthogonal ones returns, such as `qrjax.he_normal_qr()`.
      key: a JAX key.
      shape: of the tensor, which decides the fans.
      bins: bins of equal width, from 1 to 1000, between the bounds; where there are none, 3 standard deviations
        around the mean, or to the extreme weights.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `init` is no such initializer, `key` no key, `bins` no integer, or `ax` no Axes.
      ValueError: if `shape` holds no weights or does not fit `init`, its weights are complex, or `bins` is not from 1
        to 1000.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax, qrjax
      >>> axes = qrjax.plot.density(qrjax.he_normal_qr(), jax.random.key(0), (256, 128), bins=20)
      >>> axes.get_title(), len(axes.containers[0])
      ('256 x 128 = 32,768 weights of he_normal_qr()', 20)
    """
    _check(init)
    count = _bins(bins)
    weights, specification = _drawn(init, key, shape)
    edges = _edges(specification, weights, count)
    axes = panel(ax)
    _draw(axes, specification, weights, edges)
    axes.set(xlabel="weight", ylabel="density, per unit of weight", ylim=(0, None))
    plain(axes, "y")
    titled(axes, _title(init, specification.shape, weights.size))
    legend(axes, axes.get_legend_handles_labels()[0], own=ax is None, corners=False)
    return axes


def scatter(counts: Any, chances: Floats, n: int) -> float:
    """The root mean square of counts minus expectations, relative to that of n independent draws."""
    variance = float((n * chances * (1 - chances)).sum())
    return math.sqrt(float(((counts - n * chances) ** 2).sum()) / variance) if variance else 0.0


def _check(init: Any) -> None:
    if isinstance(init, Orthogonal):
        raise TypeError(
            f"`init` {init!r} declares no density of single weights, only that rows or columns are orthonormal; "
            "qrjax.plot.spectrum shows that"
        )
    if not isinstance(init, Initializer):
        raise TypeError(
            f"`init` must be an initializer of qrjax, which declares its density, got {received(init)}; for example "
            "qrjax.he_normal_qr()"
        )


def _bins(bins: Any) -> int:
    try:
        count = operator.index(bins)
    except TypeError:
        raise TypeError(f"`bins` must be an integer, got {received(bins)}; for example 40") from None
    if not 1 <= count <= MOST_BINS:
        raise ValueError(f"`bins` must be from 1 to {MOST_BINS}, got {count}; for example 40")
    return count


def _drawn(init: Initializer, key: Any, shape: Any) -> tuple[Floats, Specification]:
    shape = shape_of(shape)
    if 0 in shape:
        raise ValueError(f"`shape` {shape} holds no weights; give every axis a length above 0")
    weights = init(key, shape)
    if jnp.iscomplexobj(weights):
        raise ValueError(f"`init` {init!r} draws complex weights, which lie on no line; build it with a real dtype")
    return np.asarray(weights, np.float64).ravel(), init.specification(shape, weights.dtype)


def _standardized(specification: Specification, values: Floats) -> Floats:
    return (values - specification.scaling.location) / specification.scaling.scale


def _edges(specification: Specification, weights: Floats, count: int) -> Floats:
    """From bound to bound, or to what passes for one, and to the extreme weights where they lie beyond."""
    location, scale = specification.scaling.location, specification.scaling.scale
    lower, upper = (location + scale * bound for bound in specification.distribution.bounds)
    low = lower if math.isfinite(lower) else specification.mean - FAR * specification.stddev
    high = upper if math.isfinite(upper) else specification.mean + FAR * specification.stddev
    return np.linspace(min(low, float(weights.min())), max(high, float(weights.max())), count + 1)


def _draw(axes: Axes, specification: Specification, weights: Floats, edges: Floats) -> None:
    n, widths, law = weights.size, np.diff(edges), specification.distribution
    counts = np.histogram(weights, edges)[0]
    chances = probabilities(law, _standardized(specification, edges))
    limits = np.array([central_interval(n, chance, CONFIDENCE) for chance in chances.tolist()], np.float64)
    spread, between, declared = "weights", f"{100 * CONFIDENCE:g} % by chance", "declared"
    if wide(axes):
        spread += f": their counts scatter {scatter(counts, chances, n):.2f} times as much as by chance"
        between = f"{100 * CONFIDENCE:g} % of counts lie between these by chance (independent weights)"
        declared += f": {NAMES[type(law)]}, standard deviation {specification.stddev:.3g}"
    axes.bar(edges[:-1], counts / (n * widths), widths, align="edge", color=BLUE, alpha=FILL, linewidth=0)
    _steps(axes, counts / (n * widths), edges, spread, color=BLUE, linewidth=1.6)
    for side, label in zip(limits.T, (between, None), strict=True):
        _steps(axes, side / (n * widths), edges, label, color=VERMILION, linewidth=1.2, linestyle=(0, (2, 1)))
    x = np.linspace(edges[0], edges[-1], 1001)
    y = densities(law, _standardized(specification, x)) / specification.scaling.scale
    axes.plot(x, y, color=ink(axes), linewidth=1.5, label=entry(axes, declared))


def _steps(axes: Axes, heights: Floats, edges: Floats, label: str | None, **look: Any) -> None:
    text = None if label is None else entry(axes, label)
    axes.stairs(heights, edges, baseline=None, label=text, **look)


def _title(init: Initializer, shape: tuple[int, ...], n: int) -> str:
    factors = " x ".join(f"{length:,}" for length in shape) + " = " if len(shape) > 1 else ""
    return f"{factors}{n:,} weight{'s' * (n != 1)} of {init!r}"
