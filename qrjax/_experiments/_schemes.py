"""Which Sobol' dimension each repetition starts from, in the paper's order."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qrjax._experiments._settings import positive
from qrjax._sequences._names import DIMENSIONS
from qrjax._terminal._names import choice

SCHEMES = {
    "auto": "trains from a few starting dimensions for a few epochs and keeps the best for all repetitions",
    "increment-start": "seed r starts r dimensions after the first: neighbours share all but one dimension",
    "increment-end": "seed r starts where seed r - 1 ended: none shares a dimension",
}

# The mean accuracy of trials: (starting dimensions, epochs, repetitions) -> one number for each dimension.
Score = Callable[[Sequence[int], int, int], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How starting dimensions are chosen: kernel k of a repetition that starts at d has the dimension d + k.

    Attributes:
      name: "auto", "increment-start" or "increment-end".
      min_dim: the smallest dimension, from 1.
      count: "auto": how many starting dimensions are tried.
      range: "auto": they are spread evenly over so many dimensions from `min_dim`.
      epochs: "auto": of each trial.
      repetitions: "auto": trials of each, with other orders of the data.

    Raises:
      ValueError: if the name is unknown or a number is out of range.

    Reference:
      Miranskyy, Sorrenti, Thakar 2024, arXiv 2408.02654, whose search costs four epochs, as the defaults here.
    """

    name: str = "increment-end"
    min_dim: int = 1
    count: int = 4
    range: int = 1000
    epochs: int = 1
    repetitions: int = 1

    def __post_init__(self) -> None:
        choice("scheme", self.name, list(SCHEMES))
        for name in ("min_dim", "count", "range", "epochs", "repetitions"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))
        if self.count > self.range:
            raise ValueError(f"`count` {self.count} starting dimensions need a `range` as large, got {self.range}")

    def check(self, seeds: Sequence[int], kernels: int) -> None:
        """Whether there are dimensions enough.

        Raises:
          ValueError: if there are not.
        """
        if self.name == "auto":
            self.candidates(kernels)
        else:
            self.dims(seeds, kernels)

    def dims(self, seeds: Sequence[int], kernels: int, score: Score | None = None) -> Starts:
        """The first dimension of each repetition, which its seed counts, of a network that draws so many kernels.

        Raises:
          ValueError: if there are not enough of the 21,201 dimensions, or "auto" has no `score`.
        """
        if self.name == "auto":
            return self._searched(len(seeds), kernels, score)
        if any(seed < 0 for seed in seeds):
            raise ValueError(f"`seeds` must not be negative, got {min(seeds)}")
        step = kernels if self.name == "increment-end" else 1
        dims = tuple(self.min_dim + step * seed for seed in seeds)
        _check_last(max(dims, default=1) + kernels - 1)
        return Starts(dims, ())

    def candidates(self, kernels: int) -> tuple[int, ...]:
        """The starting dimensions that "auto" tries."""
        found = tuple(self.min_dim + place * self.range // self.count for place in range(self.count))
        _check_last(found[-1] + kernels - 1)
        return found

    def _searched(self, repetitions: int, kernels: int, score: Score | None) -> Starts:
        if score is None:
            raise ValueError("`score` is missing: the scheme 'auto' trains to choose a dimension")
        dims = self.candidates(kernels)
        means = [float(mean) for mean in score(dims, self.epochs, self.repetitions)]
        # The first of equals; a trial that diverged is the worst.
        best, _ = max(zip(dims, means, strict=True), key=lambda pair: -math.inf if math.isnan(pair[1]) else pair[1])
        return Starts((best,) * repetitions, tuple(zip(dims, means, strict=True)))


class Starts(NamedTuple):
    """Starting dimensions, and how a search found them.

    Attributes:
      dims: one for each repetition.
      trials: the dimensions tried and their mean accuracies; empty without a search.
    """

    dims: tuple[int | None, ...]
    trials: tuple[tuple[int, float], ...]


def _check_last(dim: int) -> None:
    if dim > DIMENSIONS:
        raise ValueError(
            f"`scheme` needs Sobol' dimension {dim}, and there are {DIMENSIONS}; choose a smaller `min_dim` or `range` "
            "or smaller seeds"
        )
