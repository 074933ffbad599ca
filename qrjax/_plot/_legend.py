"""Legends that cover nothing: in a free corner, in room made for them, or beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrjax._plot._axes import SMALLER, broken, inches, text_size, wide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

CORNERS = ("upper right", "upper left", "lower left", "lower right")
# The share of the Axes' height that a legend within them may take.
SHARE = 0.45
# Letters of a line beside the Axes.
BESIDE = 36
LOOK: dict[str, Any] = {"framealpha": 0.9, "edgecolor": "none", "handlelength": 3.0}


def legend_above(axes: Axes, handles: Sequence[Any], columns: int = 2) -> None:
    """A legend above the Axes, where a layout gives it room, in so many columns or as many as fit."""
    look = LOOK | {"fontsize": SMALLER[text_size(axes)], "frameon": False, "borderaxespad": 0.2, "columnspacing": 1.5}
    for count in range(columns, 0, -1):
        box = _made(axes, handles, {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": count, **look})
        if box.width <= axes.get_window_extent().width:
            break


def legend(axes: Axes, handles: Sequence[Any], *, own: bool, above: bool = True, corners: bool = True) -> None:
    """A legend of the handles, whose labels may have several lines.

    It stands in a corner that is free, else at an end of the vertical axis, which is moved to make room, else, where
    the figure is our own, beside the Axes. Given ones have no such place: there the entries that fit are shown, and
    the last of them counts the others.
    """
    look = LOOK | {"fontsize": SMALLER[text_size(axes)]}
    if corners and _in_a_corner(axes, handles, look):
        return
    if _along(axes, handles, look, above):
        return
    if own:
        _beside(axes, handles, look)
    else:
        _along(axes, _fitting(axes, handles, look), look, above, force=True)


def _label(handle: Any) -> str:
    """Of a handle, or of several that one entry shows."""
    return str((handle if hasattr(handle, "get_label") else handle[0]).get_label())


def _made(axes: Axes, handles: Sequence[Any], look: Mapping[str, Any]) -> Bbox:
    """The legend's place in pixels."""
    from matplotlib.legend_handler import HandlerTuple

    several: Any = {tuple: HandlerTuple(ndivide=None)}
    found = axes.legend(handles, [_label(handle) for handle in handles], handler_map=several, **look)
    return found.get_window_extent()


def _in_a_corner(axes: Axes, handles: Sequence[Any], look: dict[str, Any]) -> bool:
    for corner in CORNERS:
        box = _made(axes, handles, {"loc": corner, **look})
        whole = axes.get_window_extent()
        if box.height > 0.6 * whole.height or box.width > 0.75 * whole.width:
            return False
        if not covered(axes, box.padded(4)):
            _made(axes, handles, {"loc": "best", **look})  # when drawn, layouts having moved the Axes
            return True
    return False


def covered(axes: Axes, box: Bbox) -> bool:
    """Whether data are drawn there; lines of reference, across the whole Axes, may run behind a legend."""
    lines = [(line.get_transform(), line.get_path(), False) for line in axes.lines]
    areas = [(area.get_transform(), path, True) for area in axes.collections for path in area.get_paths()]
    return any(
        _crosses(transform.transform_path(path).vertices, box, filled)
        for transform, path, filled in (*lines, *areas)
        if transform is axes.transData
    )


def _crosses(vertices: Any, box: Bbox, filled: bool) -> bool:
    from matplotlib.path import Path

    finite = np.asarray(vertices)[np.isfinite(vertices).all(1)]
    return len(finite) > 0 and bool(Path(finite).intersects_bbox(box, filled))


def _along(axes: Axes, handles: Sequence[Any], look: dict[str, Any], above: bool, force: bool = False) -> bool:
    """At an end of the vertical axis, in up to three columns that fit; whether there is so much room."""
    whole = axes.get_window_extent()
    for columns in (3, 2, 1):
        place = "upper center" if above else "lower center"
        box = _made(axes, handles, {"loc": place, "ncols": columns, **look})
        if box.width <= whole.width:
            break
    if box.height > SHARE * whole.height and not force:
        return False
    # Some more, as a layout may still make the Axes lower, small ones more so.
    share = (1.15 if wide(axes) else 1.4) * box.height / whole.height + 0.03
    _make_room(axes, above, min(share, 0.7))
    return True


def _make_room(axes: Axes, above: bool, share: float) -> None:
    """Moves an end of the vertical axis, of whatever scale, until so much of its length is free there."""
    low, high = axes.yaxis.get_transform().transform(np.array(axes.get_ylim()))
    room = (high - low) * share / (1 - share)
    ends = (low, high + room) if above else (low - room, high)
    axes.set_ylim(*axes.yaxis.get_transform().inverted().transform(np.array(ends)))


def _beside(axes: Axes, handles: Sequence[Any], look: dict[str, Any]) -> None:
    """In as many columns as the Axes' height asks for; the figure grows by their width."""
    for handle in handles:
        handle.set_label(broken(" ".join(handle.get_label().split()), BESIDE))
    figure = axes.get_figure(root=True)
    assert figure is not None
    columns = 1
    while True:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "ncols": columns}
        box = _made(axes, handles, place | look)
        if box.height <= axes.get_window_extent().height or columns == len(handles):
            break
        columns += 1
    figure.set_figwidth(figure.get_figwidth() + box.width / figure.dpi)


def _fitting(axes: Axes, handles: Sequence[Any], look: dict[str, Any]) -> list[Any]:
    """The first of the handles that fit into half of the height, and one that counts the others."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.lines import Line2D

    line = 1.5 * FontProperties(size=look["fontsize"]).get_size_in_points() / 72
    room = int(SHARE * inches(axes)[1] / line)
    kept: list[Any] = []
    for handle in handles:
        room -= _label(handle).count("\n") + 1
        if room < 1:
            break
        kept.append(handle)
    others = len(handles) - len(kept)
    return [*kept, Line2D([], [], linestyle="", label=f"and {others} more")] if others else kept
