"""Masks of weights to keep, and what is done with them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._adapters._variables import leaves_of, tree_of, values_of, with_values
from qrjax._initializers._arguments import choice
from qrjax._interpreter._model import Leaf
from qrjax._tracking._bits import ordered
from qrjax._tracking._changes import check_threshold
from qrjax._tracking._chunks import is_spread
from qrjax._tracking._criteria import CRITERIA, WITH_INITIAL, Criterion, Weights, scores
from qrjax._tracking._initial import initial_like
from qrjax._tracking._pairs import Pair, check_arrays, pairs, trained
from qrjax._tracking._reduction import rounded_down
from qrjax._tracking._selection import kept, smallest

Selection = str | Sequence[str] | Callable[[str], bool] | None
# What is seldom pruned, besides everything of one axis: stacked by a scan these have two.
KEPT = ("bias", "scale")


def awakened(
    record_or_init_fn: Any,
    params: Any,
    *,
    criterion: Criterion = "change",
    threshold: float | None = None,
    sparsity: float | None = None,
    scope: Literal["layer", "global"] = "layer",
    select: Selection = None,
    keep: Selection = None,
    key: Array | None = None,
) -> Any:
    """Which weights to keep: True for those that a criterion says training awakened.

    Give either a threshold or a sparsity. A sparsity is exact to one weight: of n weights floor(sparsity * n + 1/2)
    are False, those of the lowest value; of equal ones those of higher address go first.

    Args:
      record_or_init_fn: as in `qrjax.changes`; None for "magnitude" and "random".
      params: the trained variables, or their "params" alone; an NNX module or its state.
      criterion: what is compared, w0 being the initial weight: "change" |w - w0|, "relative_change"
        |w - w0| / |w0|, "movement" |w| - |w0| (magnitude increase), "magnitude" |w|, or "random", the control.
      threshold: keep what is larger; not negative.
      sparsity: the fraction to go, in [0, 1].
      scope: whether the sparsity is that of every variable ("layer") or of all together ("global").
      select: which variables may lose weights: a pattern such as "*/kernel", several, or a function of the path;
        by default those of two or more axes that are no bias and no norm's scale.
      keep: patterns or a function of the path of those that may not.
      key: for "random"; `jax.random.key(0)` by default.

    Returns:
      A pytree like `params`, of booleans in the shapes of its arrays (for an NNX module: like its state), laid out
      over devices as they are; True wherever nothing is to be pruned.

    Raises:
      ValueError: if both or none of threshold and sparsity are given or they are out of range, weights are NaN or
        infinite, `select` matches nothing, or the params are not the record's.
      TypeError: if an argument has the wrong type.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> params = {"kernel": jnp.array([[0.1, -3.0], [2.0, 0.5]]), "bias": jnp.zeros(2)}
      >>> qrjax.awakened(None, params, criterion="magnitude", sparsity=0.5)["kernel"].tolist()
      [[False, True], [True, False]]

    Reference:
      Zhou, Lan, Liu, Yosinski, Deconstructing lottery tickets: zeros, signs, and the supermask, NeurIPS 2019,
      arXiv 1905.01067, section 3 for the criteria.
    """
    choice("criterion", criterion, CRITERIA)
    choice("scope", scope, ("layer", "global"))
    if (threshold is None) == (sparsity is None):
        raise ValueError(f"give one of `threshold` and `sparsity`, got threshold={threshold!r}, sparsity={sparsity!r}")
    found = prunable(record_or_init_fn, params, criterion, select, keep)
    key = jax.random.key(0) if key is None else key
    if threshold is not None:
        limit = rounded_down(check_threshold(threshold), np.float32)
        masks = [scores(criterion, weights, key) > limit for weights in found]
    else:
        masks = _sparse([ordered(scores(criterion, w, key)) for w in found], check_sparsity(sparsity), scope)
    return like_params(params, dict(zip([w.leaf.path for w in found], masks, strict=True)))


def prunable(initial: Any, params: Any, criterion: str, select: Selection, keep: Selection) -> list[Weights]:
    """The variables that may lose weights; errors as `awakened`."""
    if initial is None:
        if criterion in WITH_INITIAL:
            raise ValueError(
                f"`criterion` {criterion!r} compares with the initial weights, so `record_or_init_fn` must not be None"
            )
        every = [Weights(leaf, array, None) for leaf, array in trained(params)]
    else:
        every = [Weights(pair.leaf, pair.array, pair) for pair in pairs(initial, params)]
    chosen = _default if select is None else _matching("select", select)
    spared = (lambda _: False) if keep is None else _matching("keep", keep)
    found = [w for w in every if (chosen(w.leaf) if select is None else chosen(w.leaf.path))]
    found = [w for w in found if not spared(w.leaf.path)]
    if not found:
        raise ValueError(
            f"no variable is left to prune with `select` {select!r} and `keep` {keep!r}; paths: "
            + ", ".join(w.leaf.path for w in every)
        )
    for weights in found:
        _check_finite(weights)
    return found


def _default(leaf: Any) -> bool:
    return len(leaf.shape) > 1 and leaf.path.rpartition("/")[2] not in KEPT


def _matching(name: str, selection: Any) -> Callable[[Any], bool]:
    if callable(selection):
        return selection
    patterns = [selection] if isinstance(selection, str) else selection
    if not isinstance(patterns, Collection) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"`{name}` must be a pattern, patterns or a function of a path, got {selection!r}")
    return lambda path: any(fnmatch.fnmatchcase(path, p) for p in patterns)


def _check_finite(weights: Weights) -> None:
    if not bool(jnp.isfinite(weights.array).all()):
        bad = int(jnp.sum(~jnp.isfinite(weights.array)))
        raise ValueError(
            f"{weights.leaf.path!r} holds {bad} NaN or infinite weights, which no criterion can rank; "
            "qrjax.changes counts them"
        )


def check_sparsity(sparsity: Any) -> float:
    """A number in [0, 1].

    Raises:
      TypeError, ValueError: if it is not.
    """
    try:
        value = float(sparsity)
    except (TypeError, ValueError):
        raise TypeError(f"`sparsity` must be a number, got {sparsity!r}") from None
    if not 0 <= value <= 1:
        raise ValueError(f"`sparsity` is the fraction of weights that go, in [0, 1], got {sparsity!r}")
    return value


def _sparse(keys: list[Array], sparsity: float, scope: str) -> list[Array]:
    together = [keys] if scope == "global" else [[k] for k in keys]
    masks = []
    for group in together:
        count = int(sparsity * sum(k.size for k in group) + 0.5)
        masks += [kept(k, cut) for k, cut in zip(group, smallest(group, count), strict=True)]
    return masks


def like_params(params: Any, masks: dict[str, Array]) -> Any:
    """A pytree like `params`: the masks by path, True elsewhere."""
    leaves: list[Leaf] = leaves_of(params)
    arrays = values_of(params)
    flat = [masks.get(leaf.path, _true(array)) for leaf, array in zip(leaves, arrays, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree_of(params)), flat)


def _true(array: Any) -> Array:
    return jnp.ones(array.shape, bool, device=array.sharding if is_spread(array) else None)


def prune(params: Any, mask: Any, to: Literal["zero", "initial"] = "zero", record_or_init_fn: Any = None) -> Any:
    """The params with pruned weights at zero, or back where they began.

    Args:
      params: as in `awakened`.
      mask: of booleans, as `awakened` returns it; False goes.
      to: "zero", or "initial", which rewinds a weight to its initial value.
      record_or_init_fn: as in `qrjax.changes`; needed for "initial".

    Returns:
      Params of the same structure; for an NNX module a new module.

    Raises:
      ValueError: if the mask has another structure or shape, or the initial values are not given.
      TypeError: if the mask is not of booleans.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> qrjax.prune({"w": jnp.arange(3.0)}, {"w": jnp.array([True, False, True])})["w"].tolist()
      [0.0, 0.0, 2.0]
    """
    choice("to", to, ("zero", "initial"))
    flat = check_mask(mask, params)
    if to == "zero":
        new = [_chosen(m, a, a.dtype.type(0)) for m, a in zip(flat, values_of(params), strict=True)]
        return with_values(params, new)
    if record_or_init_fn is None:
        raise ValueError("`record_or_init_fn` must be given for to='initial': it says where weights began")
    begin: dict[str, Pair] = {pair.leaf.path: pair for pair in pairs(record_or_init_fn, params)}
    new = []
    for leaf, m, array in zip(leaves_of(params), flat, values_of(params), strict=True):
        pair = begin.get(leaf.path)
        new.append(array if pair is None else _chosen(m, array, initial_like(pair)))
    return with_values(params, new)


def _chosen(mask: Any, array: Any, other: Any) -> Any:
    """NumPy's stay NumPy's, which may be of float64 where JAX has none."""
    if isinstance(array, np.ndarray):
        return np.where(np.asarray(mask), array, other)
    return jnp.where(mask, array, other)


def check_mask(mask: Any, params: Any) -> list[Any]:
    """The mask's leaves, if they fit the params'.

    Raises:
      ValueError, TypeError: if they do not; the first that differs is named.
    """
    check_arrays("params", params)
    check_arrays("mask", mask)
    there = {leaf.path: array for leaf, array in zip(leaves_of(params), values_of(params), strict=True)}
    here = {leaf.path: array for leaf, array in zip(leaves_of(mask), values_of(mask), strict=True)}
    for path in [*there, *here]:
        if path not in here or path not in there:
            lacking = "mask" if path not in here else "params"
            raise ValueError(f"`mask` and `params` differ in structure: the {lacking} lack {path!r}")
    for path, array in there.items():
        if here[path].shape != array.shape:
            raise ValueError(f"`mask` has the shape {here[path].shape} at {path!r}, the params {array.shape}")
        if here[path].dtype != np.dtype(bool):
            raise TypeError(f"`mask` must be of booleans, got {here[path].dtype} at {path!r}; compare, as in w != 0")
    return [here[path] for path in there]
