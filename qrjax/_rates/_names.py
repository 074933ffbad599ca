"""The kinds of optimizers, for checks and for type checkers."""

from __future__ import annotations

from typing import Literal, get_args

Optimizer = Literal["adam", "sign", "sgd", "muon"]
OPTIMIZERS = get_args(Optimizer)
