"""Constrained weights: every neuron stays centred and keeps its scale through training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from qrjax._adapters._variables import path_name
from qrjax._initializers._arguments import number


class CenteredState(NamedTuple):
    """The scale of every neuron at the start, None for parameters that are left alone."""

    norms: Any


def _weights(path: str, leaf: Any) -> bool:
    return leaf.ndim >= 2 and path.rpartition("/")[2] != "embedding"


def centered_unit_norm(select: Callable[[str, Any], bool] | None = None, axis: int = -1, eps: float = 1e-12) -> Any:
    """An optax transformation that keeps each neuron's weights centred and their root-mean-square as it was.

    Put it last in an `optax.chain`: it changes updates such that after `optax.apply_updates` every selected
    weight w has, for each index of `axis`, mean 0 and the root-mean-square that it had at `init`, up to rounding.
    At the start too: the first update centres weights that were not.

    Args:
      select: (path, array) -> whether to constrain a parameter; by default all of two and more axes but
        embeddings.
      axis: the axis of the neurons, the outputs; the others are a neuron's own weights.
      eps: the smallest root-mean-square that is restored; below it a neuron is left at its centred update.

    Returns:
      An `optax.GradientTransformation`; its `update` needs `params`.

    Raises:
      TypeError, ValueError: if `eps` is no finite number.
      ValueError: in `update`, without `params`.

    Example:
      >>> import jax.numpy as jnp, optax, qrjax
      >>> optimizer = optax.chain(optax.sgd(0.1), qrjax.centered_unit_norm())
      >>> params = {"kernel": jnp.array([[1.0, 2.0], [-1.0, 0.0], [0.0, 4.0]])}
      >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"].mean(0).round(5).tolist()
      [0.0, 0.0]

    Reference:
      Bingham and Miikkulainen 2023, arXiv 2109.08958, section on constrained weights: centred, unit-norm neurons.
    """
    import optax

    chosen = select or _weights
    # Traced, where optax.inject_hyperparams makes it.
    least = eps if isinstance(eps, jax.core.Tracer) else number("eps", eps)

    def init(params: Any) -> CenteredState:
        return CenteredState(
            jax.tree_util.tree_map_with_path(lambda p, w: _norm(w) if chosen(path_name(p), w) else None, params)
        )

    def _norm(w: Array) -> Array:
        others = tuple(a for a in range(w.ndim) if a != axis % w.ndim)
        centred = w - jnp.mean(w, others, keepdims=True)
        return jnp.sqrt(jnp.mean(jnp.square(centred), others, keepdims=True))

    def constrain(norm: Array | None, update: Array, w: Array) -> Array:
        if norm is None:
            return update
        others = tuple(a for a in range(w.ndim) if a != axis % w.ndim)
        moved = w + update
        centred = moved - jnp.mean(moved, others, keepdims=True)
        found = jnp.sqrt(jnp.mean(jnp.square(centred), others, keepdims=True))
        return centred * jnp.where(found > least, norm / jnp.maximum(found, least), 1) - w

    def update(updates: Any, state: CenteredState, params: Any = None) -> tuple[Any, CenteredState]:
        if params is None:
            raise ValueError(
                "`params` must be given to the update of centered_unit_norm: it constrains their new values"
            )
        changed = jax.tree.map(constrain, state.norms, updates, params, is_leaf=lambda leaf: leaf is None)
        return changed, state

    return optax.GradientTransformation(init, update)
