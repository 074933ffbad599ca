"""Seeds as a person gives them, and as a program takes them."""

from __future__ import annotations

import collections
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qrjax._terminal._received import received
from qrjax._words._numbers import whole_number

MOST = 2**32 - 1
# More at once is a slip of the finger: their numbers alone would fill the memory.
MANY = 10_000_000


def checked(seeds: Any) -> tuple[int, ...]:
    """Different whole numbers from 0 to 2**32 - 1; a number alone means so many, from 0.

    Raises:
      TypeError: if they are not integers.
      ValueError: if there are none, or one is out of range or comes twice.
    """
    if isinstance(seeds, (str, bytes)) or not (hasattr(seeds, "__index__") or isinstance(seeds, Iterable)):
        raise TypeError(f"`seeds` must be whole numbers, or how many, got {received(seeds)}; for example range(64)")
    try:
        many = range(operator.index(seeds)) if _is_number(seeds) else seeds
        if isinstance(many, range) and many and many[-1] - many[0] > MANY * abs(many.step):
            raise ValueError(f"`seeds` are {seeds!r}, more than {MANY:,} at once; run them in parts")
        found = tuple(operator.index(seed) for seed in many)
    except TypeError as error:
        raise TypeError(f"`seeds` must be whole numbers, or how many, got {received(seeds)}: {error}") from None
    if not found:
        raise ValueError(f"`seeds` holds none, got {received(seeds)}; for example range(64)")
    for seed in found:
        if not 0 <= seed <= MOST:
            raise ValueError(f"`seeds` must be from 0 to {MOST}, got {seed}")
    if len(set(found)) < len(found):
        twice = next(seed for seed, times in collections.Counter(found).items() if times > 1)
        raise ValueError(f"`seeds` holds {twice} more than once; every seed is run once")
    return found


def _is_number(seeds: Any) -> bool:
    return hasattr(seeds, "__index__") and np.ndim(seeds) == 0


def checked_chunk(chunk: Any) -> int | None:
    """A number of seeds side by side; None for as many as fit.

    Raises:
      ValueError: if it is neither.
    """
    try:
        found = None if chunk is None else whole_number(chunk)
    except TypeError:
        found = 0
    if found is not None and found < 1:
        raise ValueError(f"`chunk` must be a positive integer, got {chunk!r}; None finds one that fits")
    return found


def as_array(seeds: Sequence[int]) -> np.ndarray[Any, Any]:
    """For a program: of one dtype, whatever the seeds, so that it is the same program."""
    return np.array(seeds, np.uint32)


def chunks(seeds: Sequence[int], chunk: int) -> list[tuple[int, ...]]:
    """The seeds in chunks of one size, the last of what is left."""
    return [tuple(seeds[start : start + chunk]) for start in range(0, len(seeds), chunk)]


def padded(seeds: Sequence[int], chunk: int) -> list[tuple[int, ...]]:
    """The seeds in chunks of one size; the last is filled up with its last seed."""
    return [part + part[-1:] * (chunk - len(part)) for part in chunks(seeds, chunk)]
