"""Validation of what users pass to builders and initializers; shapes and fans."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.export
import numpy as np

from qrjax._layouts._coordinates import Shape
from qrjax._terminal._received import is_key, received
from qrjax._words._numbers import real_number

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
LARGEST_AXIS = 2**31 - 1

Axes = int | Sequence[int]
F = TypeVar("F", bound=Callable[..., Any])


def built_first(builder: F) -> F:
    """The builder, which refuses to be called as if it were the initializer that it builds."""

    @functools.wraps(builder)
    def build(*args: Any, **kwargs: Any) -> Any:
        if args and (is_key(args[0]) or (len(args) > 1 and getattr(args[0], "dtype", None) == np.uint32)):
            name = builder.__name__
            raise TypeError(f"an initializer must be built before it is called, got a key for {name}; write {name}()")
        return builder(*args, **kwargs)

    return cast(F, build)


def number(name: str, value: Any) -> float:
    """`value` as a finite float.

    Raises:
      TypeError: if it is no real number, or traced.
      ValueError: if it is NaN or infinite.
    """
    result = _real(name, value)
    if not math.isfinite(result):
        raise ValueError(f"`{name}` must be finite, got {result!r}")
    return result


def positive(name: str, value: Any) -> float:
    """`value` as a finite float above 0; errors as `number`."""
    result = number(name, value)
    if result <= 0:
        raise ValueError(f"`{name}` must be positive, got {result!r}")
    return result


def bound(name: str, value: Any) -> float:
    """`value` as a float that may be infinite, but not NaN."""
    result = _real(name, value)
    if math.isnan(result):
        raise ValueError(f"`{name}` must not be NaN")
    return result


def _real(name: str, value: Any) -> float:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"`{name}` must be static, got a traced value: weights are computed in integers that depend on it; "
            "draw with a static one and multiply the result"
        )
    try:
        return real_number(value)
    except TypeError:
        raise TypeError(f"`{name}` must be a real number, got {received(value)}") from None


def axes(name: str, value: Any) -> int | tuple[int, ...]:
    """An axis, or a sequence of axes as a tuple.

    Raises:
      TypeError: if `value` is neither an integer nor a sequence of integers.
    """
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return tuple(operator.index(axis) for axis in value)
    except TypeError:
        raise TypeError(f"`{name}` must be an axis or a sequence of axes, got {received(value)}") from None


def shape_of(shape: Any) -> Shape:
    """`shape` as a tuple of ints; an integer is the length of one axis, as in JAX.

    Raises:
      TypeError: if it is neither an integer nor a sequence of integers.
      ValueError: if a dimension is negative, or 2**31 or more.
    """
    try:
        dimensions = tuple(operator.index(n) for n in ((shape,) if isinstance(shape, (int, np.integer)) else shape))
    except TypeError:
        if isinstance(shape, Sequence) and any(map(jax.export.is_symbolic_dim, shape)):
            raise TypeError(
                f"`shape` must be static, got the symbolic {shape}: which point a weight is depends on the shape; "
                "export a program for each, or draw outside of it"
            ) from None
        raise TypeError(f"`shape` must be an integer or a sequence of integers, got {received(shape)}") from None
    for axis, n in enumerate(dimensions):
        if not 0 <= n <= LARGEST_AXIS:
            raise ValueError(f"`shape` must hold dimensions in [0, 2**31), got {n} at axis {axis} of {dimensions}")
    return dimensions


def normalized(name: str, value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Axes counted from the front.

    Raises:
      ValueError: if one is outside [-rank, rank).
    """
    result = []
    for axis in (value,) if isinstance(value, int) else value:
        if not -rank <= axis < rank:
            raise ValueError(f"`{name}` {axis} is outside a shape of {rank} dimensions")
        result.append(axis % rank)
    return tuple(result)


def fans(
    shape: Shape, in_axes: Sequence[int], out_axes: Sequence[int], batch_axes: Sequence[int]
) -> tuple[float, float]:
    """The number of inputs of an output, and of outputs of an input, as `jax.nn.initializers` counts them."""
    sizes = [math.prod(shape[axis] for axis in group) for group in (in_axes, out_axes, batch_axes)]
    receptive_field = math.prod(shape) / math.prod(sizes) if all(shape) else 0.0
    return sizes[0] * receptive_field, sizes[1] * receptive_field
