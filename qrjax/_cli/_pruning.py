"""Pruning from the command line: the options, and what they take away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from qrjax import Record

# Those that mean nothing without pruning, by the names of the command's parameters.
BELONGING = {
    "criterion": "--criterion", "scope": "--scope", "to": "--to", "select": "--select", "keep": "--keep",
    "seed": "--seed", "saved": "--save",
}  # fmt: skip


class Pruned(NamedTuple):
    """What one variable lost."""

    path: str
    weights: int
    pruned: int

    @property
    def percent(self) -> float:
        """Of its weights; 0 where there are none."""
        return 100 * self.pruned / self.weights if self.weights else 0.0


def check_belonging(context: click.Context) -> None:
    """Nothing, if no option of pruning was given without a sparsity."""
    given = [
        option
        for name, option in BELONGING.items()
        if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    ]
    if given and context.params["sparsity"] is None:
        raise click.UsageError(f"{given[0]} belongs to pruning; give --prune-sparsity too, for example 0.5")


def pruned(
    record: Record, params: Any, *, sparsity: float, criterion: Any, scope: Any, to: Any, select: Any, keep: Any,
    seed: int,
) -> tuple[list[Pruned], Any]:  # fmt: skip
    """What every variable that may lose weights lost, and the params without them."""
    import jax

    import qrjax

    mask = qrjax.awakened(
        record, params, criterion=criterion, sparsity=sparsity, scope=scope, select=_one(select), keep=_one(keep),
        key=jax.random.key(seed),
    )  # fmt: skip
    return list(_lost(mask)), qrjax.prune(params, mask, to, record)


def _one(patterns: Any) -> Any:
    """Patterns as `qrjax.awakened` takes them: one by itself, None for none."""
    return patterns[0] if len(patterns) == 1 else patterns or None


def _lost(mask: Any) -> Iterator[Pruned]:
    import numpy as np

    from qrjax._adapters._variables import leaves_of, values_of

    for leaf, kept in zip(leaves_of(mask), values_of(mask), strict=True):
        yield Pruned(leaf.path, kept.size, kept.size - int(np.count_nonzero(kept)))


def total(rows: list[Pruned]) -> Pruned:
    """All variables together."""
    return Pruned("total", sum(row.weights for row in rows), sum(row.pruned for row in rows))
