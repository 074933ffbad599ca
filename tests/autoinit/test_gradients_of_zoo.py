"""Measured gradients of whole networks, beside the frameworks' own: by parameters, and by zeros added to outputs."""

import collections
import importlib.util
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras reads it when it is loaded

from wild import MODELS
from zoo import NETWORKS

import qrjax
from qrjax._adapters._variables import leaves_of

# Rounding adds up differently in programs that do the same.
WITHIN = 2e-3
# Each kind of program: a graph; convolutions; layers in a scan, and steps; modules that hold their weights; functions.
KINDS = {"graph", "convnext", "decoder", "rnn", "nnx_mlp", "functions"}
# Public models in the three kinds of programs that differ most: a Linen transformer, a scan within vmap, a graph.
WILD = ("bert_masked", "equinox_lstm", "jraph_gat")
KEY = jax.random.key(11)


def loss(outputs):
    """A sum of all outputs with weights of both signs, so that each has a cotangent of its own."""
    total = jnp.float32(0)
    for y in jax.tree.leaves(outputs):
        if jnp.issubdtype(y.dtype, jnp.floating):
            weights = np.random.default_rng(y.size).standard_normal(y.shape, np.float32)
            total += jnp.sum(y.astype(jnp.float32) * weights)
    return total


def calling(module, network, variables, inputs):
    """(parameters, zeros for outputs of Linen modules by path) -> the loss; the parameters; and those zeros."""
    if isinstance(module, tuple):
        return (lambda params, _: loss(module[1](params, *inputs, **network.kwargs))), variables, {}
    if isinstance(module, nnx.Module):
        graph, params, rest = nnx.split(variables, nnx.Param, ...)
        return (lambda p, _: loss(nnx.merge(graph, p, rest)(*inputs, **network.kwargs))), params, {}
    module, seen = getattr(module, "module", module), collections.defaultdict(list)

    def run(params, zeros):
        def added(following, args, kwargs, context):
            y, path = following(*args, **kwargs), "/".join(context.module.path)
            if context.method_name != "__call__" or not isinstance(y, jax.Array):
                return y
            seen[path].append(y)
            return y + zeros[path] if path in zeros else y

        with nn.intercept_methods(added):
            rngs = dict.fromkeys(("params", *network.rngs), KEY)
            others = {name: v for name, v in variables.items() if name != "params"}
            mutable = nn.DenyList("params")
            made, _ = module.apply({"params": params} | others, *inputs, rngs=rngs, mutable=mutable, **network.kwargs)
        return loss(made)

    jax.eval_shape(run, variables["params"], {})
    once = {path: ys[0] for path, ys in seen.items() if len(ys) == 1 and jnp.issubdtype(ys[0].dtype, jnp.floating)}
    return run, variables["params"], {path: jnp.zeros(y.shape, y.dtype) for path, y in once.items()}


def squares(gradient):
    return float(jnp.sum(jnp.square(gradient.astype(jnp.float32))))


def agree(network):
    """Compares, and says how many gradients there were to compare."""
    module, inputs = network.build(), network.inputs(0)
    rngs = dict.fromkeys(network.rngs, KEY) or None
    variables = qrjax.autoinit(module, *inputs, **({"rngs": rngs} if rngs else {}), **network.kwargs)
    run, params, zeros = calling(module, network, variables, inputs)
    by_params, by_zeros = jax.jit(jax.grad(run, (0, 1)))(params, zeros)
    found = {}
    report = qrjax.measure(module, variables, *inputs, rngs=rngs, loss=loss, **network.kwargs)
    for row in report.weights:
        layer = row.path.partition("[")[2]
        found.setdefault(row.weight, {})[layer] = row.measured_weight_gradient_norm**2
    leaves = dict(zip([leaf.path for leaf in leaves_of(by_params)], jax.tree.leaves(by_params), strict=True))
    total = max(squares(g) for g in leaves.values())
    for path, layers in found.items():
        # What is zero but for rounding, as the derivative by what a norm undoes, is as small here as there.
        assert sum(layers.values()) == pytest.approx(squares(leaves[path]), rel=WITHIN, abs=1e-9 * total), path
    compared = 0
    for path, gradient in by_zeros.items():
        rows = [row for row in report.at(path) if row.shape == gradient.shape]
        if len(report.at(path)) == len(rows) == 1:
            own = rows[0].measured_gradient
            assert own == pytest.approx(squares(gradient) / gradient.size, rel=WITHIN, abs=1e-12), path
            compared += 1
    return len(found), compared


@pytest.mark.few("graph")
@pytest.mark.whole_tables(*(set(NETWORKS) - KINDS))
@pytest.mark.parametrize("name", NETWORKS)
def test_zoo(name):
    weights, outputs = agree(NETWORKS[name])
    assert weights >= 3
    linen = isinstance(NETWORKS[name].build(), nn.Module)
    assert outputs >= (3 if linen and "rnn" not in name else 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", WILD)
def test_public_models(name):
    network = MODELS[name]
    if importlib.util.find_spec(network.package) is None:
        pytest.skip(f"{network.package} is not installed; pip install 'qrjax[wild]' has it")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert agree(network)[0] >= 3
