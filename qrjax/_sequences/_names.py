"""What the sequences offer, for those who list it and draw nothing: this file loads no JAX."""

from __future__ import annotations

from typing import Literal

DIMENSIONS = 21_201
Scramble = Literal["shift", "linear", "owen"] | None
SCRAMBLES = (None, "shift", "linear", "owen")
