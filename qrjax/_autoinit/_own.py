"""Weights that the module's own initializer draws, rescaled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._autoinit._plan import Plan
from qrjax._interpreter._model import Model
from qrjax._rules._operands import described


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaling:
    """What a variable is multiplied with.

    Attributes:
      stack: the axes that layers lie along.
      factors: float32: one, or one for each layer.
    """

    stack: tuple[int, ...]
    factors: np.ndarray

    def array(self, value: Array) -> Array:
        """The variable, rounded to its own dtype."""
        wide = np.promote_types(value.dtype, np.float32)
        rest = [axis for axis in range(value.ndim) if axis not in self.stack]
        shaped = np.expand_dims(self.factors, tuple(rest))
        return (value.astype(wide) * jnp.asarray(shaped, wide)).astype(value.dtype)


def rescalings(model: Model, plans: Mapping[str, Plan]) -> dict[str, Rescaling]:
    """For each weight the factor from what its initializer's law has to its gain.

    Raises:
      ValueError: if a module's values are not known yet, as within the program that makes it.
    """
    laws = {leaf.path: law for leaf, law in zip(model.leaves, model.laws(), strict=True)}
    return {
        path: Rescaling(plan.stack, plan.gains / np.float32(_root(path, laws[path]))) for path, plan in plans.items()
    }


def _root(path: str, law: Any) -> float:
    moment = described(law).second_moment
    if not moment > 0:
        raise ValueError(
            f"`distribution` 'own' rescales what the module draws, and of {path!r} only the shape is known here; call "
            "autoinit where the module is made already, or give a distribution"
        )
    return math.sqrt(moment)
