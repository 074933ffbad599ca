"""Seeds as a person gives them, and as a program takes them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MOST = 2**32 - 1


def checked(seeds: Any) -> tuple[int, ...]:
    """Different whole numbers from 0 to 2**32 - 1; a number alone means so many, from 0.

    Raises:
      TypeError: if they are not integers.
      ValueError: if there are none, or one is out of range or comes twice.
    """
    if isinstance(seeds, (str, bytes)) or not (hasattr(seeds, "__index__") or isinstance(seeds, Iterable)):
        raise TypeError(f"`seeds` must be whole numbers, or how many, got {seeds!r}; for example range(64)")
    try:
        many = range(operator.index(seeds)) if _is_number(seeds) else seeds
        found = tuple(operator.index(seed) for seed in many)
    except TypeError as error:
        raise TypeError(f"`seeds` must be whole numbers, or how many, got {seeds!r}: {error}") from None
    if not found:
        raise ValueError(f"`seeds` holds none, got {seeds!r}; for example range(64)")
    for seed in found:
        if not 0 <= seed <= MOST:
            raise ValueError(f"`seeds` must be from 0 to {MOST}, got {seed}")
    if len(set(found)) < len(found):
        twice = next(seed for place, seed in enumerate(found) if seed in found[:place])
        raise ValueError(f"`seeds` holds {twice} more than once; every seed is run once")
    return found


def _is_number(seeds: Any) -> bool:
    return hasattr(seeds, "__index__") and np.ndim(seeds) == 0


def as_array(seeds: Sequence[int]) -> np.ndarray[Any, Any]:
    """For a program: int32 where that will do, as `jnp.arange` gives."""
    return np.array(seeds, np.int32 if max(seeds) < 2**31 else np.uint32)


def padded(seeds: Sequence[int], chunk: int) -> list[tuple[int, ...]]:
    """The seeds in chunks of one size; the last is filled up with its last seed."""
    parts = [tuple(seeds[start : start + chunk]) for start in range(0, len(seeds), chunk)]
    return [part + part[-1:] * (chunk - len(part)) for part in parts]
