"""`analyze`: the walk, and nothing drawn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._adapters._axes import sizes_of
from qrjax._adapters._trace import abstract, types_with_arrays
from qrjax._autoinit._assumptions import assumptions, moments_apply, stand_ins
from qrjax._autoinit._backward import check_gradients
from qrjax._autoinit._branches import check_branches, with_branches
from qrjax._autoinit._calls import arguments_of, check_module, construction_of, is_pair, note_spelling, opened
from qrjax._autoinit._gradients import backward
from qrjax._autoinit._heads import check_head, with_head
from qrjax._autoinit._laws import unit_law
from qrjax._autoinit._names import WHOSE, Whose
from qrjax._autoinit._stable import ALLOWED, DEEP, stable
from qrjax._autoinit._streams import streams_of
from qrjax._autoinit._sums import designed_sums
from qrjax._autoinit._targets import STABLE, Aim, Aimed, aim_at, check_target
from qrjax._autoinit._walks import Walks
from qrjax._initializers._arguments import number
from qrjax._interpreter._finding import INFO, Finding
from qrjax._interpreter._findings import chains, findings, plain
from qrjax._interpreter._gains import Gains, Target
from qrjax._interpreter._inputs import input_value
from qrjax._interpreter._model import Model
from qrjax._interpreter._processes import gathered
from qrjax._interpreter._report import Report, Row
from qrjax._interpreter._untouched import remarks as on_untouched
from qrjax._interpreter._untouched import untouched
from qrjax._interpreter._walk import Walk
from qrjax._layouts._sources import LAYOUTS, Layout
from qrjax._rules._operands import Opaque, Value, described
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._names import choice, listed, meant
from qrjax._terminal._patterns import Selection, check_patterns, chosen_by, patterns_of
from qrjax._words._transfers import transferring


def model_of(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], variables: Any = None, **options: Any
) -> Model:
    """The model of a Linen module, an NNX module, its construction or a pair of functions; with variables it may have.

    Raises:
      TypeError: if `module` is none of these.
    """
    try:
        check_module(module, args)
        made, hidden = _traced(module, args, kwargs, variables, **options), types_with_arrays((args, kwargs))
    except TypeError as error:
        note_spelling(error, kwargs)
        raise
    return dataclasses.replace(made, settings=hidden) if hidden else made


def _traced(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], variables: Any, *, rngs: Any = None, axes: Any = None,
    **options: Any,
) -> Model:  # fmt: skip
    arguments, streams, sizes = (args, kwargs), streams_of(rngs), sizes_of(axes)
    options |= {"names": streams.names, "keys": streams.keys, "strict": streams.strict, "axes": sizes}
    if is_pair(module):
        from qrjax._adapters._functions import functions_model

        if streams.names and streams.strict:
            raise ValueError(
                f"`rngs` names {streams.names[0]!r}, but a pair of functions has no random streams; pass its keys "
                "among its own arguments"
            )
        return functions_model(module, arguments, sizes, variables)
    if construction_of(module) is not None:
        from qrjax._adapters._nnx import constructed_model

        if variables is None:
            return constructed_model(module, arguments, options)
        module = module.module
    import flax.linen

    if isinstance(module, flax.linen.Module):
        from qrjax._adapters._linen import linen_model

        return linen_model(module, arguments, options, variables)
    from qrjax._adapters._nnx import nnx_model, with_variables

    return nnx_model(with_variables(module, variables), arguments, options)


def selector(select: Selection, model: Model) -> Callable[[str], bool]:
    """Which weights to touch, by path.

    Raises:
      ValueError: if nothing matches.
      TypeError: if `select` is no pattern.
    """
    if select is None:
        return lambda _: True
    chosen = chosen_by("select", select)
    paths = [leaf.path for leaf in model.leaves if leaf.trained]
    if not any(chosen(path) for path in paths):
        raise ValueError(
            f"`select` {select!r} matches no parameter; paths: {listed(paths)}; a pattern may use *, as in "
            f"'*/kernel'{meant(select, paths)}"
        )
    return chosen


def input_values(model: Model, mean: Any, variance: Any, measured: bool = False) -> list[Value]:
    """The laws of the inputs; of those that are one number everywhere by their shapes, unless they are `measured`.

    Raises:
      ValueError: if an input holds NaN or infinities, or no signal goes in.
    """
    mean = None if mean is None else number("input_mean", mean)
    variance = None if variance is None else number("input_variance", variance)
    if variance is not None and variance < 0:
        raise ValueError(f"`input_variance` must be finite and not negative, got {variance!r}")
    for array in model.inputs:
        if isinstance(array, (np.ndarray, jax.Array)) and not isinstance(array, jax.core.Tracer):
            _check_finite(array)
    shaped = [False] * len(model.inputs) if measured else stand_ins(model.inputs)
    arrays = [abstract(a) if by_shape else a for a, by_shape in zip(model.inputs, shaped, strict=True)]
    told = moments_apply(arrays)
    values = [input_value(a, *((mean, variance) if t else (None, None))) for a, t in zip(arrays, told, strict=True)]
    signals = [described(v) for v in values if not isinstance(v, Opaque)]
    inexact = [s for s in signals if jax.numpy.issubdtype(s.dtype, np.inexact) and s.size]
    if inexact and len(inexact) == len(signals) and all(s.second_moment == 0 for s in inexact):
        if measured:
            raise ValueError(
                "`sample_input` is zero everywhere, so there is nothing to measure; pass real data, or numbers like "
                f"them: jax.random.normal(jax.random.key(0), {inexact[0].shape})"
            )
        raise ValueError("an input of mean 0 and variance 0 is no signal; pass another `input_variance`")
    return values


def _check_finite(array: Any) -> None:
    if jax.numpy.issubdtype(array.dtype, np.floating):
        bad = int(np.size(array) - np.isfinite(np.asarray(gathered(array), np.float32)).sum())
        if bad:
            raise ValueError(
                f"`sample_input` of shape {np.shape(array)} holds {bad} NaN or infinite values; "
                "clean it, or pass jax.ShapeDtypeStruct(shape, dtype)"
            )


def gains_of(
    model: Model, target: Target, select: Selection, distribution: str = "truncated_normal", tied: str = "logits"
) -> Gains:
    """The gains to be decided; constants are kept but for those whose paths `select` spells out.

    Raises:
      ValueError, TypeError: as `selector`.
    """
    named = set() if select is None or callable(select) else set(patterns_of("select", select))
    return Gains(
        target, selector(select, model), model.fixed() - named, unit_law(distribution), distribution == "own", tied
    )


def aim_of(
    target: Any, walks: Walks, head: float | None = None, branches: float | None = None, orthogonal: bool = False
) -> Aim:
    """The second moments that a checked target stands for, and those of branches and heads.

    Raises:
      ValueError: if a pattern matches no parameter, or there are no such branches or heads.
    """
    aim = stable(walks, orthogonal) if isinstance(target, str) else aim_at(target, walks.model)
    return with_head(with_branches(aim, branches, walks), head, walks)


def walked(
    model: Model, values: Sequence[Value], gains: Gains, aim: Aim, zero_sum: bool = False, correlated: bool = True,
    remarks: Sequence[str] = (), gradients: bool = False, sums: bool = False,
) -> tuple[Walk, Report]:  # fmt: skip
    """The walk and its report, with `remarks` behind its findings.

    Args:
      sums: whether weights are drawn so that they sum to nothing over their outputs, which gradients meet.

    Raises:
      ValueError: if the model has no weights, or the target a pattern that matches none.
    """
    walk, outputs = (model.taped if gradients else model.walked)(gains, values, zero_sum, correlated)
    rows = walk.ledger.rows()
    weights = [row.weight for row in rows if row.weight is not None]
    if not any(row.gain is not None for row in rows):
        raise ValueError(_no_weights(model, walk))
    check_patterns("target", aim.given if isinstance(aim.given, Mapping) else (), weights, "weight")
    if gradients:
        rows, _ = backward(model, walk, outputs, sums=designed_sums(walk.ledger) if sums else None)
    noticed = [*findings(rows, walk.ledger, gains.target), *on_untouched(walk), *gains.unsettled]
    return walk, Report(rows, [*noticed, *_on_choice(aim, rows, walk), *aim.said, *remarks], aim.given)


def check_kept(target: Any, **scales: float | None) -> None:
    """Nothing, unless a setting chooses scales where the module's own are kept.

    Raises:
      ValueError: if one does.
    """
    for name, value in {"target": target if isinstance(target, str) else None, **scales}.items():
        if value is not None:
            raise ValueError(f"`{name}` {value!r} chooses scales, but weights='module' keeps the module's; drop one")


def _on_choice(aim: Aim, rows: Sequence[Row], walk: Walk) -> Iterable[Finding]:
    """What was chosen, and whether small deviations grow nevertheless."""
    if aim.chosen is not None:
        yield Finding(aim.chosen, INFO)
    if not aim.advises:
        return
    along, growth = max(chains(rows, walk.ledger), key=lambda chain: chain.growth, default=([], 1.0))
    layers, reason = plain(rows, walk.ledger), ""
    if growth > 2**ALLOWED:
        reason = f"deviations of the second moment still grow {growth:.3g} times over {len(along)} layers"
    elif layers >= DEEP:
        reason = f"{layers} weights follow one another with nothing but activations between them"
    if reason:
        yield Finding(
            f'target="{STABLE}": {reason}; distribution="orthogonal" is advised, which makes fewer deviations than '
            "independent weights, and treats all directions of a gradient alike",
            INFO,
        )


def _no_weights(model: Model, walk: Walk) -> str:
    met = [f"{path} {how}" for path, how in untouched(walk).items()]
    if met:
        return f"the model has no weights that are summed over its input: {'; '.join(met[:20])}"
    trained = [leaf for leaf in model.leaves if leaf.trained]
    names = ", ".join(leaf.path for leaf in trained) or "none"
    counts = [leaf.path for leaf in trained if not jax.numpy.issubdtype(leaf.dtype, np.inexact)]
    if counts:
        return f"the model has no weights with a scale: {', '.join(counts)} hold integers; parameters: {names}"
    return f"the model has no weights: none of its parameters is multiplied with its input; parameters: {names}"


@frames_hidden
@transferring
def analyze(
    module: Any,
    sample_input: Any = None,
    *args: Any,
    target: Aimed = 1.0,
    input_mean: float | None = None,
    input_variance: float | None = None,
    layout: Layout | None = None,
    select: Selection = None,
    head: float | None = None,
    branches: float | None = None,
    method: Any = None,
    rngs: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    weights: Whose = "autoinit",
    gradients: bool = False,
    **kwargs: Any,
) -> Report:
    """Predicts the mean and the variance of every layer's output without drawing a weight, and gradients if asked.

    Args:
      module: a Linen module, an NNX module, a function of a key that makes one, or a pair of functions (init, apply).
      sample_input, *args, **kwargs: what the module is called with: arrays, token ids, pytrees of them, or
        jax.ShapeDtypeStruct; anything else is passed on as a setting. All may be given by name.
      call_kwargs: arguments for the module's call whose names this function uses itself: call_kwargs={"key": key}.
      target: the second moment of every weight's output, or one for each, or "stable", as in `qrjax.autoinit`; a
        finding says what was chosen and why.
      input_mean, input_variance: the moments of inputs that are real numbers, complex ones or images in bytes; if
        there are none, of all integers. By default they are taken from the data, as in `qrjax.autoinit`.
      layout: as in `qrjax.autoinit`; "neurons" draws weights that sum to zero, which changes their gains.
      select: which parameters are scaled: a pattern such as "*/kernel", several, or a function of the path; the
        others are as the module initializes them.
      head, branches, axes: as in `qrjax.autoinit`.
      method, mutable: as in Linen's `init` and `apply`; collections without "params" are not passed to `init`.
      rngs: names of the random streams that the call needs, such as ("dropout",), or as in `qrjax.autoinit`.
      weights: "autoinit" for the gains that `qrjax.autoinit` gives, "module" for the module's own.
      gradients: whether to go backwards too: for a random cotangent of second moment 1 at everything that the model
        returns, the rows then hold the second moments and norms of the derivatives with respect to each output and
        each weight, see `qrjax.Row`.

    Returns:
      A `qrjax.Report`, a sequence of rows in order of execution. A row says so if its derivative is approximate.

    Raises:
      ValueError: if there are no weights, the input is not finite, the module is bound, `target` is not
        positive, or `select` or a pattern of `target` matches nothing.
      TypeError: if an argument has the wrong type.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
      >>> network = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(10)])
      >>> report = qrjax.analyze(network, jax.ShapeDtypeStruct((32, 64), jnp.float32))
      >>> [(row.path, round(row.gain, 4)) for row in report.weights]
      [('layers_0', 0.125), ('layers_2', 0.0884)]

    Reference:
      Bingham and Miikkulainen, AutoInit: analytic signal-preserving weight initialization for neural networks,
      AAAI 2023, arXiv 2109.08958.
    """
    choice("weights", weights, WHOSE)
    choice("layout", layout, (None, *LAYOUTS))
    check_gradients(gradients, None)
    target, head, branches = check_target(target), check_head(head), check_branches(branches)
    module = opened(module)
    arguments = arguments_of(
        module, sample_input, args, kwargs, call_kwargs, method, rngs=rngs, target=target, layout=layout, select=select,
        axes=axes, input_mean=input_mean, input_variance=input_variance, weights=weights, gradients=gradients,
        head=head, branches=branches,
    )  # fmt: skip
    model = model_of(module, *arguments, method=method, rngs=rngs, mutable=mutable, axes=axes)
    values = input_values(model, input_mean, input_variance)
    zero_sum = layout == "neurons"
    gains_at = functools.partial(gains_of, model, select=select)
    if weights == "module":
        check_kept(target, head=head, branches=branches)
        gains_at = functools.partial(Gains, selected=None)
    aim = aim_of(target, Walks(model, values, gains_at, zero_sum), head, branches)
    remarks = assumptions(model, input_mean is not None or input_variance is not None)
    sums = weights != "module" and layout in (None, "outputs")
    gains = gains_at(aim.target)
    return walked(model, values, gains, aim, zero_sum, remarks=remarks, gradients=gradients, sums=sums)[1]
