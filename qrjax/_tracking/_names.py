"""The criteria by name, for those who list them and read no weights: this file loads no JAX."""

from __future__ import annotations

from typing import Literal, get_args

Criterion = Literal["change", "relative_change", "movement", "magnitude", "random"]
CRITERIA: tuple[str, ...] = get_args(Criterion)
