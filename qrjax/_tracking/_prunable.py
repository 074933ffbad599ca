"""Which variables may lose weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from qrjax._terminal._patterns import Selection, chosen_by
from qrjax._tracking._criteria import WITH_INITIAL, Weights
from qrjax._tracking._pairs import pairs, trained

# What is seldom pruned, besides everything of one axis: stacked by a scan these have two.
KEPT = ("bias", "scale")


def prunable(
    initial: Any, params: Any, criterion: str, select: Selection, keep: Selection, stays: Mapping[str, Any]
) -> list[Weights]:
    """The variables that may lose weights, `stays` being an earlier mask by their paths; errors as `qrjax.mask`."""
    every = [Weights(*one, _gone(stays, one[0].path)) for one in _every(initial, params, criterion)]
    spared = chosen_by("keep", () if keep is None else keep)
    chosen = None if select is None else chosen_by("select", select)
    found = [w for w in every if (_default(w.leaf) if chosen is None else chosen(w.leaf.path))]
    found = [w for w in found if not spared(w.leaf.path)]
    if not found:
        raise ValueError(
            f"no variable is left to prune with `select` {select!r} and `keep` {keep!r}; paths: "
            + ", ".join(w.leaf.path for w in every)
        )
    for weights in found:
        _check_finite(weights)
    return found


def _every(initial: Any, params: Any, criterion: str) -> list[tuple[Any, Any, Any]]:
    if initial is not None:
        return [(pair.leaf, pair.array, pair) for pair in pairs(initial, params)]
    if criterion in WITH_INITIAL:
        raise ValueError(
            f"`criterion` {criterion!r} compares with the initial weights, so `record_or_init_fn` must not be None"
        )
    return [(leaf, array, None) for leaf, array in trained(params)]


def _gone(stays: Mapping[str, Any], path: str) -> Any:
    return ~jnp.asarray(stays[path]) if path in stays else None


def _default(leaf: Any) -> bool:
    return len(leaf.shape) > 1 and leaf.path.rpartition("/")[2] not in KEPT


def _check_finite(weights: Weights) -> None:
    # A program cannot stop because of what it computes.
    if isinstance(weights.array, jax.core.Tracer):
        return
    with jax.ensure_compile_time_eval():  # of a program's constants, too
        bad = 0 if bool(jnp.isfinite(weights.array).all()) else int(jnp.sum(~jnp.isfinite(weights.array)))
    if bad:
        raise ValueError(
            f"{weights.leaf.path!r} holds {bad} NaN or infinite weights, which no criterion can rank; "
            "qrjax.changes counts them"
        )
