"""`measure` and `calibrate`: the program on a real batch, with the walk's rows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._autoinit._analyze import aim_of, gains_of, input_values, model_of, selector
from qrjax._autoinit._assumptions import axes_measured
from qrjax._autoinit._backward import Loss, check_gradients, gradients_of, with_gradients
from qrjax._autoinit._calibration import Factors, settled, times
from qrjax._autoinit._calls import arguments_of, check_variables, opened
from qrjax._autoinit._gradients import backward
from qrjax._autoinit._streams import PARAMS, Streams, streams_of
from qrjax._autoinit._sums import is_zero_sum, measured_sums
from qrjax._autoinit._targets import Aimed, check_target
from qrjax._autoinit._walks import Walks
from qrjax._interpreter._finding import ERROR, Finding
from qrjax._interpreter._findings import findings, name_of
from qrjax._interpreter._gains import Given, Target
from qrjax._interpreter._laws import is_centred
from qrjax._interpreter._ledger import Entry, Ledger
from qrjax._interpreter._model import Model
from qrjax._interpreter._replay import Moments, Path, Replay, is_spoiled, pooled
from qrjax._interpreter._report import Report, Row
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Value
from qrjax._signals._quadrature import Floats
from qrjax._signals._recipe import Key
from qrjax._terminal._cells import counted
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._patterns import Selection
from qrjax._terminal._received import received
from qrjax._words._transfers import transferring


@frames_hidden
@transferring
def measure(
    module: Any,
    variables: Any,
    sample_input: Any = None,
    *args: Any,
    rngs: Any = None,
    method: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    gradients: bool = False,
    loss: Loss | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Report:
    """Runs the model on a real batch and compares each layer's moments with those predicted for these variables.

    Args:
      module: a Linen module, an NNX module, a function of a key that makes one, or a pair of functions (init, apply).
      variables: what `qrjax.autoinit` or the module's init returned; for NNX a module, or a state or a part of one.
      sample_input, *args, **kwargs: what the module is called with; arrays of real numbers or ids.
      rngs: the random streams that the call needs, names with keys or names alone, or an nnx.Rngs.
      method, mutable: as in Linen's `apply`.
      axes, call_kwargs: as in `qrjax.autoinit`; in a run all shards of a named axis get the same batch.
      gradients: whether to go backwards too, from a random cotangent at each output that has derivatives: normal,
        independent from element to element, of second moment 1. A given key always gives the same one.
      loss: instead, a function from what the model returns to one real number. Its gradients are measured, and
        predicted from the second moments of its derivative with respect to what the model returns. They scale with the
        loss: in a mean over n examples each example contributes 1/n of what it does in a sum, its second moments 1/n^2.
        If the model returns an object that JAX does not know, such as a distribution, the loss gets one rebuilt from
        new arrays; arrays nested deeper in it are an error.

    Returns:
      A `qrjax.Report` with the predicted and the measured moments, which are means over all elements of an output and
      over the steps of a recurrence. With gradients its rows also have `measured_gradient`, with respect to the row's
      output, and `measured_weight_gradient`, with respect to its weight, over the whole batch and all uses of the
      weight, both also as norms, see `qrjax.Row`, next to the predictions; layers of a stack have their own. The
      prediction for a loss starts from its measured derivative with respect to the outputs: its size, what elements
      that differ along each set of axes have in common, and how it varies along an axis; its dependence on the weights
      is neglected. Where that derivative is not finite nothing is predicted. Outputs inside a function with a custom
      derivative, such as a straight-through rounding, have none.

    Raises:
      ValueError: if the model has no weights, is bound, an input is missing or not finite, all inputs are zero,
        `gradients` and `loss` are both given, or nothing that the model returns has a derivative.
      TypeError: if `module` is none of the three kinds, `loss` does not return one real number, or arrays are traced,
        as under jax.jit.

    Example:
      >>> import flax.linen as nn, jax, qrjax
      >>> network, x = nn.Dense(256), jax.random.normal(jax.random.key(1), (32, 64))
      >>> row = qrjax.measure(network, qrjax.autoinit(network, x), x)[0]
      >>> abs(row.octaves) < 0.2
      True

      The gradients of a loss, or `gradients=True` for those of a random cotangent:

      >>> row = qrjax.measure(network, network.init(jax.random.key(0), x), x, loss=lambda y: 0.5 * (y**2).sum())[0]
      >>> abs(row.measured_gradient / row.measured_second_moment - 1) < 1e-5
      True
    """
    back = check_gradients(gradients, loss)
    module = opened(module)
    check_variables(module, variables, (sample_input, *args))
    arguments = arguments_of(
        module, sample_input, args, kwargs, call_kwargs, method, rngs=rngs, axes=axes, gradients=gradients, loss=loss
    )
    streams = streams_of(rngs)
    model = model_of(module, *arguments, variables, method=method, rngs=streams, mutable=mutable, axes=axes)
    flat = list(model.materialize(None, [True] * len(model.leaves)))
    walk, outputs = _walked(model, flat, back)
    ledger, rows = walk.ledger, walk.ledger.rows()
    replay = Replay(frozenset(site[0] for site in ledger.entries), {}, ledger.masked())
    moments = _run(model, replay, flat, _key(streams))
    if back:
        found = gradients_of(model, flat, ledger, moments, _key(streams), loss)
        if loss is None or found.given:
            given, sums = None if loss is None else found.given, measured_sums(model, flat, ledger)
            rows, _ = backward(model, walk, outputs, given, sums)
    rows = [_filled(row, ledger.entries[row.site], moments) for row in rows]
    if back:
        rows = [with_gradients(row, ledger.entries[row.site], found, model) for row in rows]
    return Report(rows, [*_spoiled(rows, moments), *findings(rows, ledger, 1.0), *axes_measured(model)])


def rows_of(model: Model, flat: Sequence[Any]) -> tuple[Ledger, list[Row]]:
    """The walk for variables as they are."""
    ledger = _walked(model, flat)[0].ledger
    return ledger, ledger.rows()


def _walked(model: Model, flat: Sequence[Any], taped: bool = False) -> tuple[Walk, list[Value]]:
    """The walk for variables as they are, perhaps taken down, and its outputs."""
    for array in model.inputs:
        if isinstance(array, jax.ShapeDtypeStruct):
            raise ValueError(f"`sample_input` must hold real numbers to be measured, got {received(array)}")
    if model.inputs and all(0 in array.shape for array in model.inputs):
        raise ValueError(f"`sample_input` must hold an example to be measured, got {received(model.inputs[0])}")
    if any(isinstance(array, jax.core.Tracer) for array in (*flat, *model.inputs)):
        raise TypeError(
            "what is measured are numbers, and arrays are traced here; call qrjax.measure and qrjax.calibrate, and "
            "qrjax.autoinit with calibrate, outside of jit, vmap and grad"
        )
    values = input_values(model, None, None, measured=True)
    variances = _variances(model, flat)
    walked = model.taped if taped else model.walked
    walk, outputs = walked(Given(1.0, None, of=variances), values)
    if is_zero_sum(model, flat, walk.ledger):
        walk, outputs = walked(Given(1.0, None, of=variances), values, zero_sum=True)
    if not any(row.gain is not None for row in walk.ledger.rows()):
        raise ValueError("the model has no weights: none of its parameters is multiplied with its input")
    return walk, outputs


def _variances(model: Model, flat: Sequence[Any]) -> Callable[[Key], float | None]:
    """The variance of each parameter that is centred, by its key: whole, or of one layer of a stack."""
    arrays = {
        leaf.path: array
        for leaf, array in zip(model.leaves, flat, strict=True)
        if leaf.trained and len(leaf.shape) >= 2 and jax.numpy.issubdtype(leaf.dtype, np.inexact)
    }

    @functools.cache
    def moments(path: str, stack: tuple[int, ...]) -> Any:
        wide = jnp.asarray(arrays[path], jnp.complex64 if jnp.iscomplexobj(arrays[path]) else jnp.float32)
        rest = tuple(a for a in range(wide.ndim) if a not in stack)
        return np.asarray(jnp.mean(jnp.abs(wide) ** 2, rest), np.float64), float(jnp.abs(jnp.mean(wide)))

    def variance(key: Key) -> float | None:
        path, layer = key
        if path not in arrays:
            return None
        found, mean = moments(path, tuple(axis for axis, _ in layer))
        return float(found[tuple(place for _, place in layer)]) if is_centred(mean, found.mean()) else None

    return variance


def _key(streams: Streams) -> Any:
    """The key of the streams without their own; as in Flax that of the parameters."""
    return streams.keys.get(PARAMS, next(iter(streams.keys.values()), jax.random.key(0)))


def _run(model: Model, replay: Replay, flat: Sequence[Any], key: Any) -> dict[Path, Floats]:
    arguments = [*flat, *[key] * model.keys, *model.inputs]
    moments: Moments = jax.jit(model.bound(lambda a: replay.run(model.program, a)[1]))(arguments)
    return {place: np.asarray(found, np.float64) for place, found in moments.items()}


def _spoiled(rows: Sequence[Row], moments: Mapping[Path, Floats]) -> list[Finding]:
    names = [name_of(row) for row in rows if is_spoiled(moments.get(row.site[0], np.zeros(3)))]
    behind = f"{counted(len(names), 'output')} from there on"
    return [Finding(f"not a number: {name} holds NaN, {behind}", ERROR) for name in names[:1]]


def _filled(row: Row, entry: Entry, moments: Mapping[Path, Any]) -> Row:
    found = moments.get(row.site[0])
    if found is None:
        return row
    mean, moment = pooled(found, entry.kinds, row.site[1])[:2]
    if math.isnan(mean):
        return row
    return dataclasses.replace(row, measured_mean=float(mean), measured_variance=max(0.0, float(moment - mean**2)))


@frames_hidden
@transferring
def calibrate(
    module: Any,
    variables: Any,
    sample_input: Any = None,
    *args: Any,
    target: Aimed = 1.0,
    select: Selection = None,
    rngs: Any = None,
    method: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Rescales weights so that on this batch every weight's output has the second moment `target`.

    One sweep, layer by layer: each output is measured when all earlier ones have been corrected. Weights that are
    used several times, at every step of a recurrence, or beside their product with the input, are corrected until
    the mean over their uses is right, which takes a few sweeps. Recurrent ones give no more than the second moment of
    their input, by the prediction, as in `qrjax.autoinit`; a table that also makes logits is corrected for the logits.
    If no scale of a weight gives the target, because it is normalized or its output is NaN, a
    `qrjax.CalibrationWarning` says so and the weight is left alone. Weights of zero stay zero.

    Args:
      module, variables, sample_input, *args, rngs, method, mutable, axes, call_kwargs, **kwargs: as in
        `qrjax.measure`.
      target: the second moment of each weight's output, or one for each, or "stable", as in `qrjax.autoinit`.
      select: which weights to rescale, as in `qrjax.autoinit`; by default all.

    Returns:
      New variables; all but the weights are the ones that came in.

    Raises:
      ValueError, TypeError: as `qrjax.measure` and `qrjax.autoinit`.

    Example:
      >>> import flax.linen as nn, jax, qrjax
      >>> network, x = nn.Dense(256), jax.random.normal(jax.random.key(1), (32, 64))
      >>> variables = qrjax.calibrate(network, network.init(jax.random.key(0), x), x)
      >>> round(qrjax.measure(network, variables, x)[0].measured_second_moment, 4)
      1.0

    Reference:
      Mishkin and Matas, All you need is a good init, ICLR 2016, arXiv 1511.06422, algorithm 1, without the
      orthonormal start.
    """
    target = check_target(target)
    module = opened(module)
    check_variables(module, variables, (sample_input, *args))
    arguments = arguments_of(
        module, sample_input, args, kwargs, call_kwargs, method, rngs=rngs, target=target, select=select, axes=axes
    )
    streams = streams_of(rngs)
    model = model_of(module, *arguments, variables, method=method, rngs=streams, mutable=mutable, axes=axes)
    chosen = selector(select, model)
    flat = list(model.materialize(None, [True] * len(model.leaves)))
    values = input_values(model, None, None, measured=True) if isinstance(target, str) else ()
    aim = aim_of(target, Walks(model, values, functools.partial(gains_of, model, select=select)))
    return model.rebuild(calibrated(model, flat, aim.target, chosen, _key(streams)))


def calibrated(model: Model, flat: list[Any], target: Target, chosen: Callable[[str], bool], key: Any) -> list[Any]:
    """The variables with corrected weights."""
    found = _settled(model, flat, target, chosen, key)
    return [
        times(array, *found[leaf.path]) if leaf.path in found else array
        for leaf, array in zip(model.leaves, flat, strict=True)
    ]


def corrections(
    model: Model, flat: list[Any], target: Target, chosen: Callable[[str], bool], key: Any
) -> dict[str, np.ndarray]:
    """What each weight is to be multiplied with, by path: a number, or one for each layer of a stack."""
    found = _settled(model, flat, target, chosen, key)
    return {path: np.asarray(factor, np.float32) for path, (factor, _) in found.items()}


def _settled(model: Model, flat: list[Any], target: Target, chosen: Callable[[str], bool], key: Any) -> Factors:
    ledger, _ = rows_of(model, flat)
    return settled(model, flat, ledger, target, chosen, key)
