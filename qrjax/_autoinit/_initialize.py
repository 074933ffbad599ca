"""`autoinit`: the walk's gains, and weights drawn with them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import jax
from jax import Array
from jax.sharding import AxisType, Mesh

from qrjax._autoinit._analyze import aim_of, gains_of, input_values, model_of, walked
from qrjax._autoinit._assumptions import assumptions
from qrjax._autoinit._branches import check_branches
from qrjax._autoinit._calls import arguments_of, opened
from qrjax._autoinit._heads import check_head
from qrjax._autoinit._names import DRAWN, SOURCES, TIED, Drawn, Source, Tied
from qrjax._autoinit._own import Rescaling, rescalings
from qrjax._autoinit._plan import Draw, Plan, path_keys, plans
from qrjax._autoinit._streams import key_of, streams_of
from qrjax._autoinit._targets import Aimed, check_target
from qrjax._autoinit._walks import Walks
from qrjax._interpreter._gains import Target
from qrjax._interpreter._model import Model
from qrjax._interpreter._report import Report
from qrjax._interpreter._untouched import UntouchedWarning, sentences, unsized
from qrjax._layouts._sources import LAYOUTS, Layout
from qrjax._terminal._frames import frames_hidden, warn_caller
from qrjax._terminal._names import choice
from qrjax._terminal._patterns import Selection
from qrjax._words._keys import keys_like
from qrjax._words._transfers import transferring


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A model whose walk is done and whose weights are still to be drawn."""

    model: Model
    plans: Mapping[str, Plan]
    report: Report
    target: Target
    chosen: Callable[[str], bool]
    rescaled: Mapping[str, Rescaling] = dataclasses.field(default_factory=dict)

    def drawn(self, key: Array) -> list[Any]:
        """All variables, in the order of the model's leaves."""
        return drawn(self.model, self.plans, key, self.rescaled)


def drawn(
    model: Model, plans: Mapping[str, Plan], key: Array, rescaled: Mapping[str, Rescaling] | None = None
) -> list[Any]:
    """All variables: weights by their plans, the rest by the module's own initialization, some of it rescaled."""
    needed = [leaf.path not in plans for leaf in model.leaves]
    own = iter(model.materialize(key, needed) if any(needed) else ())
    weights = _weights(plans, key)
    flat = [next(own) if need else weights[leaf.path] for leaf, need in zip(model.leaves, needed, strict=True)]
    again = rescaled or {}
    return [again[leaf.path].array(v) if leaf.path in again else v for leaf, v in zip(model.leaves, flat, strict=True)]


def _weights(plans: Mapping[str, Plan], key: Array) -> dict[str, Array]:
    meshes = list(dict.fromkeys(plan.place.mesh for plan in plans.values() if plan.place is not None))
    if not meshes:
        return _drawn_together(plans, key)
    found: dict[str, Array] = {}
    for mesh in meshes:
        # What lies nowhere in particular is drawn with the first.
        own = {k: plan for k, plan in plans.items() if (plan.place.mesh if plan.place else meshes[0]) == mesh}
        draw, context = functools.partial(_drawn_together, own), _context_of(mesh)
        if context is None:
            found |= draw(key)
            continue
        with context:
            # One program for all, as among several devices draws of equal shape share nothing.
            found |= jax.jit(draw)(key)
    return found


def _drawn_together(plans: Mapping[str, Plan], key: Array) -> dict[str, Array]:
    keys = path_keys(key, list(plans))
    return {path: plan.array(keys, number) for number, (path, plan) in enumerate(plans.items())}


def _context_of(mesh: Any) -> contextlib.AbstractContextManager[Any] | None:
    """What to enter for a program over a mesh; None where it is explicit and cannot be entered, as within a vmap."""
    outside = isinstance(mesh, Mesh) and jax.sharding.get_abstract_mesh().empty
    if not outside or AxisType.Explicit not in mesh.axis_types:
        return contextlib.nullcontext()
    try:
        return jax.set_mesh(mesh)
    except ValueError:  # of jax, within its transformations
        return None


def prepare(
    module: Any, arguments: tuple[tuple[Any, ...], dict[str, Any]], *, target: Aimed = 1.0,
    input_mean: float | None = None, input_variance: float | None = None, distribution: str = "truncated_normal",
    source: str = "sobol", layout: str = "outputs", select: Selection = None, tied: str = "logits",
    head: float | None = None, branches: float | None = None, **options: Any,
) -> Prepared:  # fmt: skip
    """Checks the settings, traces the model and walks it; settings and errors as for `autoinit`."""
    target, head, branches = check_target(target), check_head(head), check_branches(branches)
    draw = Draw(
        choice("distribution", distribution, DRAWN),
        choice("source", source, SOURCES),
        choice("layout", layout, LAYOUTS),
    )
    choice("tied", tied, TIED)
    model = model_of(module, *arguments, **options)
    gains_at = functools.partial(gains_of, model, select=select, distribution=distribution, tied=tied)
    values = input_values(model, input_mean, input_variance)
    zero_sum = layout == "neurons" and source == "sobol" and distribution not in ("orthogonal", "own")
    aim = aim_of(target, Walks(model, values, gains_at, zero_sum), head, branches, distribution == "orthogonal")
    gains = gains_at(aim.target)
    chosen = gains.selected
    assert chosen is not None
    remarks = assumptions(model, input_mean is not None or input_variance is not None)
    walk, report = walked(model, values, gains, aim, zero_sum, remarks=remarks)
    _warn(unsized(walk))
    found = plans(model, walk, chosen, draw)
    if distribution == "own":
        return Prepared(model, {}, report, aim.target, chosen, rescalings(model, found))
    return Prepared(model, found, report, aim.target, chosen)


def _warn(found: Mapping[str, str]) -> None:
    """Of weights that could not be sized."""
    if found:
        text = "; ".join(sentences(found))
        warn_caller(f"{text}; see the report's findings", UntouchedWarning)


@overload
def autoinit(
    module: Any, sample_input: Any = None, *args: Any, report: Literal[True], **options: Any
) -> tuple[Any, Report]: ...
@overload
def autoinit(
    module: Any, sample_input: Any = None, *args: Any, seed: int | Array | None = None, key: Array | None = None,
    target: Aimed = 1.0, input_mean: float | None = None, input_variance: float | None = None,
    distribution: Drawn = "truncated_normal", source: Source = "sobol", layout: Layout = "outputs",
    select: Selection = None, tied: Tied = "logits", head: float | None = None, branches: float | None = None,
    method: Any = None, rngs: Any = None, mutable: Any = None, axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None, calibrate: bool = False, report: bool = False, **kwargs: Any,
) -> Any: ...  # fmt: skip
@frames_hidden
@transferring
def autoinit(
    module: Any,
    sample_input: Any = None,
    *args: Any,
    seed: int | Array | None = None,
    key: Array | None = None,
    target: Aimed = 1.0,
    input_mean: float | None = None,
    input_variance: float | None = None,
    distribution: Drawn = "truncated_normal",
    source: Source = "sobol",
    layout: Layout = "outputs",
    select: Selection = None,
    tied: Tied = "logits",
    head: float | None = None,
    branches: float | None = None,
    method: Any = None,
    rngs: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    calibrate: bool = False,
    report: bool = False,
    **kwargs: Any,
) -> Any:
    """Draws a model's variables so that every weight's output has the second moment `target`.

    The model is traced and walked once, with means, variances and correlations in place of arrays, and each weight
    that meets a signal gets the scale that its output needs. Everything else (biases, scales of norms and layers,
    positional tables, statistics) comes from the module's own initializers.

    Policies: A weight used several times reaches the target on average over its uses. A recurrent weight, whose input
    combines its own earlier output with something else, gives its output no more than its input has, so that it neither
    amplifies nor damps the state, unless a function or a pattern other than "*" in `target` decides otherwise. Layers
    stacked in one array get one gain each. A table of embeddings that also makes logits is scaled for the logits, and a
    finding says what its look-ups get; tables whose look-ups are added to these, such as positions, keep their size
    relative to them. A weight may pass through any function of itself, other parameters and constants before it meets
    a signal (masks, standardization, low-rank sums): the result is what is scaled. Where the weight's scale has no
    effect, because it is normalized, a gain after it is set instead, or else it is left alone. A parameter whose own
    initializer is a constant keeps it (zeros at the end of a residual branch) unless `select` spells out its path. The
    report's findings list what was left alone although it meets a signal.

    Args:
      module: a Linen module, an NNX module, or a pair of functions init(key, x), apply(params, x). An NNX module has
        already drawn its own weights; a function that makes it from a key, lambda key: Network(rngs=nnx.Rngs(key)),
        may be given instead. It is only traced, and makes from `key` whatever is not drawn here. If the module is made
        within the same jax.jit its values are not known: parameters called scale, gamma or var are taken as 1, others
        that are not drawn as 0; with a function they are known.
      sample_input, *args, **kwargs: what the module is called with: arrays, token ids, pytrees of them, or
        jax.ShapeDtypeStruct; anything else is passed on as a setting. All may be given by name:
        autoinit(module, inputs=tokens, train=False).
      call_kwargs: arguments for the module's call whose names this function uses itself: call_kwargs={"key": key}.
      seed: an integer that all weights depend on, 0 by default; may be traced.
      key: a JAX key instead of `seed`.
      target: the second moment of every weight's output, positive; or a mapping from patterns of parameter paths to
        second moments, of which the first match counts (1 where none matches); or a function of the path. Or "stable":
        1 for the weights that make the model's outputs, and for the hidden ones the largest power of two, from 1 to
        2^-12, at which depth does little more than at the smallest to three things: the predicted gradient's squared
        norm per example, which may change by half an octave (1.4-fold; or by a tenth of what it does at the smallest,
        if that is more), an error of the second moment, by half an octave, and 1 minus the correlation of two examples,
        by a half. The report says what was chosen and why, and advises distribution="orthogonal" from twenty plain
        layers on. Choose it, and follow that advice, for plain networks of about twenty layers or more without norms or
        residuals. With norms, few layers or ReLU it mostly chooses 1 itself, at the cost of two to seven more walks. It
        does not help if an activation is not 0 at 0, such as softplus: subtract its value there.
      input_mean, input_variance: the moments of inputs that are real numbers, complex ones (the mean of the real part,
        the variance of both parts together) or images in bytes; if there are none, of all integers. By default they
        are taken from the data, and are 0 and 1 if only shapes are given; jnp.zeros and jnp.ones, the same number
        everywhere, count as shapes. What is guessed about shapes and integers is a finding of the report.
      distribution: "truncated_normal", "normal", "uniform" or "orthogonal"; or "own" for what the module's own
        initializers draw (sparse, banded, orthogonal, anything), each weight multiplied by one number.
      source: "sobol", or "hash" for weights that can be recomputed by address.
      layout: the layout of the Sobol' points; see `qrjax.variance_scaling_qr`.
      select: which parameters to scale: a pattern such as "*/kernel", several, or a function of the path.
      tied: how to scale a table that is looked up and also makes logits: for the "logits" or for the "lookup".
      head: the second moment of the outputs of the last weights, those from which the signal reaches the model's output
        without meeting another weight: 0 for weights of zero, .01 for outputs a tenth in size, None for `target`. At 0
        or little, a network starts undecided, so that its random first output does not drown what it learns first; see
        `qrjax.learning_rates`. A last weight with other uses, such as a tied table, is left, and a finding says so.
      branches: the second moment that all branches of a residual stream add in total: with n branches x + f(x), the
        last weights of f are drawn for `branches` / n, equivalent to a factor of 1 / sqrt(n) in the program, so the
        stream is equally strong at any depth. None: each adds `target`. Parallel branches, x + f(x) + g(x), count
        separately. A shortcut with weights of its own starts a new stream; the parts of a gate are not branches. A
        branch that ends in a norm, or whose last weights start at a constant, keeps its size, and a finding says so.
        Pass the same value to `qrjax.learning_rates`.
      method, mutable: as in Linen's `init` and `apply`; collections without "params" are not passed to `init`.
      rngs: the random streams that the call needs: names, ("dropout",); or keys, {"params": key, "dropout": key},
        where "params" is the key of the weights, instead of `seed`; or an nnx.Rngs, whose next key is taken for each
        stream.
      axes: sizes of named axes that the module sums or gathers over, {"batch": 8}; 1 by default. Their shards are
        taken as independent.
      calibrate: whether to correct the weights on the sample input afterwards, as `qrjax.calibrate` does.
      report: whether to return (variables, report).

    Warns:
      qrjax.UntouchedWarning: if a weight that is multiplied with a signal could not be scaled.

    Returns:
      For Linen exactly the collections of `module.init`; for NNX a new module; for a pair the params.

    Raises:
      ValueError: if there are no weights, the input is not finite, the module is bound, a setting is out
        of range, `select` or a pattern of `target` matches nothing, or two arguments say how weights are drawn. A
        shape that the module rejects raises the module's own error.
      TypeError: if an argument has the wrong type.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
      >>> network = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(10)])
      >>> variables = qrjax.autoinit(network, jax.ShapeDtypeStruct((32, 64), jnp.float32), seed=1)
      >>> jax.tree.map(jnp.shape, variables["params"]["layers_2"])
      {'bias': (10,), 'kernel': (256, 10)}
      >>> many = jax.vmap(lambda s: qrjax.autoinit(network, jnp.ones((1, 64)), seed=s))(jnp.arange(3))
      >>> many["params"]["layers_0"]["kernel"].shape
      (3, 64, 256)

    Reference:
      Bingham and Miikkulainen, AutoInit: analytic signal-preserving weight initialization for neural networks,
      AAAI 2023, arXiv 2109.08958.
    """
    module = opened(module)
    arguments = arguments_of(
        module, sample_input, args, kwargs, call_kwargs, method, seed=seed, key=key, rngs=rngs, target=target,
        distribution=distribution, source=source, layout=layout, select=select, tied=tied, axes=axes,
        input_mean=input_mean, input_variance=input_variance, head=head, branches=branches,
    )  # fmt: skip
    streams = streams_of(rngs)
    key = key_of(seed, key, streams)
    with keys_like(key):
        prepared = prepare(
            module, arguments, target=target, input_mean=input_mean, input_variance=input_variance,
            distribution=distribution, source=source, layout=layout, select=select, tied=tied, head=head,
            branches=branches, method=method, rngs=streams, mutable=mutable, axes=axes,
        )  # fmt: skip
        flat = prepared.drawn(key)
        if calibrate:
            from qrjax._autoinit._measure import calibrated

            flat = calibrated(prepared.model, flat, prepared.target, prepared.chosen, jax.random.key(0))
    variables = prepared.model.rebuild(flat)
    return (variables, prepared.report) if report else variables
