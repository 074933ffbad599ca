"""Masks of weights to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._adapters._variables import leaves_of, tree_of, values_of
from qrjax._interpreter._model import Leaf
from qrjax._terminal._frames import warn_caller
from qrjax._terminal._names import choice
from qrjax._terminal._patterns import Selection
from qrjax._tracking._amount import Amount, amount
from qrjax._tracking._chunks import is_spread
from qrjax._tracking._criteria import CRITERIA, Criterion, Weights
from qrjax._tracking._neurons import Group, InAxis, Whole, grouped, summed
from qrjax._tracking._prunable import prunable
from qrjax._tracking._prune import check_mask
from qrjax._tracking._ranking import POSITIVE, Ranks, patterned, ranks, spread
from qrjax._tracking._selection import kept, smallest
from qrjax._tracking._selection_in_programs import kept_in_program
from qrjax._words._transfers import transferring

SHOWN = 8


class EmptiedWarning(UserWarning):
    """Variables that a mask leaves no weight at all, though not all weights were to go."""


@transferring
def mask(
    record_or_init_fn: Any,
    params: Any,
    *,
    criterion: Criterion = "change",
    threshold: float | None = None,
    sparsity: float | str | None = None,
    scope: Literal["layer", "global"] = "layer",
    select: Selection = None,
    keep: Selection = None,
    key: Array | None = None,
    within: Any = None,
    at_least: float = 0.0,
    whole: Whole = None,
    in_axis: InAxis = None,
) -> Any:
    """Which weights to keep: True for those that a criterion says training awakened.

    Give either a threshold or a sparsity. A sparsity is exact to one weight: of n weights floor(sparsity * n + 1/2)
    are False, those of the lowest value; of equal ones those of higher address go first. Weights that are exactly
    zero go before all others: they are gone already, or cost nothing. So what one round of pruning set to zero stays
    gone in the next, whose sparsity counts it; `within` makes sure of it, whatever became of the weights.

    Works inside `jax.jit`, `jax.vmap` and `jax.shard_map` (there on each shard by itself, which takes initial weights
    as arrays alone), where threshold and sparsity may be traced; nothing can be raised or warned of there because of
    what weights are.

    Args:
      record_or_init_fn: as in `qrjax.changes`; None for "magnitude" and "random".
      params: the trained variables, or their "params" alone; an NNX module or its state.
      criterion: what is compared, w0 being the initial weight: "change" |w - w0|, "relative_change"
        |w - w0| / |w0|, "movement" |w| - |w0| (magnitude increase), "magnitude" |w|, or "random", the control.
      threshold: keep what is larger, and not exactly zero; not negative.
      sparsity: the fraction to go, in [0, 1]; or a text such as "2:4": of every 4 weights in a row, along the axes
        that a neuron sums over together, at most 2 stay, and so of fewer at the end of a row.
      scope: whether the sparsity is that of every variable ("layer") or of all together ("global").
      select: which variables may lose weights: a pattern such as "*/kernel", several, or a function of the path;
        by default those of two or more axes that are no bias and no norm's scale.
      keep: patterns or a function of the path of those that may not.
      key: for "random"; `jax.random.key(0)` by default.
      within: an earlier mask; what is False there stays False, and counts.
      at_least: the fraction of every variable that stays, whatever threshold and sparsity say; rounded up. Without
        it a global sparsity may empty a variable, which is a `qrjax.EmptiedWarning`.
      whole: what goes or stays as one, by the mean of its weights' values: "filter", all weights of an output;
        "head", one head's in an attention's query, key, value and out kernels; or the axes that number such units.
        Sparsity and `at_least` are then fractions of units.
      in_axis: the axes that a neuron sums over, for "2:4" and "filter", or a dict of them by pattern. By default
        what a builder of qrjax's knew, with a record or function; else all but the last, as Flax lays kernels out, but
        for attention's query, key, value and out, and the last of an embedding.

    Returns:
      A pytree like `params`, of booleans in the shapes of its arrays (for an NNX module: like its state), laid out
      over devices as they are; True wherever nothing is to be pruned.

    Raises:
      ValueError: if both or none of threshold and sparsity are given or they are out of range, weights are NaN or
        infinite, `select` matches nothing, the params are not the record's, or options do not go together.
      TypeError: if an argument has the wrong type.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> params = {"kernel": jnp.array([[0.1, -3.0], [2.0, 0.5]]), "bias": jnp.zeros(2)}
      >>> qrjax.mask(None, params, criterion="magnitude", sparsity=0.5)["kernel"].tolist()
      [[False, True], [True, False]]

    Reference:
      Zhou, Lan, Liu, Yosinski, Deconstructing lottery tickets: zeros, signs, and the supermask, NeurIPS 2019,
      arXiv 1905.01067, section 3 for the criteria.
    """
    choice("criterion", criterion, CRITERIA)
    choice("scope", scope, ("layer", "global"))
    asked = amount(threshold, sparsity, at_least, scope, whole)
    earlier = {} if within is None else _by_path(params, check_mask(within, params))
    found = prunable(record_or_init_fn, params, criterion, select, keep, earlier)
    groups = grouped(found, whole, in_axis)
    key = jax.random.key(0) if key is None else key
    ranked = [ranks(group, criterion, key) for group in groups]
    if asked.pattern is not None:
        chosen = [_patterned(w, r.rank, in_axis, asked.pattern) for w, r in zip(found, ranked, strict=True)]
    else:
        chosen = _kept(ranked, asked, scope)
    masks = _of_variables(groups, chosen)
    if not asked.is_all:
        _warn_of_emptied(masks)
    return like_params(params, earlier | {w.leaf.path: own for w, own in masks})


awakened = mask


def _by_path(params: Any, flat: Sequence[Any]) -> dict[str, Any]:
    return {leaf.path: own for leaf, own in zip(leaves_of(params), flat, strict=True) if own is not None}


def _kept(ranked: Sequence[Ranks], asked: Amount, scope: str) -> list[Array]:
    """Which units stay, by a threshold or a sparsity, and by the floor."""
    floors = [asked.floor(r.rank.size) for r in ranked]
    safe = [_stays([r.rank], r.rank.size - n)[0] if n else None for r, n in zip(ranked, floors, strict=True)]
    if asked.limit is not None:
        # Zeros rank below all that is larger than a threshold.
        kept_ = [(r.value > asked.limit) & (r.rank >= POSITIVE) for r in ranked]
        return [k if s is None else k | s for k, s in zip(kept_, safe, strict=True)]
    last = np.uint32(2**32 - 1)
    order = [r.rank if s is None else jnp.where(s, last, r.rank) for r, s in zip(ranked, safe, strict=True)]
    together = [order] if scope == "global" else [[o] for o in order]
    spared = [sum(floors)] if scope == "global" else floors
    masks: list[Array] = []
    for group, floor in zip(together, spared, strict=True):
        size = sum(o.size for o in group)
        masks += _stays(group, _at_most(asked.count(size), size - floor))
    return masks


def _at_most(count: Any, most: int) -> Any:
    return min(count, most) if isinstance(count, int) else jnp.minimum(count, np.int32(most))


def _stays(order: list[Array], count: Any) -> list[Array]:
    """What of several arrays is not among the lowest."""
    if any(isinstance(x, jax.core.Tracer) for x in (count, *order)):
        return kept_in_program(order, count)
    return [kept(o, cut) for o, cut in zip(order, smallest(order, int(count)), strict=True)]


def _patterned(weights: Weights, rank: Array, in_axis: InAxis, pattern: tuple[int, int]) -> Array:
    return patterned(rank, summed(weights, in_axis), *pattern, like=weights.array)


def _of_variables(groups: Sequence[Group], chosen: Sequence[Array]) -> list[tuple[Weights, Array]]:
    found = []
    for group, units in zip(groups, chosen, strict=True):
        for member, own in spread(units, group):
            gone = member.weights.gone
            found.append((member.weights, own if gone is None else own & ~gone))
    return found


def _warn_of_emptied(masks: Sequence[tuple[Weights, Array]]) -> None:
    """Of variables that had weights, and have none now."""
    paths = [
        w.leaf.path for w, own in masks
        if own.size and not isinstance(own, jax.core.Tracer) and not bool(own.any())
        and (w.gone is None or not bool(w.gone.all()))
    ]  # fmt: skip
    if paths:
        names = ", ".join(paths[:SHOWN]) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
        warn_caller(
            f"the mask leaves no weight of {names}, so nothing passes there; at_least=0.01 keeps a hundredth of every "
            "variable, and keep= spares some",
            EmptiedWarning,
        )


def like_params(params: Any, masks: Mapping[str, Any]) -> Any:
    """A pytree like `params`: the masks by path, True elsewhere."""
    leaves: list[Leaf] = leaves_of(params)
    arrays = values_of(params)
    flat = [masks[leaf.path] if leaf.path in masks else _true(a) for leaf, a in zip(leaves, arrays, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree_of(params)), flat)


def _true(array: Any) -> Array:
    return jnp.ones(array.shape, bool, device=array.sharding if is_spread(array) else None)
