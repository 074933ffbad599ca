"""`scale_by_width`: an optax transformation that multiplies each parameter's update."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._adapters._variables import named_leaves
from qrjax._terminal._names import listed, meant
from qrjax._terminal._received import received


def scale_by_width(rates: Any) -> Any:
    """An optax transformation that multiplies each parameter's update by its own number.

    Put it behind what makes steps of a known size, such as `optax.scale_by_adam`, and before the learning rate and
    its schedule, which then is one for all widths:

        optax.chain(optax.scale_by_adam(), qrjax.scale_by_width(rates), optax.scale_by_learning_rate(0.25))

    Weight decay belongs behind it and before the rate: `optax.add_decayed_weights` there shrinks all weights by the
    same share a step, the rate times the decay, whatever their multipliers. Before it the share would be the
    multiplier's too, which falls with the width, and wide networks would as good as not decay.

    It holds no state, computes in single precision or the update's own if that is higher, and hands updates on in
    their own dtype. Parameters are known by their paths: boxes, frozen dicts, None and what `optax.masked` and
    `optax.multi_transform` leave out are all the same to it; that rates has more than the updates have is no error.

    Args:
      rates: what `qrjax.learning_rates` returned, or any tree like the parameters of numbers of 0 or more, or arrays
        of them that broadcast against the parameter.

    Returns:
      An `optax.GradientTransformation`.

    Raises:
      TypeError, ValueError: if a rate is no finite number of 0 or more, with its path. In `init` and `update`, if a
        parameter has no rate, or one whose shape does not broadcast against it.

    Example:
      >>> import jax.numpy as jnp, optax, qrjax
      >>> params = {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}
      >>> scaled = qrjax.scale_by_width({"kernel": 0.25, "bias": 1.0})
      >>> updates, _ = scaled.update(params, scaled.init(params))
      >>> updates["kernel"][0].tolist()
      [0.25, 0.25]

    Reference:
      Yang and Hu et al. 2022, Tensor Programs V, arXiv 2203.03466, table 8.
    """
    import optax

    table = {path: _checked(path, rate) for path, rate in named_leaves(rates)}
    if not table:
        raise ValueError(f"`rates` must be a tree of numbers like the parameters, got {received(rates)}")

    def init(params: Any) -> Any:
        for path, value in named_leaves(params):
            _rate(table, path, np.shape(value))
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        flat, tree = jax.tree.flatten(updates)
        paths = [path for path, _ in named_leaves(updates)]
        scaled = [_scaled(u, _rate(table, path, np.shape(u))) for path, u in zip(paths, flat, strict=True)]
        return jax.tree.unflatten(tree, scaled), state

    return optax.GradientTransformation(init, update)


def _checked(path: str, rate: Any) -> Any:
    if isinstance(rate, jax.core.Tracer):
        return rate  # where optax.inject_hyperparams makes it
    try:
        array = np.asarray(rate)
    except Exception:  # whatever a value of another library raises
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`rates` must hold numbers, got {received(rate)} at {path!r}; see qrjax.learning_rates")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"`rates` must hold finite numbers of 0 or more, got {received(rate)} at {path!r}")
    return np.asarray(array, np.float32)


def _rate(table: dict[str, Any], path: str, shape: tuple[int, ...]) -> Any:
    if path not in table:
        raise ValueError(_unknown(table, path))
    rate = table[path]
    try:
        fits = np.broadcast_shapes(rate.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`rates` has an array of shape {tuple(rate.shape)} at {path!r}, which does not broadcast against the "
            f"parameter's {tuple(shape)}; were they made for another model?"
        )
    return rate


def _unknown(table: dict[str, Any], path: str) -> str:
    inner = path.removeprefix("params/")
    if inner in table:
        remedy = "; the updates are of whole variables: use {'params': rates}, or train variables['params'] alone"
    elif f"params/{path}" in table:
        remedy = "; the rates are of whole variables: use rates['params']"
    else:
        remedy = meant(path, table)
    return f"`rates` has no number for the parameter {path!r}, but for {listed(sorted(table))}{remedy}"


def _scaled(update: Any, rate: Any) -> Any:
    wide = np.promote_types(update.dtype, np.float32)
    return (update.astype(wide) * jnp.asarray(rate, wide)).astype(update.dtype)
