"""The rows' outputs themselves, and by how much they differ between two runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._interpreter._ledger import Entry
from qrjax._interpreter._replay import Moments, Path, Replay, pooled
from qrjax._interpreter._report import Row

# For each place its output, with an axis for each scan around it; of a loop of unknown length the mean of its steps.
Outputs = Mapping[Path, Array]


@dataclasses.dataclass(frozen=True)
class Kept(Replay):
    """A run that keeps the outputs of its places in the stead of their moments."""

    def _taken(self, results: list[Any], here: Path) -> tuple[list[Any], Moments]:
        wide = jnp.complex64 if jnp.iscomplexobj(results[0]) else jnp.float32
        return results, {here: results[0].astype(wide)}


def squares(first: Outputs, second: Outputs, ranks: Mapping[Path, int]) -> dict[Path, Array]:
    """Of each place the mean square of its first output and that of the difference, along the last axis.

    `ranks`: how many axes an output has; those before them are of the scans around it.
    """

    def mean(array: Array, rank: int) -> Array:
        return jnp.mean(jnp.square(jnp.abs(array)), tuple(range(array.ndim - rank, array.ndim)))

    return {
        place: jnp.stack([mean(first[place], rank), mean(second[place] - first[place], rank)], -1)
        for place, rank in ranks.items()
    }


def of_row(row: Row, entry: Entry, found: Mapping[Path, Any]) -> tuple[float, float]:
    """The root mean square of a row's output and of its change; NaN of what never ran."""
    place, layers = row.site
    first, change = pooled(np.asarray(found[place], np.float64), entry.kinds, layers)
    return float(np.sqrt(first)), float(np.sqrt(change))
