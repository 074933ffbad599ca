"""What a walk had to take for granted, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._interpreter._finding import INFO, Finding
from qrjax._interpreter._model import Model, is_image, largest_guess
from qrjax._interpreter._processes import gathered, is_shared
from qrjax._terminal._received import is_key

# Larger arrays are not looked through; nobody makes them as dummies.
LARGE = 1 << 20


def moments_apply(arrays: Sequence[Any]) -> list[bool]:
    """Whose moments input_mean and input_variance are: real numbers and images in bytes; without any, all integers."""
    kinds = [None if is_key(a) else np.dtype(a.dtype) for a in arrays]
    real = [
        kind is not None and bool(jax.numpy.issubdtype(kind, np.floating) or is_image(tuple(a.shape), kind))
        for a, kind in zip(arrays, kinds, strict=True)
    ]
    return real if any(real) else [kind is not None and kind.kind in "iu" for kind in kinds]


def assumptions(model: Model, given: bool) -> list[Finding]:
    """Sentences on what nobody said; `given`: whether moments of the inputs were."""
    return [Finding(text, INFO) for text in (*_axes_assumed(model), *_inputs_assumed(model, given))]


def _axes_assumed(model: Model) -> Iterator[str]:
    """On named axes whose size is not known."""
    for name in model.assumed:
        yield (
            f"the named axis {name!r} was taken to have size 1, so that sums over it change nothing; where it has "
            f"more, pass axes={{{name!r}: size}}"
        )


def axes_measured(model: Model) -> Iterator[Finding]:
    """On named axes in a real run."""
    yield from (Finding(text, INFO) for text in _axes_assumed(model))
    for name, size in model.axes.items():
        if size > 1:
            yield Finding(f"measured with the same batch in all {size} shards of the named axis {name!r}", INFO)


def _inputs_assumed(model: Model, given: bool) -> Iterator[str]:
    for array, told in zip(model.inputs, moments_apply(model.inputs), strict=True):
        guess = "" if given and told else _guessed(array)
        if guess:
            yield f"of an input of dtype {array.dtype} and shape {tuple(array.shape)} only the shape is known: {guess}"
    if not given and _is_dummy(model.inputs):
        yield (
            "the sample input is one number everywhere, and was taken at its word; pass real data, or of a shape "
            "jax.ShapeDtypeStruct(shape, dtype)"
        )


def _guessed(array: Any) -> str:
    if is_key(array) or not isinstance(array, (jax.ShapeDtypeStruct, jax.core.Tracer)):
        return ""
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    if jax.numpy.issubdtype(dtype, np.floating):
        # Of larger ones mean 0 and variance 1 are the rule that the docstrings give.
        return "taken as normal with mean 0 and variance 1; pass real numbers" if len(shape) < 2 else ""
    if dtype.kind == "b":
        return "taken as true in half of its places; pass real ones"
    top = largest_guess(shape, dtype)
    kind = "pixels" if top == 255 else "ids"
    return f"taken for {kind} from 0 to {top}, each as likely; pass real ones, or input_mean= and input_variance="


def _is_dummy(arrays: Sequence[Any]) -> bool:
    """Whether what the signal comes from is one number: the real numbers, or else ids, in which no example differs."""
    large = [a for a in arrays if not is_key(a) and len(a.shape) > 1 and math.prod(a.shape) > 1]
    floats = [a for a in large if jax.numpy.issubdtype(a.dtype, np.floating)]
    if floats:
        return all(map(_is_uniform, floats))
    ids = [a for a in large if np.dtype(a.dtype).kind in "iu"]
    # Positions differ along an example; a mask of ones, or types of 0, may be meant.
    return any(map(_is_uniform, ids)) and all(_is_uniform(a) or _is_uniform(a, by_place=True) for a in ids)


def _is_uniform(array: Any, by_place: bool = False) -> bool:
    """Whether all elements are equal, or all examples."""
    known = isinstance(array, (np.ndarray, jax.Array)) and not isinstance(array, jax.core.Tracer)
    if not known or is_shared(array) or math.prod(array.shape) > LARGE:
        return False
    numbers = np.asarray(gathered(array), np.float64)
    return bool((numbers == (numbers[:1] if by_place else numbers.flat[0])).all())
