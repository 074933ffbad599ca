"""Rules by primitive."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._rules._equations import Equation, Rule
from qrjax._rules._moves import MOVES, moving
from qrjax._rules._operands import Value
from qrjax._signals._masks import resolved
from qrjax._signals._signal import Signal

# Pairs of neighbours along the axes of an image.
NEAR = "near"

# Rules that take Signals; known inputs are described first.
RULES: dict[str, Rule] = {}
# Rules that take whatever there is, for control flow and for structure that keeps arrays known.
STRUCTURAL: dict[str, Rule] = {}
# Rules of users, which come before all others.
CUSTOM: dict[str, Rule] = {}


# What is tried before a rule for arrays: (equation, values) -> the outputs, or None.
FIRST: list[Callable[[Equation, Sequence[Value]], list[Value] | None]] = []


def signals(*names: str, masked: bool = False) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *signals) for these primitives; `masked` if it knows of absent elements."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, _first(rule if masked else _of_all(rule))))
        return rule

    return register


def structural(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *values) for these primitives."""

    def register(rule: Rule) -> Rule:
        for name in names:
            moves = name in MOVES
            STRUCTURAL[name] = _first(moving(rule) if moves else rule) if moves or "scatter" in name else rule
        return rule

    return register


def _first(rule: Rule) -> Rule:
    """The rule, unless what comes before all rules gives an answer."""

    @functools.wraps(rule)
    def call(equation: Equation, *values: Value) -> Any:
        for attempt in FIRST:
            found = attempt(equation, values)
            if found is not None:
                return found if len(found) > 1 else found[0]
        return rule(equation, *values)

    return call


def _of_all(rule: Rule) -> Rule:
    """The rule on signals of all elements, where absent ones are the number that they hold."""

    @functools.wraps(rule)
    def call(equation: Equation, *operands: Signal) -> Any:
        return rule(equation, *map(resolved, operands))

    return call


@structural("name")
def name(equation: Equation, value: Value) -> Value:
    """A named value is itself; the walk may know the name."""
    return equation.context.mark(equation.params["name"], value)


@structural(COMPILED_ONCE)
def compiled_once(_equation: Equation, value: Value) -> Value:
    """A note to the compiler changes nothing."""
    return value
