"""How large weights are: a fixed range, or one that depends on a tensor's fans."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from qrjax._initializers._arguments import MODES, fans, normalized
from qrjax._layouts._coordinates import Shape
from qrjax._layouts._sources import Roles, default_roles
from qrjax._terminal._names import choice
from qrjax._values._distributions import Distribution, Normal


@dataclasses.dataclass(frozen=True)
class Fixed:
    """location + scale * standardized value, whatever the shape."""

    location: float
    scale: float

    def location_and_scale(self, shape: Shape, distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
        del shape
        if dtype.kind == "c":  # E|z - location|**2 = scale**2, as jax.random.normal has it
            return self.location, self.scale / distribution.complex_stddev
        return self.location, self.scale

    def roles(self, shape: Shape) -> Roles:
        return default_roles(len(shape))

    def allows_complex(self, distribution: Distribution) -> bool:
        """Where JAX's twin has complex weights: of these builders, `normal` alone."""
        return isinstance(distribution, Normal) and self.location == 0


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
    """Mean 0 and variance scale / n, where n is a fan or an average of both."""

    scale: float
    mode: str
    in_axis: int | tuple[int, ...]
    out_axis: int | tuple[int, ...]
    batch_axis: int | tuple[int, ...]

    def __post_init__(self) -> None:
        choice("mode", self.mode, MODES)

    def location_and_scale(self, shape: Shape, distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
        fan_in, fan_out = fans(shape, *self._axes(shape))
        n = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[self.mode]
        standard = distribution.complex_stddev if dtype.kind == "c" else distribution.stddev
        # A tensor without weights has no fans; JAX gives it the variance 0 since 0.11, and an error before.
        return 0.0, math.sqrt(self.scale / n) / standard if n else 0.0

    def roles(self, shape: Shape) -> Roles:
        _, outputs, batch = self._axes(shape)
        # The receptive field belongs to the inputs: a convolution's neuron sums over it.
        inputs = tuple(axis for axis in range(len(shape)) if axis not in outputs + batch)
        return Roles(inputs, outputs)

    def allows_complex(self, distribution: Distribution) -> bool:
        del distribution
        return True

    def _axes(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        rank = len(shape)
        if rank <= 1 and self.in_axis == -2:
            raise ValueError(  # JAX's wording, which its users know
                f"Can't compute input and output sizes of a {rank}-dimensional weights tensor with default in_axis. "
                "Must be at least 2D or specify in_axis explicitly."
            )
        return (
            normalized("in_axis", self.in_axis, rank),
            normalized("out_axis", self.out_axis, rank),
            normalized("batch_axis", self.batch_axis, rank),
        )


Scaling = Fixed | VarianceScaling
