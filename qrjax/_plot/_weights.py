"""Initial weights as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._plot._arrays import Floats, matrix
from qrjax._plot._axes import color_scale, panel, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# An image shows at most so many weights along an axis, 3 pixels each in a figure of 700.
CELLS = 128
# From negative to positive: blue, grey at 0, orange, and lighter all the way, so that grey shows the sign, too.
COLORS = ("#001B3F", "#005A94", "#8C8C8C", "#EBA93A", "#FFF6D6")


def weights(weights: Any, *, ax: Axes | None = None) -> Axes:
    """Draws a kernel's weights as an image, in which an order that chance would not make is seen at once.

    A column is an output, a row one of its inputs, as everywhere in these pictures: a convolution's kernel of shape
    (height, width, inputs, outputs) has height * width * inputs rows. Colors are symmetric about 0, which is grey;
    lighter is larger. Of a kernel of more than 128 rows or columns the image holds the first 128, as means over
    blocks would hide what it is for; its title says so.

    Args:
      weights: an array of two axes or more, real and finite; the last axis is the outputs.
      ax: None for a new figure, or one of matplotlib's Axes.

    Returns:
      The Axes. `.figure.savefig(path)` keeps the picture.

    Raises:
      TypeError: if `weights` is not an array of real numbers, or `ax` no Axes.
      ValueError: if `weights` has fewer than two axes or no elements, or holds a NaN or infinity.
      ImportError: if matplotlib is not installed.

    Example:
      >>> import jax, qrjax
      >>> axes = qrjax.plot.weights(qrjax.he_normal_qr()(jax.random.key(0), (64, 32)))
      >>> axes.get_title(), axes.images[0].get_array().shape
      ('Weights of a 64 x 32 kernel', (64, 32))
    """
    kernel = matrix("`weights`", weights)
    shown = kernel[:CELLS, :CELLS]
    axes = panel(ax)
    _image(axes, shown)
    titled(axes, _title(np.shape(weights), kernel, shown))
    return axes


def _image(axes: Axes, shown: Floats) -> None:
    limit = float(abs(shown).max()) or 1.0
    image = axes.imshow(shown, cmap=_colors(), vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.grid(False)  # which some styles draw over images
    color_scale(axes, image, "weight")
    axes.set(xlabel="output", ylabel="input of an output")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]


def _colors() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", COLORS)


def _title(shape: tuple[int, ...], kernel: Floats, shown: Floats) -> str:
    title = f"Weights of a {' x '.join(map(str, shape))} kernel"
    cut = [
        f"first {part} of {whole:,} {noun}"
        for part, whole, noun in zip(shown.shape, kernel.shape, ("inputs", "outputs"), strict=True)
        if part < whole
    ]
    return title + (f": {' and '.join(cut)}" if cut else "")
