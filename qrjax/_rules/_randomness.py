"""Random draws and the keys that they come from."""

from __future__ import annotations

import math

import numpy as np

from qrjax._rules._equations import Equation
from qrjax._rules._operands import Opaque, Value, described
from qrjax._rules._registry import structural
from qrjax._rules._sampling import sample
from qrjax._signals import _tables
from qrjax._signals._quadrature import CDF
from qrjax._signals._signal import Signal, Source
from qrjax._words._keys import CONSUMED


@structural("random_wrap", "random_unwrap", "random_seed", "random_split", "random_fold_in", "random_clone", CONSUMED)
def keys(equation: Equation, *_: Value) -> list[Value]:
    """Keys have no law."""
    return [Opaque(tuple(output.shape)) for output in equation.outputs]


@structural("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")
def bits(equation: Equation, *_: Value) -> list[Value]:
    """Independent uniform integers."""
    return [_uniform_integers(tuple(output.shape), output.dtype) for output in equation.outputs]


def _uniform_integers(shape: tuple[int, ...], dtype: np.dtype[np.uint32]) -> Value:
    if not np.issubdtype(dtype, np.integer):
        return Opaque(shape)
    top = float(np.iinfo(dtype).max)
    values = np.minimum(np.floor(CDF * (top + 1)), top)
    return Signal(shape, np.dtype(dtype), values, Source(), _tables.independent(shape))


@structural("random_gamma")
def gamma(equation: Equation, _: Value, a: Value) -> Value:
    """Gamma variates by their normal approximation in the cube root (Wilson and Hilferty)."""
    shape = equation.shape
    concentration = max(1e-3, described(a).mean)
    normal = Signal.normal(shape, 1 - 1 / (9 * concentration), 1 / (9 * concentration), equation.dtype)
    values = concentration * np.maximum(normal.values, 0.0) ** 3
    return normal.fresh(values=values)


@structural("qr")
def qr(equation: Equation, x: Value) -> list[Value]:
    """An orthogonal matrix made of random numbers, as by initializers: each of a unit vector's numbers is about normal.

    To draw such matrices and factorize them took longer than all else of a recurrent network's walk.
    """
    if not _is_noise(x):
        return sample(equation, x)
    (*_, m, n), moment = x.shape, described(x).second_moment
    q, r = equation.outputs[:2]
    above = moment * n * m / math.prod(r.shape[-2:])  # as large as the matrix as a whole
    return [
        Signal.normal(tuple(q.shape), 0.0, 1 / m, q.dtype),
        Signal.normal(tuple(r.shape), 0.0, above, r.dtype),
        *(Opaque(tuple(o.shape)) for o in equation.outputs[2:]),
    ]


def _is_noise(x: Value) -> bool:
    """Whether its elements are independent random numbers around 0 in which nothing else has a part."""
    if not isinstance(x, Signal) or x.recipe is None or not x.recipe.noise or x.recipe.leaves or x.recipe.data:
        return False
    around = x.mean**2 <= 1e-6 * x.second_moment
    return around and not x.is_constant and bool((x.rho == _tables.independent(x.shape)).all())
