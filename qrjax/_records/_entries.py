"""One entry of a record for every variable: from autoinit's plans, an initialization program, or arrays."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend
import numpy as np
from jax import Array

from qrjax._adapters._initialization import part_of, run_part
from qrjax._autoinit._plan import Arranged, Plan
from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._specification import FACTOR, Specification
from qrjax._interpreter._model import Leaf
from qrjax._interpreter._processes import gathered
from qrjax._layouts._coordinates import Shape
from qrjax._records._derived import Offset, Rescaled, Transposed
from qrjax._records._follow import Found, found, repeated
from qrjax._records._origins import Built, Constant, Drawn, Factored, Keys, Origin, Stored, needs_model
from qrjax._records._regions import regroups
from qrjax._words._keys import key_words

# Values that are no constant and no builder of ours are kept up to this many; beyond, their builder is run.
FEW = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A variable and where its initial values come from."""

    leaf: Leaf
    origin: Origin


def check_code(entry: Entry) -> None:
    """Nothing, if the values need no code of a model's own.

    Raises:
      LookupError: if they do.
    """
    if needs_model(entry.origin):
        raise LookupError(
            f"the initial values of {entry.leaf.path!r} come from a builder of the model's own, so they need its "
            "code: record.with_model(module, sample_input)"
        )


def planned(plan: Plan, key: Array, correction: np.ndarray | None) -> Origin:
    """The origin of a weight that `autoinit` draws."""
    if plan.stack != tuple(range(len(plan.stack))):
        return _in_front(plan, key, correction)
    leaf, gains = plan.leaf, plan.gains
    if plan.equal and plan.stack:
        ones = Constant(leaf.shape, plan.unit_dtype, np.ones((), plan.unit_dtype))
        levels = (gains,) if correction is None else (gains, correction)
        return Rescaled(leaf.shape, leaf.dtype, ones, tuple(range(len(plan.stack))), levels)
    if plan.equal:
        value = np.asarray(gains).astype(leaf.dtype)
        if correction is not None:
            value = (value.astype(np.promote_types(leaf.dtype, np.float32)) * correction).astype(leaf.dtype)
        return Constant(leaf.shape, leaf.dtype, value)
    keys = plan.keys(key)
    words = np.asarray(key_words(keys) if not gains.ndim else jax.random.key_data(keys))
    factors = (plan.factors,) if correction is None else (plan.factors, correction)
    if plan.narrow:
        return _narrow(plan, keys, words, factors)
    if plan.draw.distribution == "orthogonal":
        a = Arranged.of(plan.draw, plan.shape, plan.inputs)
        return Factored(leaf.shape, leaf.dtype, a.build, a.matrix, plan.unit_dtype, words, a.axes, factors)
    drawn = plan.draw.initializer(plan.inputs).specification(plan.shape, plan.unit_dtype)
    return Drawn(leaf.shape, leaf.dtype, drawn, words, factors)


def _narrow(plan: Plan, keys: Array, words: np.ndarray, factors: tuple[np.ndarray, ...]) -> Origin:
    """Of a head of a few units: weights of variance 1, what is added to each unit's, and the gain."""
    shape, single = plan.leaf.shape, plan.unit_dtype
    drawn = plan.unit_draw.initializer(plan.inputs).specification(plan.shape, single)
    whole = Offset(shape, single, Drawn(shape, single, drawn, words), np.asarray(plan.offsets(keys)))
    single_factors = tuple(np.asarray(f, np.float32) for f in factors)
    return Rescaled(shape, plan.leaf.dtype, whole, tuple(range(len(plan.stack))), single_factors)


def _in_front(plan: Plan, key: Array, correction: np.ndarray | None) -> Origin:
    """Of a weight whose layers do not lie along its leading axes: one whose layers do, transposed."""
    rest = [a for a in range(len(plan.leaf.shape)) if a not in plan.stack]
    order = (*plan.stack, *rest)
    leaf = dataclasses.replace(plan.leaf, shape=tuple(plan.leaf.shape[a] for a in order))
    leading = dataclasses.replace(plan, leaf=leaf, stack=tuple(range(len(plan.stack))))
    return Transposed(plan.leaf.shape, leaf.dtype, planned(leading, key, correction), order)


def programmed(
    program: Any, leaves: Sequence[Leaf], needed: Sequence[bool], arguments: Sequence[Any], compiled: bool = False
) -> list[Any]:
    """The origins of the needed outputs of an initialization program (key, inputs) -> variables; None elsewhere.

    `compiled`: builders that are not ours are run as `autoinit` runs them, in one program with all that is needed;
    else one by one and operation by operation, as a plain `module.init` does. Their bits may differ.
    """
    places = [found(program, i) if need else None for i, need in enumerate(needed)]
    words = iter(_words([place for place in places if place is not None], arguments))
    together = _compiled(program, needed, arguments) if compiled else None
    result: list[Any] = []
    for i, (leaf, place) in enumerate(zip(leaves, places, strict=True)):
        origin = None if place is None else _drawn(leaf, place, np.asarray(next(words)))
        run = functools.partial(_run, program, i, arguments, together)
        result.append((origin or _other(program, leaf, i, run)) if needed[i] else None)
    return result


def _words(places: Sequence[Found], arguments: Sequence[Any]) -> list[Any]:
    """The words of all keys, in one program without anything else, such as what layers hand on to the next."""
    program = jax.make_jaxpr(lambda arguments: [place.words(arguments) for place in places])(list(arguments))
    return run_part(program, [True] * len(places), arguments)


def _drawn(leaf: Leaf, place: Found, words: np.ndarray) -> Origin | None:
    """What the name says, if the variable is that and nothing was done to it but a reshape and one conversion."""
    conversions = sum(a != b for a, b in itertools.pairwise(place.dtypes))
    if conversions > 1 or place.dtypes[-1] != leaf.dtype:
        return None
    layers = len(words.shape) - 1
    if leaf.shape[:layers] != words.shape[:-1]:
        return None
    shape = leaf.shape[layers:]
    if place.label.startswith(FACTOR):
        return _factored(leaf, json.loads(place.label.removeprefix(FACTOR)), words, shape)
    drawn = Specification.from_label(place.label)
    if not regroups(shape, drawn.shape) or drawn.dtype != place.dtypes[0]:
        return None
    return Drawn(leaf.shape, leaf.dtype, drawn, words)


def _factored(leaf: Leaf, data: Mapping[str, Any], words: np.ndarray, shape: Shape) -> Origin | None:
    drawn, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
    if int(np.prod(drawn)) != int(np.prod(shape)):
        return None
    return Factored(leaf.shape, leaf.dtype, Orthogonal.from_dict(data), drawn, dtype, words)


def _other(program: Any, leaf: Leaf, number: int, run: Callable[[], Array]) -> Origin:
    """A constant where the output depends on nothing; else the part of the program that computes it."""
    fixed = not any(uses(program, number))
    scalar = repeated(program, number) if fixed and math.prod(leaf.shape) > FEW else None
    if scalar is not None:
        return Constant(leaf.shape, leaf.dtype, np.asarray(scalar, leaf.dtype))  # a literal may be a plain float
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return (kept(leaf, run()) if fixed or is_key else None) or Built(leaf.shape, leaf.dtype, run)


def uses(program: Any, number: int) -> list[bool]:
    """Which arguments an output of a program depends on."""
    return part_of(program, _alone(program, number))[1]


def _alone(program: Any, number: int) -> list[bool]:
    return [i == number for i in range(len(program.jaxpr.outvars))]


def _compiled(program: Any, needed: Sequence[bool], arguments: Sequence[Any]) -> Callable[[], dict[int, Array]]:
    """All needed outputs, by number; compiled once, run at every call."""
    part, used = part_of(program, needed)
    kept = [a for a, use in zip(arguments, used, strict=True) if use]
    run = jax.jit(jax.extend.core.jaxpr_as_fun(part))
    numbers = [i for i, need in enumerate(needed) if need]
    return lambda: dict(zip(numbers, run(*kept), strict=True))


def _run(program: Any, number: int, arguments: Sequence[Any], together: Callable[[], dict[int, Array]] | None) -> Array:
    if together is not None:
        return together()[number]
    part, used = part_of(program, _alone(program, number))
    arrays = [a for a, use in zip(arguments, used, strict=True) if use]
    value: Array = jax.extend.core.jaxpr_as_fun(part)(*arrays)[0]
    return value


def kept(leaf: Leaf, array: Any) -> Origin | None:
    """A constant, or a few values; None if there are too many."""
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return Keys(leaf.shape, leaf.dtype, gathered(jax.random.key_data(array)))
    values = np.asarray(gathered(array), leaf.dtype)
    # As bytes, so that 0 and -0 differ and NaN is itself: each is the next.
    octets = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if values.size and np.array_equal(octets[values.itemsize :], octets[: -values.itemsize]):
        return Constant(leaf.shape, leaf.dtype, values.reshape(-1)[0:1].reshape(()))
    return Stored(leaf.shape, leaf.dtype, values) if values.size <= FEW else None


def held(leaf: Leaf, array: Any) -> Origin:
    """The origin of an array that exists already."""
    return Built(leaf.shape, leaf.dtype, lambda: array)
