"""The parameters as an optimizer sees them, among all variables of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._adapters._variables import trained_of
from qrjax._interpreter._model import Model


class Parameters:
    """Which of a model's variables are its parameters, and the tree that they make.

    Linen's are `variables["params"]`, those of an NNX module its `nnx.Param` state, those of a pair what its init
    returns.

    Attributes:
      numbers: that tree, with the place of each among the model's leaves in the place of its array.
    """

    def __init__(self, model: Model) -> None:
        numbered = model.rebuild([np.asarray(number) for number in range(len(model.leaves))])
        self.numbers = jax.tree.map(int, trained_of(numbered))
        self._places = jax.tree.leaves(self.numbers)

    def of(self, flat: Sequence[Any]) -> Any:
        """The tree of the parameters among these variables."""
        return jax.tree.map(lambda number: flat[number], self.numbers)

    def put(self, flat: Sequence[Any], parameters: Any) -> list[Any]:
        """The variables with these parameters."""
        whole = list(flat)
        for place, array in zip(self._places, jax.tree.leaves(parameters), strict=True):
            whole[place] = array
        return whole


def descent(loss: Callable[[Any], Any], parameters: Any) -> Any:
    """The derivatives along which a loss falls; zeros for parameters that have none, such as integers."""
    leaves, tree = jax.tree.flatten(parameters)
    free = [place for place, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, np.inexact)]

    def with_free(chosen: Sequence[Any], others: Sequence[Any]) -> Any:
        whole = dict(enumerate(others)) | dict(zip(free, chosen, strict=True))
        return jax.tree.unflatten(tree, whole.values())

    found = jax.grad(lambda chosen: loss(with_free(chosen, leaves)))([leaves[k] for k in free])
    # JAX's derivative by a complex number is the conjugate of the direction.
    return with_free(list(map(jnp.conj, found)), list(map(jnp.zeros_like, leaves)))
