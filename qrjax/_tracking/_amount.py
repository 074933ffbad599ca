"""How much is to go: a threshold, a fraction, or so many of every so many."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._terminal._received import received
from qrjax._tracking._reduction import rounded_down
from qrjax._words._numbers import real_number


class Amount(NamedTuple):
    """One of the first three is not None.

    Attributes:
      limit: what is not larger goes; float32.
      sparsity: the fraction to go; traced, perhaps.
      pattern: (most, of): of every `of` in a row at most `most` stay.
      at_least: the fraction of every variable that stays, whatever else.
    """

    limit: Any
    sparsity: Any
    pattern: tuple[int, int] | None
    at_least: float

    @property
    def is_all(self) -> bool:
        """Whether all weights are to go."""
        return isinstance(self.sparsity, float) and self.sparsity == 1

    def floor(self, size: int) -> int:
        """How many of so many stay, whatever else."""
        return math.ceil(self.at_least * size - 1e-9)

    def count(self, size: int) -> Any:
        """How many of so many go."""
        if isinstance(self.sparsity, float):
            return int(self.sparsity * size + 0.5)
        return jnp.floor(self.sparsity.astype(jnp.float32) * np.float32(size) + np.float32(0.5)).astype(jnp.int32)


def amount(threshold: Any, sparsity: Any, at_least: Any, scope: str, whole: Any) -> Amount:
    """The arguments of `qrjax.mask` that say how much.

    Raises:
      ValueError, TypeError: if they are out of range, no numbers, or do not go together.
    """
    if (threshold is None) == (sparsity is None):
        raise ValueError(f"give one of `threshold` and `sparsity`, got threshold={threshold!r}, sparsity={sparsity!r}")
    floor = check_at_least(at_least)
    if threshold is not None:
        return Amount(_limit(threshold), None, None, floor)
    if not isinstance(sparsity, str):
        return Amount(None, sparsity if _is_traced(sparsity) else check_sparsity(sparsity), None, floor)
    for name, value, usual in (("scope", scope, "layer"), ("at_least", floor, 0), ("whole", whole, None)):
        if value != usual:
            raise ValueError(f"`{name}` {value!r} does not go with `sparsity` {sparsity!r}, which says what stays")
    return Amount(None, None, check_pattern(sparsity), floor)


def check_sparsity(sparsity: Any) -> float:
    """A number in [0, 1].

    Raises:
      TypeError, ValueError: if it is not.
    """
    return _fraction(sparsity, "sparsity", "is the fraction of weights that go, in [0, 1]", " or a text such as '2:4'")


def check_at_least(at_least: Any) -> float:
    """A number in [0, 1]; errors as `check_sparsity`."""
    return _fraction(at_least, "at_least", "is the fraction of every variable that stays, in [0, 1]", "")


def _fraction(value: Any, name: str, meaning: str, other: str) -> float:
    try:
        found = real_number(value)
    except TypeError:
        raise TypeError(f"`{name}` must be a number{other}, got {received(value)}") from None
    if not 0 <= found <= 1:
        raise ValueError(f"`{name}` {meaning}, got {value!r}")
    return found


def check_pattern(text: str) -> tuple[int, int]:
    """2 and 4 of "2:4".

    Raises:
      ValueError: if a text is no pattern.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    most, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= most <= of:
        raise ValueError(f"`sparsity` must be a number, or as in '2:4' how many stay of how many, got {text!r}")
    return most, of


def check_threshold(threshold: Any) -> float:
    """A number that is not negative.

    Raises:
      TypeError, ValueError: if it is not.
    """
    try:
        value = real_number(threshold)
    except TypeError:
        raise TypeError(f"`threshold` must be a number, got {received(threshold)}") from None
    if not value >= 0:
        raise ValueError(f"`threshold` must not be negative or NaN, got {threshold!r}")
    return value


def _limit(threshold: Any) -> Any:
    if _is_traced(threshold):
        return threshold.astype(jnp.float32)
    return rounded_down(check_threshold(threshold), np.float32)


def _is_traced(value: Any) -> bool:
    """Whether it is a number that only a program's run will know."""
    return isinstance(value, jax.core.Tracer) and value.shape == ()
