"""The largest sparsity that a loss allows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jax import Array

from qrjax._terminal._bar import bar
from qrjax._terminal._patterns import Selection
from qrjax._terminal._received import received
from qrjax._tracking._criteria import Criterion
from qrjax._tracking._masks import EmptiedWarning, mask
from qrjax._tracking._neurons import InAxis, Whole
from qrjax._tracking._pairs import check_not_traced
from qrjax._tracking._prune import prune
from qrjax._words._numbers import real_number, whole_number


class Sparsest(NamedTuple):
    """What `max_sparsity` found.

    Attributes:
      sparsity: the fraction of the prunable weights that goes.
      mask: True for those that stay.
      params: the pruned params.
      loss: with them.
      baseline: the loss before.
    """

    sparsity: float
    mask: Any
    params: Any
    loss: float
    baseline: float


def max_sparsity(
    loss_fn: Callable[[Any], Any],
    record_or_init_fn: Any,
    params: Any,
    tolerance: float,
    *,
    criterion: Criterion = "change",
    to: Literal["zero", "initial"] = "zero",
    scope: Literal["layer", "global"] = "layer",
    select: Selection = None,
    keep: Selection = None,
    key: Array | None = None,
    within: Any = None,
    at_least: float = 0.0,
    whole: Whole = None,
    in_axis: InAxis = None,
    steps: int = 10,
    progress: bool = True,
) -> Sparsest:
    """The largest sparsity at which a loss rises by at most a tolerance, by bisection.

    The loss need not rise evenly with the sparsity; what is found satisfies the tolerance, and 1 / 2**steps more
    does not. Further up another sparsity may satisfy it again.

    Args:
      loss_fn: params -> a number, on a batch of your choice; jit it.
      record_or_init_fn, params, criterion, scope, select, keep, key, within, at_least, whole, in_axis: as in
        `qrjax.mask`.
      tolerance: by how much the loss may rise; not negative.
      to: what pruned weights become, as in `qrjax.prune`.
      steps: how often the interval is halved.
      progress: whether to show a bar, on a terminal.

    Returns:
      A named tuple (sparsity, mask, params, loss, baseline).

    Raises:
      ValueError: if `tolerance` is negative or NaN, `steps` is below 1, or the loss is not finite to begin with;
        and as `qrjax.mask`.
      TypeError: if a number is none, or inside of `jax.jit` or `jax.vmap`.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> params = {"w": jnp.diag(jnp.array([3.0, 2.0, 1e-4, 1e-5]))}
      >>> loss = lambda p: float(((p["w"] - params["w"]) ** 2).sum())
      >>> found = qrjax.max_sparsity(loss, None, params, 0.01, criterion="magnitude", progress=False)
      >>> int(found.mask["w"].sum())
      2
    """
    allowed = _tolerance(tolerance)
    steps = _steps(steps)
    check_not_traced("max_sparsity", params, record_or_init_fn)
    options: dict[str, Any] = {
        "criterion": criterion, "scope": scope, "select": select, "keep": keep, "key": key, "within": within,
        "at_least": at_least, "whole": whole, "in_axis": in_axis,
    }  # fmt: skip
    baseline = real_number(loss_fn(params))
    if not math.isfinite(baseline):
        raise ValueError(f"the loss is {baseline} before anything is pruned, so nothing can be compared with it")

    def attempt(sparsity: float) -> Sparsest:
        kept = mask(record_or_init_fn, params, sparsity=sparsity, **options)
        new = prune(params, kept, to, record_or_init_fn)
        return Sparsest(sparsity, kept, new, real_number(loss_fn(new)), baseline)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptiedWarning)  # of attempts; what is found is looked at again
        found = _bisected(attempt, baseline + allowed, steps, progress)
    mask(record_or_init_fn, params, sparsity=found.sparsity, **options)
    return found


def _tolerance(tolerance: Any) -> float:
    try:
        value = real_number(tolerance)
    except TypeError:
        value = math.nan
    if not value >= 0:
        shown = received(tolerance)
        raise ValueError(f"`tolerance` is by how much the loss may rise, not negative and not NaN, got {shown}")
    return value


def _steps(steps: Any) -> int:
    try:
        value = whole_number(steps)
    except TypeError:
        value = 0
    if value < 1:
        raise ValueError(f"`steps` must be a positive integer, got {received(steps)}")
    return value


def _bisected(attempt: Callable[[float], Sparsest], limit: float, steps: int, progress: bool) -> Sparsest:
    with bar(steps + 1, "sparsity", progress) as update:
        best, top = attempt(0.0), attempt(1.0)
        update(1, "sparsity")
        if top.loss <= limit:
            return top
        low, high = 0.0, 1.0
        for step in range(steps):
            middle = attempt((low + high) / 2)
            if middle.loss <= limit:
                best, low = middle, middle.sparsity
            else:
                high = middle.sparsity
            update(step + 2, f"sparsity {low:.3f}")
    return best
