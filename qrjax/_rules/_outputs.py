"""Running sums over what a weight puts out, which are smaller than sums of independent numbers."""

from __future__ import annotations

from qrjax._rules._equations import Equation
from qrjax._signals._signal import Signal

# What a note says of them.
SHARED_SUM = "over a weight's own outputs"


def noted(equation: Equation, x: Signal, axis: int) -> None:
    """Says so, where the array is a weight's output, or that times a number, and the axis is that of its units."""
    if x.ndim < 2 or axis != x.ndim - 1 or x.source is None or x.source.born is None or not x.is_normal:
        return
    equation.context.note(
        f"approximate: running sums {SHARED_SUM}, taken as independent: of weights that sum to nothing over their "
        "outputs, as in the layout 'outputs', they are smaller"
    )
