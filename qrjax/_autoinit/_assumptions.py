"""What a walk had to take for granted, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._interpreter._finding import INFO, Finding
from qrjax._interpreter._inputs import is_abstract, is_image, largest_guess
from qrjax._interpreter._model import Model
from qrjax._interpreter._processes import gathered, is_shared
from qrjax._terminal._received import is_key


def stand_ins(arrays: Sequence[Any]) -> list[bool]:
    """Which arrays are taken for their shapes: what is one number everywhere, as jnp.ones makes it, tells no more.

    Of several that is unclear, as one may be a mask of ones or a state of zeros, unless all are real numbers and zero.
    """
    numbers = [
        i for i, a in enumerate(arrays) if not is_key(a) and np.dtype(a.dtype).kind != "b" and math.prod(a.shape)
    ]
    given = [arrays[i] for i in numbers]
    if len(given) == 1 and math.prod(given[0].shape) > 1:
        taken = _is_uniform(given[0])
    else:
        real = moments_apply(given)
        taken = bool(given) and all(real) and all(_is_uniform(a, 0) for a in given)
    return [taken and i in numbers for i in range(len(arrays))]


def moments_apply(arrays: Sequence[Any]) -> list[bool]:
    """Whose moments input_mean and input_variance are: real and complex numbers, images in bytes; else all integers."""
    kinds = [None if is_key(a) else np.dtype(a.dtype) for a in arrays]
    real = [
        kind is not None and bool(jax.numpy.issubdtype(kind, np.inexact) or is_image(tuple(a.shape), kind))
        for a, kind in zip(arrays, kinds, strict=True)
    ]
    return real if any(real) else [kind is not None and kind.kind in "iu" for kind in kinds]


def assumptions(model: Model, given: bool) -> list[Finding]:
    """Sentences on what nobody said; `given`: whether moments of the inputs were."""
    found = (*_axes_assumed(model), *_settings_assumed(model), *_inputs_assumed(model, given))
    return [Finding(text, INFO) for text in found]


def _settings_assumed(model: Model) -> Iterator[str]:
    """On arguments whose arrays belong to the program, whatever they are meant to be."""
    for name in model.settings:
        yield (
            f"the call's arguments hold an object of type {name}, whose arrays JAX does not see: they were taken for "
            "settings, the same for every batch; if they are data, pass a dict or a tuple of them"
        )


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
    dummies = stand_ins(model.inputs)
    for array, dummy, told in zip(model.inputs, dummies, moments_apply(model.inputs), strict=True):
        if is_key(array) or (given and told):
            continue
        what = f"an input of dtype {array.dtype} and shape {tuple(array.shape)}"
        if dummy:
            yield f"{what} is one number everywhere, so its shape alone counts: {_guess(array)}"
        elif is_abstract(array) and (len(array.shape) < 2 or not jax.numpy.issubdtype(array.dtype, np.inexact)):
            # Of others mean 0 and variance 1 are the rule that the docstrings give.
            yield f"of {what} only the shape is known: {_guess(array)}"
    if not given and not any(dummies) and _is_dummy(model.inputs):
        yield (
            "the sample input is one number everywhere, and was taken at its word; pass real data, or of a shape "
            "jax.ShapeDtypeStruct(shape, dtype)"
        )


def _guess(array: Any) -> str:
    """What an array is taken for of which the shape alone is known."""
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    if jax.numpy.issubdtype(dtype, np.inexact):
        return "taken as normal with mean 0 and variance 1; pass real data"
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


def _is_uniform(array: Any, number: float | None = None, by_place: bool = False) -> bool:
    """Whether all elements are equal, to `number` if that is given, or all examples."""
    known = isinstance(array, (np.ndarray, jax.Array)) and not isinstance(array, jax.core.Tracer)
    if not known or is_shared(array) or not math.prod(array.shape):
        return False
    elements = gathered(array)
    wanted = elements[:1] if by_place else elements.flat[0] if number is None else number
    # Data differ within their first examples, so that they are seldom looked through.
    return all(bool((some == wanted).all()) for some in (elements[:2] if elements.ndim else elements, elements))
