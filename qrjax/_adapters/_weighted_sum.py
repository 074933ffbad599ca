"""A sum whose coefficients the walk chooses, in Linen and in NNX."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from qrjax._interpreter._model import EQUAL


def _weighted(coefficients: Array, terms: tuple[Array, ...]) -> Array:
    if len({term.shape for term in terms}) != 1:
        raise ValueError(f"the terms of a WeightedSum must have one shape, got {[term.shape for term in terms]}")
    # The name tells the walk that these are one number to be decided, and nothing to be drawn.
    coefficients = checkpoint_name(coefficients, EQUAL).astype(terms[0].dtype)
    return jnp.einsum("k,k...->...", coefficients, jnp.stack(terms))


class WeightedSum(nn.Module):
    """coefficients[0] * x[0] + ... + coefficients[k - 1] * x[k - 1], with trained coefficients.

    `qrjax.autoinit` gives them one common value with which the sum has the target's second moment, whatever the
    terms have in common; without it they start at 1 / sqrt(k), which is right for independent terms. For NNX take
    `WeightedSum.NNX(k)`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
      >>> class Twice(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         y = nn.Dense(64)(x)
      ...         return qrjax.WeightedSum()(y, y)
      >>> variables = qrjax.autoinit(Twice(), jax.ShapeDtypeStruct((8, 64), jnp.float32))
      >>> variables["params"]["WeightedSum_0"]["coefficients"].round(2).tolist()
      [0.5, 0.5]

    Reference:
      Bingham and Miikkulainen 2023, arXiv 2109.08958, on layers that combine several inputs.
    """

    @nn.compact
    def __call__(self, *terms: Array) -> Array:
        """The weighted sum of arrays of one shape.

        Raises:
          ValueError: without terms, or if their shapes differ.
        """
        if not terms:
            raise ValueError("a WeightedSum needs at least one term, got none")
        coefficients = self.param("coefficients", nn.initializers.constant(len(terms) ** -0.5), (len(terms),))
        return _weighted(coefficients, terms)


class _NNX(nnx.Module):
    """The same for NNX, which must know the number of terms beforehand."""

    def __init__(self, terms: int):
        if terms < 1:
            raise ValueError(f"`terms` must be at least 1, got {terms}")
        self.coefficients = nnx.Param(jnp.full((terms,), terms**-0.5))

    def __call__(self, *terms: Array) -> Array:
        """The weighted sum of arrays of one shape.

        Raises:
          ValueError: if the number of terms or their shapes do not fit.
        """
        coefficients: Any = self.coefficients[...]
        if len(terms) != coefficients.shape[0]:
            raise ValueError(f"this WeightedSum takes {coefficients.shape[0]} terms, got {len(terms)}")
        return _weighted(coefficients, terms)


WeightedSum.NNX = _NNX  # type: ignore[attr-defined]
