"""`coordinate_check`: whether a step changes each output by as much at every width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._adapters._variables import values_of
from qrjax._autoinit._analyze import model_of
from qrjax._autoinit._calls import arguments_of, closed, opened
from qrjax._autoinit._initialize import prepare
from qrjax._autoinit._measure import rows_of
from qrjax._autoinit._streams import key_of, streams_of
from qrjax._coordinates._optimizers import optimizer_of
from qrjax._coordinates._parameters import Parameters
from qrjax._coordinates._result import CoordinateCheck, coordinate
from qrjax._coordinates._settings import Loss, Settings, checked, checked_make, checked_widths
from qrjax._coordinates._training import Name, Run, Trainer, behind
from qrjax._interpreter._finding import ERROR, INFO, Finding
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._names import listed

# What a model is called with, positional and by name, and what `model_of` takes beside that.
Call = tuple[tuple[tuple[Any, ...], dict[str, Any]], dict[str, Any]]


@frames_hidden
def coordinate_check(
    make_model: Callable[[int], Any],
    widths: Sequence[int],
    sample: Any,
    loss: Loss,
    *,
    steps: int = 4,
    optimizer: str | Callable[[Any], Any] = "adam",
    multipliers: bool = True,
    rate: float | None = None,
    weights: str | Callable[[Any, int], Any] = "autoinit",
    head: float | None = 0.0,
    outputs: float | None = None,
    branches: float | None = None,
    seeds: int = 3,
    tolerance: float = 0.1,
    rngs: Any = None,
    method: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
) -> CoordinateCheck:
    """Checks whether training changes each output equally at every width, so that a learning rate carries over.

    At each width the model is trained for a few steps on one batch, and the root mean square of the change of each
    row's output, on the same batch, is compared with the width. Where a rate transfers, the slope of the one's
    logarithm against the other's is 0 for all rows; with one rate for all weights it is about 1 for Adam.

    Args:
      make_model: a function from a width to a Linen module, an NNX module or a pair of functions (init, apply).
        Anything else that grows may take the place of the width, such as a depth: rows that all models share are
        compared.
      widths: two or more, increasing; slopes are meaningful over a factor of 8 or more.
      sample: what a model is called with: an array, a tuple of positional arguments, or a function from the width to
        either. A small batch will do.
      loss: a function from what the model returns to one real number; any labels are captured in its closure.
      steps: how many steps to train.
      optimizer: "adam", "sgd" (with momentum 0.9), "muon" (for matrices, Adam for the rest) or "sign"; or a function
        from the module to an optax transformation, which includes the rate.
      multipliers: whether to multiply each weight's rate as `qrjax.learning_rates` says, or to use one rate for all.
      rate: the learning rate, by default 2^-6 with multipliers, where it is a relative change, and 0.001 without.
      weights: "autoinit", "module" for the module's own, or a function (module, seed) -> variables.
      head: as in `qrjax.autoinit`, for weights="autoinit": the second moment of what the model returns at first. 0 by
        default, as a last layer of random weights amplifies an earlier change by the root of the width.
      outputs: as in `qrjax.learning_rates`, if its multipliers are used.
      branches: as in `qrjax.autoinit` and `qrjax.learning_rates`, for a check over depth.
      seeds: how many draws of the weights to average over.
      tolerance: the largest slope at which a row is called stable.
      rngs, method, mutable, axes, call_kwargs: as in `qrjax.measure`. A random stream is the same at every step.

    Returns:
      A `qrjax.CoordinateCheck`, which prints itself as a table; `assert_stable()` is for tests, and
      `qrjax.plot.coordinates` draws it. What a call writes to variables that are not trained, such as the means of a
      batch norm, is discarded.

    Raises:
      ValueError: if there are fewer than two widths, a setting is out of range, or the models have no row in common.
      TypeError: if an argument has the wrong type, or `loss` does not return one real number.

    Example:
      >>> import flax.linen as nn, jax, qrjax
      >>> def make(width):
      ...     return nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(width), nn.relu, nn.Dense(4)])
      >>> x, y = jax.random.normal(jax.random.key(0), (16, 8)), jax.random.normal(jax.random.key(1), (16, 4))
      >>> found = qrjax.coordinate_check(make, [32, 512], x, lambda z: ((z - y) ** 2).mean(), seeds=2)
      >>> [row.verdict for row in found]
      ['stable', 'stable', 'stable', 'stable']
      >>> plain = qrjax.coordinate_check(make, [32, 512], x, lambda z: ((z - y) ** 2).mean(), multipliers=False)
      >>> plain["layers_2"].verdict
      'grows'

    Reference:
      Yang et al., Tensor programs V, NeurIPS 2021, arXiv 2203.03466, appendix D.1 (coordinate checking).
    """
    sizes = checked_widths(widths)
    checked_make(make_model)
    settings = checked(steps, optimizer, multipliers, rate, weights, head, outputs, branches, seeds, tolerance, loss)
    options = {"rngs": streams_of(rngs), "method": method, "mutable": mutable, "axes": axes}
    runs = []
    for width in sizes:
        module = opened(make_model(width))
        given = sample(width) if callable(sample) else sample
        inputs = given if isinstance(given, tuple) else (given,)
        call = arguments_of(module, inputs[0], inputs[1:], {}, call_kwargs, method, loss=loss, axes=axes), options
        runs.append(_trained(width, module, call, settings))
    return _result(runs, settings)


def _trained(width: int, module: Any, call: Call, settings: Settings) -> Run:
    """What training makes of one width."""
    arguments, options = call
    starts = _starts(module, call, settings)
    model = model_of(module, *arguments, variables=starts[0], **options)
    ledger, rows = rows_of(model, values_of(starts[0]))
    parameters = Parameters(model)
    flats = [values_of(start) for start in starts]
    optimizer = optimizer_of(module, call, settings)
    trainer = Trainer(model, parameters, ledger, behind(rows, ledger), settings.loss, optimizer)
    return trainer.run(width, flats, settings.steps)


def _starts(module: Any, call: Call, settings: Settings) -> list[Any]:
    """The variables before training, of each seed."""
    arguments, options = call
    if callable(settings.weights):
        return [settings.weights(closed(module), seed) for seed in range(settings.seeds)]
    keys = [key_of(seed, None, options["rngs"]) for seed in range(settings.seeds)]
    if settings.weights == "module":
        model = model_of(module, *arguments, **options)
        if model.initialization is None:
            return [module]  # of NNX, whose weights are drawn already
        return [model.rebuild(model.materialize(key, [True] * len(model.leaves))) for key in keys]
    prepared = prepare(module, arguments, head=settings.head, branches=settings.branches, **options)
    return [prepared.model.rebuild(prepared.drawn(key)) for key in keys]


# -- all widths --------------------------------------------------------------------------------------------------------


def _result(runs: Sequence[Run], settings: Settings) -> CoordinateCheck:
    common = [name for name in runs[0].changes if all(name in run.changes for run in runs)]
    if not common:
        raise ValueError(
            f"`make_model` makes models with no output in common: {listed(_paths(runs[0]))} at {runs[0].width} and "
            f"{listed(_paths(runs[-1]))} at {runs[-1].width}; give their parts the same names at every width"
        )
    widths = [run.width for run in runs]
    rows = [
        coordinate(
            name[0], runs[0].operations[name], widths, np.array([run.first[name] for run in runs]),
            np.array([run.changes[name] for run in runs]), settings.tolerance,
        )
        for name in common
    ]  # fmt: skip
    losses = np.array([run.losses for run in runs])
    return CoordinateCheck(rows, widths, losses, [*_findings(runs, common, settings)], settings.told())


def _paths(run: Run) -> list[str]:
    return [path or "(whole)" for path, _, _ in run.changes]


def _findings(runs: Sequence[Run], common: Sequence[Name], settings: Settings) -> Iterable[Finding]:
    for run in runs:
        others = [path or "(whole)" for path, op, count in run.changes if (path, op, count) not in common]
        if others:
            yield Finding(
                f"at {run.width} there are outputs that other widths lack, which are not compared: {listed(others)}"
            )
        if not np.isfinite(run.losses).all():
            yield Finding(f"at {run.width} the loss is not finite after some steps; lower `rate`", ERROR)
        elif (run.losses[:, -1] > run.losses[:, 0]).any():
            yield Finding(f"at {run.width} the loss rises, so `rate` is beyond what the model bears; lower it")
    if len(runs[0].losses) < settings.seeds:
        yield Finding("an NNX module has the weights that `make_model` gave it, so of them there is one draw", INFO)
