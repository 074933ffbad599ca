"""What a check is asked for, and whether it may be."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from qrjax._autoinit._backward import check_gradients
from qrjax._autoinit._calls import is_module
from qrjax._autoinit._names import WHOSE
from qrjax._rates._names import OPTIMIZERS
from qrjax._terminal._names import choice
from qrjax._terminal._received import received
from qrjax._words._numbers import real_number, whole_number

Loss = Callable[[Any], Any]
# A relative change of each output by a step, so small that changes add up; and Adam's usual rate.
RELATIVE, USUAL = 2.0**-6, 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """What is trained, and how; see `qrjax.coordinate_check`."""

    loss: Loss
    steps: int
    optimizer: Any
    multipliers: bool
    rate: float | None
    weights: Any
    head: float | None
    outputs: float | None
    branches: float | None
    seeds: int
    tolerance: float

    def told(self) -> dict[str, Any]:
        """All but the loss, as plain values."""
        fields = [field.name for field in dataclasses.fields(self) if field.name != "loss"]
        found = {name: getattr(self, name) for name in fields}
        found |= {name: _named(found[name]) for name in ("optimizer", "weights")}
        if callable(self.optimizer):
            found["multipliers"] = None
        if self.weights != "autoinit":
            found["head"] = None
        return found


def checked(
    steps: Any, optimizer: Any, multipliers: Any, rate: Any, weights: Any, head: Any, outputs: Any, branches: Any,
    seeds: Any, tolerance: Any, loss: Any,
) -> Settings:  # fmt: skip
    """The settings.

    Raises:
      ValueError: if one is out of range.
      TypeError: if one has the wrong type.
    """
    check_gradients(False, loss)
    if not isinstance(multipliers, bool):
        raise TypeError(f"`multipliers` must be True or False, got {received(multipliers)}")
    if not callable(weights):
        choice("weights", weights, WHOSE)
    scaled = multipliers and not callable(optimizer)
    if outputs is not None and not scaled:
        raise ValueError(f"`outputs` is what multipliers are measured by, got {received(outputs)} without; drop it")
    if branches is not None and not scaled and weights != "autoinit":
        raise ValueError(
            f"`branches` is for autoinit's weights and for multipliers, got {received(branches)} without; drop it"
        )
    return Settings(
        loss, _count("steps", steps), optimizer, multipliers, _rate(rate, optimizer, multipliers), weights, head,
        outputs, branches, _count("seeds", seeds), checked_tolerance(tolerance),
    )  # fmt: skip


def checked_make(make_model: Any) -> None:
    """Nothing, if this may make models.

    Raises:
      TypeError: if it cannot.
    """
    if not callable(make_model) or is_module(make_model):
        raise TypeError(
            f"`make_model` must be a function of a width, got {received(make_model)}; as in lambda n: Network(n)"
        )


def checked_widths(widths: Any) -> list[int]:
    """The widths.

    Raises:
      TypeError: if they are no integers.
      ValueError: if they are fewer than two, or do not increase.
    """
    try:
        found = [whole_number(n) for n in widths] if isinstance(widths, (list, tuple, range, np.ndarray)) else None
    except TypeError:
        found = None
    if found is None:
        raise TypeError(f"`widths` must be a list of integers, such as [64, 256, 1024], got {received(widths)}")
    if len(found) < 2 or any(a >= b for a, b in itertools.pairwise(found)) or found[0] < 1:
        raise ValueError(f"`widths` must be two positive integers or more, increasing, got {found}")
    return found


def checked_tolerance(tolerance: Any) -> float:
    """The tolerance as a float.

    Raises:
      ValueError: if it is not positive and finite.
    """
    if not _is_positive(tolerance):
        raise ValueError(f"`tolerance` must be a positive slope, such as 0.1, got {received(tolerance)}")
    return real_number(tolerance)


def _is_positive(value: Any) -> bool:
    try:
        return 0 < real_number(value) < math.inf
    except TypeError:
        return False


def _count(name: str, value: Any) -> int:
    try:
        found = whole_number(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {received(value)}") from None
    if found < 1:
        raise ValueError(f"`{name}` must be 1 or more, got {found}")
    return found


def _rate(rate: Any, optimizer: Any, multipliers: bool) -> float | None:
    if callable(optimizer):
        if rate is not None:
            raise ValueError(f"`rate` is for an optimizer by name, got {rate!r} beside a function; put it in there")
        return None
    choice("optimizer", optimizer, OPTIMIZERS)
    if rate is None:
        return RELATIVE if multipliers else USUAL
    if not _is_positive(rate):
        raise ValueError(f"`rate` must be positive and finite, got {received(rate)}")
    return real_number(rate)


def _named(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
