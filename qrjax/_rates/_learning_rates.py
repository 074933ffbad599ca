"""`learning_rates`: how fast each parameter is to learn, so that one rate is right for all and at every width."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, overload

from qrjax._adapters._variables import trained_of
from qrjax._autoinit._analyze import check_kept, gains_of, input_values, model_of
from qrjax._autoinit._assumptions import assumptions
from qrjax._autoinit._branches import check_branches
from qrjax._autoinit._calls import arguments_of, opened
from qrjax._autoinit._heads import check_head
from qrjax._autoinit._names import TIED, WHOSE, Tied, Whose
from qrjax._autoinit._targets import Aimed, check_target
from qrjax._autoinit._walks import Walks
from qrjax._initializers._arguments import positive
from qrjax._interpreter._gains import Gains
from qrjax._interpreter._report import Report
from qrjax._layouts._sources import LAYOUTS, Layout
from qrjax._rates._names import Optimizer
from qrjax._rates._optimizers import check_optimizer, optimizers_of
from qrjax._rates._rows import rated
from qrjax._rates._walked import settled_uses
from qrjax._terminal._frames import frames_hidden
from qrjax._terminal._names import choice
from qrjax._terminal._patterns import Selection


@overload
def learning_rates(
    module: Any, sample_input: Any = None, *args: Any, report: Literal[True], **options: Any
) -> tuple[Any, Report]: ...
@overload
def learning_rates(
    module: Any, sample_input: Any = None, *args: Any, optimizer: Optimizer | Mapping[str, Optimizer] = "adam",
    head: float | None = None, outputs: float | None = None, branches: float | None = None, target: Aimed = 1.0,
    input_mean: float | None = None, input_variance: float | None = None, layout: Layout | None = None,
    select: Selection = None, tied: Tied = "logits", weights: Whose = "autoinit", method: Any = None, rngs: Any = None,
    mutable: Any = None, axes: Mapping[Any, int] | None = None, call_kwargs: Mapping[str, Any] | None = None,
    report: bool = False, **kwargs: Any,
) -> Any: ...  # fmt: skip
@frames_hidden
def learning_rates(
    module: Any,
    sample_input: Any = None,
    *args: Any,
    optimizer: Optimizer | Mapping[str, Optimizer] = "adam",
    head: float | None = None,
    outputs: float | None = None,
    branches: float | None = None,
    target: Aimed = 1.0,
    input_mean: float | None = None,
    input_variance: float | None = None,
    layout: Layout | None = None,
    select: Selection = None,
    tied: Tied = "logits",
    weights: Whose = "autoinit",
    method: Any = None,
    rngs: Any = None,
    mutable: Any = None,
    axes: Mapping[Any, int] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    report: bool = False,
    **kwargs: Any,
) -> Any:
    """Multipliers for the learning rate, one per parameter, with which a single rate suits all of them at any width.

    The model is walked as by `qrjax.autoinit`, which shows how much one step of the optimizer changes the output of
    each parameter. A step of Adam moves each element of a weight by the rate r, whatever the gradient, mostly in the
    direction of the input that caused it, so an output y, the sum of `fan` products with an input x, moves by up to
    r fan root(E x^2). The multiplier root(E y^2) / (fan root(E x^2)) makes that r root(E y^2): the learning rate r is
    then the largest relative change of any weight's output in one step, which does not depend on the width. So the
    best rate of a narrow model is also that of a wide one, and no base model is needed for comparison.

    Pass the multipliers to `qrjax.scale_by_width`. Rates then have a different magnitude: tune from 2^-6 to 2.

    Rules: weights as above, convolutions by the taps inside the image. The change of a model's outputs is measured
    relative to what they will come to, `outputs`, whatever `head` they start with; by default that is their target, 1,
    as it is for weights that start at zero. A table that is looked up gets root(E y^2), as one row makes an output.
    Scales of norms move all outputs alike and get a quarter of their relative change; so do biases, and positions and
    tokens that are the same for all examples, which get a sixteenth. Layers stacked in one array get one number each,
    as an array that broadcasts. A parameter with several uses (tied tables, shared layers) gets the smallest of their
    multipliers; all steps of a recurrence are one use. A parameter inside a function of parameters (masks, normalized
    weights) is measured by its own size. What meets no signal has 1. The report's findings say what was guessed.

    Args:
      module, sample_input, *args, **kwargs, call_kwargs: as in `qrjax.autoinit`.
      optimizer: "adam" for every optimizer that divides each element by its own size (Adam, AdamW, Adafactor,
        RMSProp); "sign" for signs (Lion, signSGD), with the same multipliers; "sgd" for the gradient itself, with or
        without momentum, whose size is predicted backwards from the model's outputs; "muon" for matrices that are
        orthogonalized and scaled as by `optax.contrib.muon`, which takes parameters of two axes and leaves the others
        to Adam. Or a mapping from patterns of paths to these, of which the first match counts:
        {"*/embedding": "adam", "*": "muon"}.
      outputs: the second moment that training will bring the model's outputs to, above 0: 1 for the standardized
        targets of a regression, about 16 for the logits of classes, whose root mean square in trained networks of any
        width is mostly 3 to 12. By default their `target`, without `head`: 1.
      branches: as in `qrjax.autoinit`, for rates that suit any depth too: the changes that n branches make to a
        residual stream add up, so all parameters within them learn slower by root(n). With weights="module" the module
        must apply the factor 1 / sqrt(n) itself.
      head, target, input_mean, input_variance, layout, select, tied, method, rngs, mutable, axes: as in
        `qrjax.autoinit`; give those with which the weights are drawn.
      weights: "autoinit" for weights that `qrjax.autoinit` draws, "module" for the module's own.
      report: whether to return (multipliers, report): a `qrjax.Report` with a row for each use of a parameter, whose
        `rate` is the multiplier and whose `rule` is the parameter's role in the signal.

    Returns:
      A tree of the structure of the parameters: for Linen of variables["params"], for NNX of
      nnx.state(model, nnx.Param), for a pair of what its init returns. Its leaves are positive floats, and float32
      arrays with the parameter's number of axes where layers are stacked.

    Raises:
      ValueError, TypeError: as `qrjax.autoinit`; if `optimizer` is none of these, or a pattern of it matches nothing;
        if `outputs` is not positive, or given for a model whose outputs no weight makes.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, qrjax
      >>> network = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(10)])
      >>> x = jax.ShapeDtypeStruct((32, 64), jnp.float32)
      >>> rates = qrjax.learning_rates(network, x, outputs=16.0, head=0.0)
      >>> {name: round(1 / rate["kernel"]) for name, rate in rates.items()}
      {'layers_0': 64, 'layers_2': 45}
      >>> params = qrjax.autoinit(network, x, head=0.0)["params"]
      >>> optimizer = optax.chain(optax.scale_by_adam(), qrjax.scale_by_width(rates), optax.scale_by_learning_rate(0.1))
      >>> state = optimizer.init(params)

    Reference:
      Yang and Hu et al. 2022, Tensor Programs V, arXiv 2203.03466, table 8; in the form of Yang, Simon and Bernstein
      2023, A spectral condition for feature learning, arXiv 2310.17813, condition 1. Of depth: Yang, Yu, Zhu and Hayou
      2023, Tensor Programs VI, arXiv 2310.02244, table 1.
    """
    choice("weights", weights, WHOSE)
    choice("layout", layout, (None, *LAYOUTS))
    choice("tied", tied, TIED)
    optimizer = check_optimizer(optimizer)
    target, head, branches = check_target(target), check_head(head), check_branches(branches)
    outputs = None if outputs is None else positive("outputs", outputs)
    module = opened(module)
    arguments = arguments_of(
        module, sample_input, args, kwargs, call_kwargs, method, optimizer=optimizer, head=head, outputs=outputs,
        branches=branches, target=target, input_mean=input_mean, input_variance=input_variance, layout=layout,
        select=select, tied=tied, weights=weights, rngs=rngs, axes=axes,
    )  # fmt: skip
    model = model_of(module, *arguments, method=method, rngs=rngs, mutable=mutable, axes=axes)
    values = input_values(model, input_mean, input_variance)
    gains_at = functools.partial(gains_of, model, select=select, tied=tied)
    if weights == "module":
        check_kept(target, head=head)
        gains_at = functools.partial(Gains, selected=None)
    trained = [leaf for leaf in model.leaves if leaf.trained]
    optimizer_of = optimizers_of(optimizer, [leaf.path for leaf in trained])
    walks = Walks(model, values, gains_at, layout == "neurons")
    back = "sgd" in map(optimizer_of, [leaf.path for leaf in trained])
    uses, aim = settled_uses(walks, target, head, outputs, branches, weights == "module", back)
    found = rated(trained, uses, optimizer_of)
    flat = [found.values[leaf.path] if leaf.trained else 0.0 for leaf in model.leaves]
    tree = trained_of(model.rebuild(flat))
    if not report:
        return tree
    remarks = assumptions(model, input_mean is not None or input_variance is not None)
    return tree, Report(found.rows, [*found.findings(), *aim.said, *remarks], aim.given)
