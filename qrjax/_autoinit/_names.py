"""The settings that are names, for checks and for type checkers."""

from __future__ import annotations

from typing import Literal, get_args

# How weights are drawn, from what, and what sizes a table that makes logits too.
Drawn = Literal["truncated_normal", "normal", "uniform", "orthogonal", "own"]
Source = Literal["sobol", "hash"]
Tied = Literal["logits", "lookup"]
# Whose gains a report has, and who made a record's variables.
Whose = Literal["autoinit", "module"]
By = Literal["autoinit", "init"]

DRAWN, SOURCES, TIED, WHOSE, BY = (get_args(names) for names in (Drawn, Source, Tied, Whose, By))
