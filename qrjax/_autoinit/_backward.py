"""A real backward pass: gradients by the rows' outputs and by the weights."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._adapters._returned import as_returned
from qrjax._adjoint._cotangent import Cotangent
from qrjax._autoinit._cotangents import Sums, law, sums
from qrjax._interpreter._ledger import Entry, Ledger
from qrjax._interpreter._model import Model
from qrjax._interpreter._replay import Path, pooled
from qrjax._interpreter._report import Row
from qrjax._interpreter._taps import Tapped, Taps, hidden, loops_of
from qrjax._signals._quadrature import Floats
from qrjax._signals._recipe import Key
from qrjax._signals._weight import Layer
from qrjax._terminal._received import received

Axes = tuple[int, ...]
Loss = Callable[[Any], Any]
# Of the key that a model's own random streams have, another for the cotangent.
COTANGENT = 0x6772_6164
HIDDEN = "within a function with a derivative of its own, so its output has no gradient"
# Second moments of gradients by weights that are the same but for rounding.
SAME = 0.01


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What a backward pass found.

    Attributes:
      outputs: for each place the sums of second moments and their numbers, with an axis for each scan around it.
      weights: for each weight the second moment of its gradient.
      hidden: places whose gradient no backward pass meets, in functions that bring other derivatives.
      given: for each output the law of the derivative that the pass began with; empty where one is no finite number.
    """

    outputs: Mapping[Path, Floats]
    weights: Mapping[Key, float]
    hidden: frozenset[Path]
    given: Sequence[Cotangent]


def check_gradients(gradients: Any, loss: Any) -> bool:
    """Whether gradients are wanted.

    Raises:
      TypeError: if `gradients` is no bool, or `loss` no function.
      ValueError: if both say what the gradients are of.
    """
    if not isinstance(gradients, bool):
        remedy = "; a loss is passed as loss=" if callable(gradients) else ""
        raise TypeError(f"`gradients` must be True or False, got {received(gradients)}{remedy}")
    if loss is not None and not callable(loss):
        raise TypeError(
            f"`loss` must be a function of what the model returns, got {received(loss)}; as in loss=lambda y: "
            "optax.losses.softmax_cross_entropy_with_integer_labels(y, labels).mean()"
        )
    if gradients and loss is not None:
        raise ValueError(
            "`gradients` asks for those of a random cotangent and `loss` for those of a loss; pass one of them"
        )
    return gradients or loss is not None


def gradients_of(
    model: Model, flat: Sequence[Any], ledger: Ledger, moments: Mapping[Path, Floats], key: Any, loss: Loss | None
) -> Gradients:
    """Those of one backward pass, at every row whose moments were measured.

    Raises:
      TypeError, ValueError: if the loss is no real number, or the model returns nothing that has a derivative.
    """
    return backward_pass(model, ledger, moments, loss)(flat, key, model.inputs)


def backward_pass(
    model: Model, ledger: Ledger, moments: Mapping[Path, Floats], loss: Loss | None
) -> Callable[[Sequence[Any], Any, Sequence[Any]], Gradients]:
    """(variables, key, inputs) -> gradients, by programs that are compiled once for all draws and batches."""
    taps = {place: jnp.zeros((*found.shape[:-1], 2), jnp.float32) for place, found in moments.items()}
    replay = Tapped(frozenset(taps), {}, taps=taps, loops=loops_of(model.program))
    keys = {entry.weight.key for entry in ledger.entries.values() if entry.weight is not None}
    stacks = sorted({(path, tuple(axis for axis, _ in layer)) for path, layer in keys})
    within = hidden(model.program, replay.places)

    @functools.cache
    def compiled(opened: bool) -> Callable[..., Any]:
        around = frozenset(within.values())
        loops = loops_of(model.program, around) if opened else replay.loops
        run = dataclasses.replace(replay, opened=opened, loops=loops)
        return jax.jit(model.bound(lambda *arguments: _run(model, run, stacks, loss, *arguments)))

    def passed(flat: Sequence[Any], key: Any, inputs: Sequence[Any]) -> Gradients:
        def of(opened: bool) -> Passed:
            outputs, weights, given = compiled(opened)([*flat], key, [*inputs], taps)
            return Passed(outputs, [np.asarray(found, np.float64) for found in weights], given)

        outputs, found, given = of(opened=False)
        opened = _opened(of, found) if within else None
        weights = dict(zip(stacks, found, strict=True))

        def moment(path: str, layer: Layer) -> float:
            axes, positions = zip(*layer, strict=True) if layer else ((), ())
            return float(weights[path, axes][positions])

        tapped = outputs if opened is None else opened
        return Gradients(
            {place: np.asarray(total, np.float64) for place, total in tapped.items()},
            {key: moment(*key) for key in keys},
            frozenset(within) if opened is None else frozenset(),
            _laws(model, given),
        )

    return passed


class Passed(NamedTuple):
    """What one pass found: by the taps, by the weights, and of what it began with."""

    outputs: Taps
    weights: list[Floats]
    given: list[Sums]


def _laws(model: Model, given: Sequence[Sums]) -> list[Cotangent]:
    if not all(np.isfinite(found.squares).all() for found in given):
        return []
    rest = iter(given)
    return [
        law(tuple(y.shape), next(rest)) if jnp.issubdtype(y.dtype, np.inexact) else Cotangent(tuple(y.shape))
        for y in jax.tree.leaves(model.outputs)
    ]


def _opened(passed: Callable[[bool], Passed], known: Sequence[Floats]) -> Taps | None:
    """The pass through functions that bring derivatives of their own, if it comes to the same; else None.

    It does where theirs only save memory, as an ODE solver's, and does not where they differ, as one that goes
    straight through a rounding.
    """
    try:
        outputs, found, _ = passed(True)
    except Exception:  # whatever JAX raises for what it cannot differentiate, which may be why they bring their own
        return None
    agree = (
        np.allclose(a, b, rtol=SAME, atol=1e-6 * np.max(a, initial=0.0)) for a, b in zip(known, found, strict=True)
    )
    return outputs if all(agree) else None


def _run(
    model: Model, replay: Tapped, stacks: Sequence[tuple[str, Axes]], loss: Loss | None,
    flat: Sequence[Any], key: Any, inputs: Sequence[Any], taps: Taps,
) -> tuple[Taps, list[Array], list[Sums]]:  # fmt: skip
    """The derivatives by the taps, the second moments of those by the weights, one for each layer, and the outputs'."""
    paths = [leaf.path for leaf in model.leaves]
    wanted = [paths.index(path) for path in dict.fromkeys(path for path, _ in stacks)]

    def forward(weights: Sequence[Any], taps: Taps) -> tuple[list[Any], list[Any]]:
        whole = [*flat]
        for place, weight in zip(wanted, weights, strict=True):
            whole[place] = weight
        run = dataclasses.replace(replay, taps=taps)
        outputs = run.run(model.program, [*whole, *[key] * model.keys, *inputs])[0]
        made = outputs[: len(jax.tree.leaves(model.outputs))]
        return _numbers(made), made

    outputs, pull, made = jax.vjp(forward, [flat[place] for place in wanted], taps, has_aux=True)
    given = _cotangents(outputs, key) if loss is None else _of_loss(loss, model, outputs, made)
    gradients, found = pull(given)
    by_path = {paths[place]: gradient for place, gradient in zip(wanted, gradients, strict=True)}
    return found, [_by_layer(by_path[path], axes) for path, axes in stacks], [sums(g) for g in given]


def _of_loss(loss: Loss, model: Model, outputs: Sequence[Array], made: Sequence[Any]) -> list[Array]:
    """The loss's derivatives by the outputs that have any."""

    def by(outputs: Sequence[Array]) -> Array:
        own = iter(outputs)
        leaves = [next(own) if jnp.issubdtype(y.dtype, np.inexact) else y for y in made]
        return loss_at(loss, model, leaves)

    value, pull = jax.vjp(by, outputs)
    return list(pull(jnp.ones_like(value))[0])


def _numbers(outputs: Sequence[Any]) -> list[Any]:
    """The outputs that have derivatives."""
    found = [y for y in outputs if jnp.issubdtype(y.dtype, np.inexact)]
    if not found:
        raise ValueError(
            "`gradients` and `loss` need an output that has a derivative, but the model returns "
            f"{', '.join(map(received, outputs)) or 'nothing'}; pass a method that returns real numbers"
        )
    return found


def loss_at(loss: Loss, model: Model, arrays: Sequence[Any]) -> Array:
    """The loss of what the model returns, by its arrays.

    Raises:
      TypeError: if it is no real number, or what the model returns cannot be made of other arrays.
    """
    value = loss(as_returned(model.outputs, arrays))
    if not hasattr(value, "dtype") or jnp.shape(value) or not jnp.issubdtype(value.dtype, np.floating):
        raise TypeError(
            f"`loss` must return one real number, got {received(value)}; take the mean over the examples, and leave "
            "out what else it returns"
        )
    found: Array = value
    return found


def _cotangents(outputs: Sequence[Array], key: Any) -> list[Array]:
    """Normal and independent, of second moment 1, of complex numbers too: exactly, which leaves its luck out."""
    own = jax.random.fold_in(key, COTANGENT)
    drawn = [jax.random.normal(jax.random.fold_in(own, i), y.shape, y.dtype) for i, y in enumerate(outputs)]
    return [_of_size_one(g) for g in drawn]


def _of_size_one(g: Array) -> Array:
    wide = g.astype(np.promote_types(g.dtype, np.float32))
    size = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(wide)))) if g.size else jnp.ones(())
    return (wide / size.astype(wide.dtype)).astype(g.dtype)


def _by_layer(gradient: Array, axes: Axes) -> Array:
    wide = gradient.astype(np.promote_types(gradient.dtype, np.float32))
    return jnp.mean(jnp.square(jnp.abs(wide)), tuple(a for a in range(wide.ndim) if a not in axes))


# -- the rows ------------------------------------------------------------------------------------------------------


def with_gradients(row: Row, entry: Entry, found: Gradients, model: Model) -> Row:
    """A measured row with its gradients."""
    if row.measured_mean is None:
        return row  # it did not run
    place, layers = row.site
    if place in found.hidden:
        row = dataclasses.replace(row, notes=(*row.notes, HIDDEN))
    elif entry.output is not None and jnp.issubdtype(entry.output.dtype, np.inexact):
        total, count = pooled(found.outputs[place], entry.kinds, layers)
        moment = float(total / count) if count else 0.0  # nothing of it reaches what the model returns
        norm = math.sqrt(moment * math.prod(row.shape) / model.examples)
        row = dataclasses.replace(row, measured_gradient=moment, measured_gradient_norm=norm)
    if entry.weight is None:
        return row
    moment, (path, layer) = found.weights[entry.weight.key], entry.weight.key
    stacked = [axis for axis, _ in layer]
    shape = next(leaf.shape for leaf in model.leaves if leaf.path == path)
    size = math.prod(n for axis, n in enumerate(shape) if axis not in stacked)
    return dataclasses.replace(
        row, measured_weight_gradient=moment, measured_weight_gradient_norm=math.sqrt(moment * size)
    )
