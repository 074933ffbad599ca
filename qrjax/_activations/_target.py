"""Second moments as arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qrjax._terminal._received import received


def positive(name: str, value: Any) -> float:
    """A positive finite number.

    Raises:
      TypeError, ValueError: if it is not.
    """
    if isinstance(value, (bool, str, bytes)) or np.shape(value) != () or not np.isrealobj(value):
        raise TypeError(f"`{name}` must be a number, the second moment of layers' outputs, got {received(value)}")
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a number, the second moment of layers' outputs, got {received(value)}"
        ) from None
    if not (found > 0 and math.isfinite(found)):
        raise ValueError(f"`{name}` is a second moment, so it must be positive and finite, got {found!r}")
    return found
