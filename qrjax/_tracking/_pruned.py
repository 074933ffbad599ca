"""An optimizer under which pruned weights stay pruned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from qrjax._terminal._received import is_key
from qrjax._tracking._prune import check_mask


def keep_pruned(optimizer: Any, mask: Any) -> Any:
    """An optax optimizer that leaves pruned weights exactly as they are.

    Their gradients are zeroed before the optimizer sees them, so that they do not count in norms and moments, and
    their updates after it, so that weight decay and momentum do not move them. It goes into optax's wrappers
    (`partition`, `masked`, `lookahead`, `chain`, `MultiSteps`, ...) and around them; what a wrapper leaves out of
    its tree, as an `optax.MaskedNode`, is left alone.

    Args:
      optimizer: an `optax.GradientTransformation`.
      mask: of booleans, as `qrjax.mask` returns it for the params that the optimizer gets, or for all variables;
        False stays. Where it gets some params only: nnx.filter_state(mask, nnx.LoRAParam).

    Returns:
      An `optax.GradientTransformationExtraArgs`, whose state is the optimizer's.

    Raises:
      ValueError, TypeError: in `init`, if the mask does not fit the params.

    Example:
      >>> import jax, jax.numpy as jnp, optax, qrjax
      >>> params, mask = {"w": jnp.array([0.0, 2.0])}, {"w": jnp.array([False, True])}
      >>> optimizer = qrjax.keep_pruned(optax.sgd(0.1, momentum=0.9), mask)
      >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
      >>> optax.apply_updates(params, updates)["w"][0].item()
      0.0
    """
    import optax

    inner = optax.with_extra_args_support(optimizer)

    def masked(tree: Any) -> Any:
        if isinstance(tree, optax.LookaheadParams):
            return optax.LookaheadParams(masked(tree.fast), masked(tree.slow))
        # By path, since NNX's optimizer takes the boxes off that the mask has around its arrays.
        leaves, structure = jax.tree.flatten(tree)
        pairs = zip(check_mask(mask, tree), leaves, strict=True)
        return jax.tree.unflatten(structure, [_zeroed(m, x) for m, x in pairs])

    def init(params: Any) -> Any:
        # Without leaves it is no params but what optax asks with where their copies are in a state.
        if jax.tree.leaves(params):
            check_mask(mask, params.fast if isinstance(params, optax.LookaheadParams) else params)
        return inner.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        changed, state = inner.update(masked(updates), state, params, **extra)
        return masked(changed), state

    return optax.GradientTransformationExtraArgs(init, update)


pruned = keep_pruned


def _zeroed(mask: Any, x: Any) -> Any:
    return x if mask is None or is_key(x) or x.dtype == jax.dtypes.float0 else jnp.where(mask, x, jnp.zeros_like(x))
