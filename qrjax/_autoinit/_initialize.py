"""`autoinit`: the walk's gains, and weights drawn with them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._autoinit._analyze import Selection, check_target, input_values, model_of, selector, walked
from qrjax._initializers._arguments import choice
from qrjax._initializers._builders import orthogonal_hash, orthogonal_qr
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._scaling import Fixed
from qrjax._interpreter._gains import Key
from qrjax._interpreter._model import Leaf, Model
from qrjax._interpreter._walk import Walk
from qrjax._layouts._coordinates import Shape
from qrjax._layouts._sources import Hash, Roles, Sobol
from qrjax._signals._signal import Weight
from qrjax._values._distributions import Distribution, Normal, TruncatedNormal, Uniform

DISTRIBUTIONS: dict[str, Distribution] = {
    "truncated_normal": TruncatedNormal(),
    "normal": Normal(),
    "uniform": Uniform(),
}
SOURCES = ("sobol", "hash")


@dataclasses.dataclass(frozen=True)
class Unit(Fixed):
    """Mean 0 and variance 1, where the axes that a neuron sums over are known."""

    inputs: tuple[int, ...]

    def roles(self, shape: Shape) -> Roles:
        """The neurons' own axes, found where the weight meets its input."""
        return Roles(self.inputs, tuple(a for a in range(len(shape)) if a not in self.inputs))


@dataclasses.dataclass(frozen=True)
class Draw:
    """How weights are drawn, but for their gains."""

    distribution: str
    source: str
    layout: str

    def unit(self, key: Array, shape: Shape, inputs: tuple[int, ...]) -> Array:
        """Weights of unit variance, float32."""
        if self.distribution == "orthogonal":
            return self._orthogonal(key, shape, inputs)
        law = DISTRIBUTIONS[self.distribution]
        source = Hash() if self.source == "hash" else Sobol(self.layout, None, "owen")  # type: ignore[arg-type]
        scale = 1 / law.stddev
        initializer = Initializer(law, Unit(0.0, scale, inputs), source, None, "autoinit")
        return initializer(key, shape, jnp.float32)

    def _orthogonal(self, key: Array, shape: Shape, inputs: tuple[int, ...]) -> Array:
        outputs = tuple(a for a in range(len(shape)) if a not in inputs)
        rows, columns = (math.prod(shape[a] for a in axes) for axes in (inputs, outputs))
        # Entries of an orthonormal matrix have the variance 1 / (the longer side).
        build = orthogonal_hash() if self.source == "hash" else orthogonal_qr(layout=self.layout)  # type: ignore[arg-type]
        matrix = build(key, (rows, columns), jnp.float32) * np.float32(math.sqrt(max(rows, columns)))
        ordered = matrix.reshape([shape[a] for a in (*inputs, *outputs)])
        return jnp.transpose(ordered, [int(a) for a in np.argsort((*inputs, *outputs))])


def autoinit(
    module: Any,
    sample_input: Any,
    *args: Any,
    seed: int | Array = 0,
    key: Array | None = None,
    target: float = 1.0,
    input_mean: float | None = None,
    input_variance: float | None = None,
    distribution: str = "truncated_normal",
    source: str = "sobol",
    layout: str = "outputs",
    select: Selection = None,
    method: Any = None,
    rngs: Mapping[str, Any] | Sequence[str] | None = None,
    mutable: Any = None,
    calibrate: bool = False,
    report: bool = False,
    **kwargs: Any,
) -> Any:
    """Variables with which every weight's output has the target's second moment.

    The model is traced and walked once with means, variances and correlations in the place of arrays; each weight
    that meets a signal gets the scale that its output needs. Everything else (biases, norms' and layers' scales,
    positional tables, statistics) comes from the module's own initializers.

    Policies: a table of embeddings that is looked up gets the target, and keeps it where it is used for logits
    too; a weight used several times, or at every step of a recurrence, gives the target to the mean over all its
    uses; layers stacked by a scan get one gain each.

    Args:
      module: a Linen module, an NNX module, or a pair of functions init(key, x), apply(params, x).
      sample_input, *args, **kwargs: what the module is called with: arrays, token ids, pytrees of them, or
        jax.ShapeDtypeStruct; anything else is handed through as a setting.
      seed: a number that all weights depend on; may be traced.
      key: a JAX key in the place of `seed`.
      target: the second moment; positive.
      input_mean, input_variance: of the inputs that are real numbers; by default their own where they hold
        numbers, else 0 and 1.
      distribution: "truncated_normal", "normal", "uniform" or "orthogonal".
      source: "sobol", or "hash" for weights that can be recomputed by address.
      layout: of the Sobol' points; see `qrjax.variance_scaling_qr`.
      select: which parameters to touch: a pattern such as "*/kernel", several, or a function of the path.
      method, mutable: as in Linen's `init`.
      rngs: the random streams that the call needs besides "params": names, or a dict whose names count.
      calibrate: whether to sweep over the sample input afterwards, as `qrjax.calibrate` does.
      report: whether to return (variables, report).

    Returns:
      For Linen exactly the collections of `module.init`; for NNX a new module; for a pair the params.

    Raises:
      ValueError: if there are no weights, the input is zero or not finite, the module is bound, a setting is out
        of range, or `select` matches nothing. A shape that the module rejects raises the module's own error.
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
    target = check_target(target)
    draw = Draw(
        choice("distribution", distribution, (*DISTRIBUTIONS, "orthogonal")),
        choice("source", source, SOURCES),
        choice("layout", layout, ("outputs", "neurons", "shuffled", "points", "sequence")),
    )
    if key is None:
        key = jax.random.key(seed)
    model = model_of(module, (sample_input, *args), kwargs, method=method, rngs=rngs, mutable=mutable)
    chosen = selector(select, model)
    values = input_values(model, input_mean, input_variance)
    zero_sum = layout == "neurons" and source == "sobol" and distribution != "orthogonal"
    walk, found = walked(model, values, target, chosen, zero_sum)
    flat = drawn(model, walk, chosen, draw, key)
    if calibrate:
        from qrjax._autoinit._measure import calibrated

        flat = calibrated(model, flat, target, chosen, jax.random.key(0))
    variables = model.rebuild(flat)
    return (variables, found) if report else variables


def drawn(model: Model, walk: Walk, chosen: Callable[[str], bool], draw: Draw, key: Array) -> list[Any]:
    """All variables: weights by the walk, the rest by the module's own initialization."""
    weights = {
        path: (e.weight, e.axes)
        for e in walk.ledger.entries.values()
        if e.weight is not None and chosen(e.weight.path)
        for path in (e.weight.path, *e.weight.also)
    }
    needed = [leaf.path not in weights for leaf in model.leaves]
    own = iter(model.materialize(key, needed) if any(needed) else ())
    result = []
    for leaf, need in zip(model.leaves, needed, strict=True):
        if need:
            result.append(next(own))
        else:
            result.append(_weight(leaf, walk.gains.variances, *weights[leaf.path], draw, path_key(key, leaf.path)))
    return result


def path_key(key: Array, path: str) -> Array:
    """The key of one parameter: it depends on the key and on the path, and on nothing else in the model."""
    digest = hashlib.sha256(path.encode()).digest()
    for start in (0, 4):
        key = jax.random.fold_in(key, int.from_bytes(digest[start : start + 4], "little"))
    return key


def _weight(
    leaf: Leaf, variances: Mapping[Key, float], weight: Weight, axes: tuple[int, ...] | None, draw: Draw, key: Array
) -> Array:
    if weight.index is None:
        gain = np.float32(math.sqrt(variances[leaf.path, None]))
        if weight.equal:
            return jnp.full(leaf.shape, gain, leaf.dtype)
        return (draw.unit(key, leaf.shape, _inputs(leaf.shape, axes)) * gain).astype(leaf.dtype)
    layers = range(leaf.shape[0])
    gains = np.sqrt([variances.get((leaf.path, i), 0.0) for i in layers]).astype(np.float32)
    shape = leaf.shape[1:]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(layers), dtype=jnp.uint32))
    inputs = _inputs(shape, axes)
    stacked = jax.vmap(lambda k: draw.unit(k, shape, inputs))(keys)
    return (stacked * gains.reshape(-1, *[1] * len(shape))).astype(leaf.dtype)


def _inputs(shape: Shape, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """The axes that a neuron sums over; where the program regroups them, all but the last, as by convention."""
    return tuple(range(len(shape) - 1)) if axes is None else axes
