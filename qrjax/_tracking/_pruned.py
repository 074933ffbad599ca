"""An optimizer under which pruned weights stay pruned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from qrjax._tracking._masks import check_mask


def pruned(optimizer: Any, mask: Any) -> Any:
    """An optax optimizer that leaves pruned weights exactly as they are.

    Their gradients are zeroed before the optimizer sees them, so that they do not count in norms and moments, and
    their updates after it, so that weight decay and momentum do not move them.

    Args:
      optimizer: an `optax.GradientTransformation`.
      mask: of booleans, as `qrjax.awakened` returns it for the params that the optimizer gets; False stays. For an
        NNX module with other variables too: nnx.filter_state(mask, nnx.Param).

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose state is the optimizer's.

    Raises:
      ValueError, TypeError: in `init`, if the mask does not fit the params.

    Example:
      >>> import jax, jax.numpy as jnp, optax, qrjax
      >>> params, mask = {"w": jnp.array([0.0, 2.0])}, {"w": jnp.array([False, True])}
      >>> optimizer = qrjax.pruned(optax.sgd(0.1, momentum=0.9), mask)
      >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
      >>> optax.apply_updates(params, updates)["w"][0].item()
      0.0
    """
    import optax

    inner = optax.with_extra_args_support(optimizer)

    def masked(tree: Any) -> Any:
        # By path, since NNX's optimizer takes the boxes off that the mask has around its arrays.
        leaves, structure = jax.tree.flatten(tree)
        pairs = zip(check_mask(mask, tree), leaves, strict=True)
        return jax.tree.unflatten(structure, [jnp.where(m, x, jnp.zeros_like(x)) for m, x in pairs])

    def init(params: Any) -> Any:
        check_mask(mask, params)
        return inner.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        changed, state = inner.update(masked(updates), state, params, **extra)
        return masked(changed), state

    return optax.GradientTransformationExtraArgs(init, update)
