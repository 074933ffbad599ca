"""Second moments as arguments."""

from __future__ import annotations

import math
from typing import Any

from qrjax._terminal._received import received
from qrjax._words._numbers import real_number


def positive(name: str, value: Any, of: str = "layers' outputs", remedy: str = "") -> float:
    """A positive finite number, the second moment of something.

    Raises:
      TypeError, ValueError: if it is not.
    """
    try:
        found = real_number(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be a number, the second moment of {of}, got {received(value)}{remedy}"
        ) from None
    if not (found > 0 and math.isfinite(found)):
        raise ValueError(f"`{name}` is a second moment, so it must be positive and finite, got {found!r}")
    return found
