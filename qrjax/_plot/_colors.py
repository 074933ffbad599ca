"""What is drawn in the color of text, so that it is seen in every style, the dark ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A contrast, from 1 to 21, that thin lines and small letters need.
LEGIBLE = 3.0
# Of what stands behind the data: the share of the text's color in it.
MUTED = 0.65


def ink(axes: Axes) -> str:
    """The color of text: that of the Axes' title, or where that would not be seen on the Axes black or white."""
    from matplotlib.colors import to_hex

    face = _face(axes)
    candidates = [to_hex(axes.title.get_color()), "#000000", "#ffffff"]
    return next((color for color in candidates if contrast(color, face) >= LEGIBLE), candidates[0])


def muted(axes: Axes, share: float = MUTED) -> str:
    """A color between text's and the Axes' own, for notes and lines of reference."""
    from matplotlib.colors import to_hex, to_rgb

    return to_hex(share * np.array(to_rgb(ink(axes))) + (1 - share) * np.array(to_rgb(_face(axes))))  # type: ignore[arg-type]


def is_dark(axes: Axes) -> bool:
    """Whether what is light is seen better on the Axes."""
    return contrast("white", _face(axes)) > contrast("black", _face(axes))


def contrast(first: str, second: str) -> float:
    """The ratio of luminances, from 1 to 21, as the Web Content Accessibility Guidelines 2.2 define it."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _face(axes: Axes) -> str:
    """What is behind the data: the Axes' color, or what shows through it."""
    from matplotlib.colors import to_hex, to_rgba

    faces = (axes.get_facecolor(), axes.get_figure(root=True).get_facecolor())  # type: ignore[union-attr]
    return to_hex(next((face for face in map(to_rgba, faces) if face[3] > 0.5), (1.0, 1.0, 1.0)))
