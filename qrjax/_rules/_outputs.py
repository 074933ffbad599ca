"""Running sums and means over what a weight puts out, which are smaller than those of independent numbers."""

from __future__ import annotations

from collections.abc import Sequence

from qrjax._rules._equations import Equation
from qrjax._signals._signal import Signal

# What a note says of them.
SHARED_SUM = "over a weight's own outputs"
# Where outputs sum to nothing, the mean of shares adds nothing: a prediction is off by -log2(1 - its part of their
# second moment), here by the .35 octaves that are aimed for at the 90th percentile.
EVEN = 1 - 2**-0.35


def noted(equation: Equation, x: Signal, axis: int) -> None:
    """Says so, where the array is a weight's output, or that times a number, and the axis is that of its units."""
    if x.ndim < 2 or axis != x.ndim - 1 or x.source is None or x.source.born is None or not x.is_normal:
        return
    _note(equation, "running sums")


def averaged(equation: Equation, shares: Signal, x: Signal, axes: Sequence[int]) -> None:
    """Says so of nearly even weighted sums over a weight's units, as where channels attend to each other."""
    if not x.input_axes or x.input_axes & set(axes) or x.source is None or x.source.born is None or not x.is_normal:
        return
    if shares.mean**2 >= EVEN * shares.second_moment:
        _note(equation, "weighted means")


def _note(equation: Equation, what: str) -> None:
    equation.context.note(
        f"approximate: {what} {SHARED_SUM}, taken as independent: of weights that sum to nothing over their outputs, "
        "as in the layout 'outputs', they are smaller"
    )
