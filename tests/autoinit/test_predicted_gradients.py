"""Predicted gradients: closed forms, laws that ways of writing a model do not change, and measurements beside them."""

import dataclasses
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from pairs import pair

import qrjax

WIDE = jax.ShapeDtypeStruct((32, 256), jnp.float32)
TOKENS = jax.ShapeDtypeStruct((4, 8, 64), jnp.float32)
# What the walk's quadrature leaves between two ways of writing the same.
SAME = 1e-5
# Shares of elements, as of a mask, are rounded to the cells of the quadrature's nodes.
CELLS = 0.01


def predicted(module, *inputs, **options):
    return qrjax.analyze(module, *inputs, gradients=True, **options)


def gradients(report):
    return [row.gradient for row in report.weights], [row.weight_gradient for row in report.weights]


def same(report, other, within=SAME):
    for one, two in zip(gradients(report), gradients(other), strict=True):
        assert one == pytest.approx(two, rel=within)


def chain(activation, depth=4, width=256):
    layers = [layer for _ in range(depth) for layer in (nn.Dense(width, use_bias=False), activation)]
    return nn.Sequential([*layers, nn.Dense(width, use_bias=False)])


# -- known answers -------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": nn.relu, "tanh": jnp.tanh, "gelu": nn.gelu, "swish": nn.swish, "selu": nn.selu, "elu": nn.elu,
    "softplus": nn.softplus, "sigmoid": nn.sigmoid, "leaky_relu": nn.leaky_relu, "hard_swish": nn.hard_swish,
    "gelu_exact": lambda x: nn.gelu(x, approximate=False), "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
    "sin": jnp.sin, "relu_squared": lambda x: nn.relu(x) ** 2,
}  # fmt: skip


@pytest.mark.few("relu", "gelu")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_layer_multiplies_by_chi(name):
    found, _ = gradients(predicted(chain(ACTIVATIONS[name], 3), WIDE))
    chi = float(qrjax.stability(ACTIVATIONS[name], targets=[1.0]).gradient[0])
    assert [a / b for a, b in itertools.pairwise(found)] == pytest.approx([chi] * 3, rel=1e-3)


def test_at_another_target():
    report = predicted(chain(jnp.tanh, 2), WIDE, target=2.0**-4)
    first, second, _ = gradients(report)[0]
    chi = float(qrjax.stability(jnp.tanh, targets=[2.0**-4]).gradient[0])
    assert first / second == pytest.approx(chi, rel=1e-3)


def test_linear_layers():
    report = predicted(nn.Sequential([nn.Dense(128), nn.Dense(32), nn.Dense(64)]), WIDE)
    # Backwards a layer of weights with variance 1/fan sums over its outputs.
    assert gradients(report)[0] == pytest.approx([32 / 128 * 64 / 32, 64 / 32, 1.0], rel=SAME)


@pytest.mark.parametrize("activation", [nn.relu, jnp.tanh])
def test_a_weight_s_derivative_sums_over_independent_examples(activation):
    for row in predicted(chain(activation, 2), WIDE).weights:
        x = row.input_variance + row.input_mean**2
        assert row.weight_gradient == pytest.approx(32 * x * row.gradient, rel=1e-6)
        assert row.gradient_norm == pytest.approx(math.sqrt(row.gradient * 256), rel=1e-6)
        assert row.weight_gradient_norm == pytest.approx(math.sqrt(row.weight_gradient) * 256, rel=1e-6)


def test_two_ways_to_the_output_add_up():
    branches = pair(lambda p, x: (h := x @ p["a"]) @ p["b"] + h @ p["c"] + h, a=(64, 64), b=(64, 64), c=(64, 64))
    first = predicted(branches, TOKENS).weights[0]
    assert first.gradient == pytest.approx(3.0, rel=1e-6)


def test_the_mean_over_tokens_shares_the_cotangent():
    pooled = pair(lambda p, x: (x @ p["a"]).mean(1) @ p["b"], a=(64, 64), b=(64, 64))
    first, last = predicted(pooled, TOKENS).weights
    by_mean = 64 * last.gain**2
    assert first.gradient == pytest.approx(by_mean / 8**2, rel=1e-6)
    # The same at all 8 tokens of an example, whose inputs are independent.
    assert first.weight_gradient == pytest.approx(4 * 8 * by_mean / 8**2, rel=1e-6)


def test_a_mask_that_is_known():
    mask = np.arange(8)[None, :, None] < 2
    masked = pair(lambda p, x: jnp.where(mask, x @ p["a"], 0.0), a=(64, 64))
    assert predicted(masked, TOKENS).weights[0].gradient == pytest.approx(0.25, rel=CELLS)


def test_dropout_scales_back_what_it_keeps():
    network = nn.Sequential([nn.Dense(256), nn.Dropout(0.5, deterministic=False)])
    report = predicted(network, WIDE, rngs=("dropout",))
    assert report.weights[0].gradient == pytest.approx(2.0, rel=CELLS)


def test_what_is_stopped_gets_none_and_the_report_says_so():
    stopped = pair(lambda p, x: lax.stop_gradient(x @ p["a"]) @ p["b"], a=(64, 64), b=(64, 64))
    report = predicted(stopped, TOKENS)
    assert (report.weights[0].gradient, report.weights[0].weight_gradient) == (0.0, 0.0)
    assert report.weights[1].gradient == pytest.approx(1.0)
    assert any(str(finding).startswith("no gradient: a gets none (predicted)") for finding in report.findings)


def test_an_unused_output_gets_none():
    aside = pair(lambda p, x: (x @ p["a"], jnp.argmax(x @ p["b"], -1)), a=(64, 64), b=(64, 64))
    assert [row.gradient for row in predicted(aside, TOKENS).weights] == pytest.approx([1.0, 0.0])


# -- laws ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(4)(y)
        y = nn.Dense(128)(nn.LayerNorm()(x))
        return x + nn.Dense(64)(nn.gelu(y))


def test_all_else_is_as_without_gradients():
    plain, both = qrjax.analyze(Block(), TOKENS), predicted(Block(), TOKENS)
    for one, two in zip(plain, both, strict=True):
        assert two.gradient is not None
        assert (one.gradient, one.weight_gradient) == (None, None)
        assert (one.path, one.op, one.shape, one.weight) == (two.path, two.op, two.shape, two.weight)
        for name in ("fan", "gain", "input_mean", "input_variance", "mean", "variance"):
            before, after = getattr(one, name), getattr(two, name)
            assert after == (before if before is None else pytest.approx(before, rel=1e-6, abs=1e-9)), name
        assert two.correlation == pytest.approx(one.correlation, rel=1e-6, abs=1e-9)


def test_the_same_in_linen_in_nnx_and_as_a_pair():
    class Linked(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(64, 128, rngs=rngs), nnx.Linear(128, 64, rngs=rngs)
            self.norm = nnx.LayerNorm(64, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.gelu(self.first(self.norm(x))))

    linen = nn.Sequential([nn.LayerNorm(), nn.Dense(128), nn.gelu, nn.Dense(64)])
    functions = (linen.init, linen.apply)
    same(predicted(linen, TOKENS), predicted(Linked(nnx.Rngs(0)), TOKENS))
    same(predicted(linen, TOKENS), predicted(functions, TOKENS))


def test_layers_in_a_scan_are_as_one_after_the_other():
    def scanned(p, x):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["w"])[0]

    def unrolled(p, x):
        for i in range(5):
            x = jnp.tanh(x @ p["w"][i])
        return x

    same(*(predicted(pair(f, w=(5, 64, 64)), TOKENS) for f in (scanned, unrolled)))


def step(p, h, x):
    return jnp.tanh(x @ p["u"] + h @ p["w"])


def recurrent(p, x):
    """Elman's network, which returns all its states."""
    start = jnp.zeros((x.shape[0], 64))
    return lax.scan(lambda h, x: (h := step(p, h, x), h), start, x.swapaxes(0, 1))[1]


def recurrent_by_hand(p, x):
    h, states = jnp.zeros((x.shape[0], 64)), []
    for t in range(x.shape[1]):
        h = step(p, h, x[:, t])
        states.append(h)
    return jnp.stack(states)


def test_a_weight_of_many_steps_sums_over_them():
    """Also over those that are followed as one."""
    steps = 64
    report = predicted(pair(recurrent, u=(64, 64), w=(64, 64)), jax.ShapeDtypeStruct((4, steps, 64), jnp.float32))
    row = next(row for row in report.weights if row.weight == "u")
    assert row.weight_gradient == pytest.approx(4 * steps * row.gradient, rel=0.01)


def test_steps_in_a_scan_are_as_one_after_the_other():
    scanned, unrolled = (predicted(pair(f, u=(64, 64), w=(64, 64)), TOKENS) for f in (recurrent, recurrent_by_hand))
    for name in ("u", "w"):
        one = next(row for row in scanned.weights if row.weight == name)
        steps = [row for row in unrolled.weights if row.weight == name]
        assert one.gradient == pytest.approx(np.mean([row.gradient for row in steps]), rel=0.02)
        assert one.weight_gradient == pytest.approx(steps[0].weight_gradient, rel=0.02)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.checkpoint(jax.jit(f))])
def test_calls_change_nothing(wrap):
    def layer(x, w):
        return nn.swish(x @ w)

    def network(call):
        return pair(lambda p, x: call(call(x, p["a"]), p["b"]), a=(64, 64), b=(64, 64))

    same(predicted(network(layer), TOKENS), predicted(network(wrap(layer)), TOKENS))


def by_hand(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def by_moments(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt((x**2).mean(-1, keepdims=True) - mean**2 + 1e-6)


def multiplied_out(x, axes=-1):
    mean = x.mean(axes, keepdims=True)
    factor = lax.rsqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-6)
    return x * factor + (-mean * factor)


def by_groups(x):
    parts = x.reshape(*x.shape[:-1], 8, -1)
    centred = parts - parts.mean((1, 3), keepdims=True)
    return (centred * lax.rsqrt((centred**2).mean((1, 3), keepdims=True) + 1e-6)).reshape(x.shape)


def shifted(x):
    powers = jnp.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


TWINS = {
    "swish": (nn.swish, lambda x: x * nn.sigmoid(x)),
    "swish by exp": (nn.swish, lambda x: x / (1 + jnp.exp(-x))),
    "relu": (nn.relu, lambda x: jnp.where(x > 0, x, 0.0)),
    "relu by abs": (nn.relu, lambda x: 0.5 * (x + jnp.abs(x))),
    "tanh": (jnp.tanh, lambda x: 2 * nn.sigmoid(2 * x) - 1),
    "square": (jnp.square, lambda x: x * x),
    "norm": (nn.LayerNorm(use_bias=False, use_scale=False), by_hand),
    "norm by moments": (nn.LayerNorm(use_bias=False, use_scale=False), by_moments),
    "norm multiplied out": (nn.LayerNorm(use_bias=False, use_scale=False), multiplied_out),
    "group norm": (nn.GroupNorm(8, use_bias=False, use_scale=False), by_groups),
    "group norm of one": (
        nn.LayerNorm(use_bias=False, use_scale=False, reduction_axes=(1, 2)),
        nn.GroupNorm(1, use_bias=False, use_scale=False),
    ),
    "softmax": (nn.softmax, shifted),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_the_same_written_by_hand(name):
    same(*(predicted(nn.Sequential([nn.Dense(64), f, nn.Dense(64)]), TOKENS) for f in TWINS[name]), within=0.02)


def test_batch_norms_multiplied_out_take_the_mean_of_a_residual_sum_s_derivative():
    """As Keras writes them: what examples and places have in common meets no weight, in whatever order it is taken."""

    def in_order(x, axes):
        centred = x - x.mean(axes, keepdims=True)
        return centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + 1e-6)

    def network(norm):
        def apply(p, x):
            for name in ("a", "b"):
                x = nn.relu(x)
                x = x + norm(x @ p[name], (0, 1))
            return nn.relu(x).mean(1) @ p["head"]

        return pair(apply, a=(64, 64), b=(64, 64), head=(64, 64))

    tokens = jax.ShapeDtypeStruct((16, 16, 64), jnp.float32)
    same(*(predicted(network(norm), tokens) for norm in (in_order, multiplied_out)), within=0.15)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_behind_a_norm_the_gradient_is_divided_by_the_scale(norm):
    network = nn.Sequential([nn.Dense(256), norm(), nn.Dense(256)])
    for target in (1.0, 16.0):
        first, last = predicted(network, WIDE, target=target).weights
        behind = 256 * last.gain**2 / target
        # Of 256 directions one or two are lost.
        assert first.gradient == pytest.approx(behind, rel=0.02)


# -- measurements beside them --------------------------------------------------------------------------------------


def attention():
    x = np.random.default_rng(0).standard_normal((8, 16, 64), np.float32)
    return nn.Sequential([nn.Dense(64), nn.MultiHeadDotProductAttention(4), nn.Dense(64)]), x


def pooling(stride=2):
    def pool(x):
        return nn.max_pool(x, (3, 3), (stride, stride))

    x = np.random.default_rng(0).standard_normal((8, 16, 16, 8), np.float32)
    return nn.Sequential([nn.Conv(32, (1, 1)), nn.relu, pool, nn.Conv(32, (1, 1))]), x


def branching():
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(64)(x)
            x = jnp.concatenate([nn.tanh(nn.Dense(32)(x)), x[:, 3:35]], -1)
            x = nn.Dense(64)(x) * nn.sigmoid(nn.Dense(64)(x))
            return nn.log_softmax(nn.Dense(10)(jnp.pad(x, ((0, 0), (0, 8)))))

    return Branching(), np.random.default_rng(0).standard_normal((64, 64), np.float32)


def attention_of_one():
    class Reading(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            return nn.Dense(64)(nn.LayerNorm()(x)[:, 0])

    return Reading(), np.random.default_rng(0).standard_normal((8, 32, 64), np.float32)


def shortcuts(norm, blocks):
    """Behind a mean over all places, which gives them one cotangent: what a norm takes of it decides."""

    class Shortcuts(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(norm()(nn.Conv(32, (3, 3))(x)))
            for _ in range(blocks):
                y = nn.relu(norm()(nn.Conv(32, (3, 3))(x)))
                x = nn.relu(x + norm()(nn.Conv(32, (3, 3))(y)))
            return nn.Dense(64)(x.mean((1, 2)))

    return Shortcuts(), np.random.default_rng(0).standard_normal((32, 6, 6, 32), np.float32)


def grouped():
    layers = [layer for _ in range(2) for layer in (nn.Conv(32, (3, 3)), nn.GroupNorm(4), nn.relu)]
    module = nn.Sequential([*layers, lambda x: x.mean((1, 2)), nn.Dense(64)])
    return module, np.random.default_rng(0).standard_normal((32, 6, 6, 32), np.float32)


MEASURED = {
    "attention": attention,
    "attention of one token": attention_of_one,
    "group norm": grouped,
    "batch norm": lambda: shortcuts(lambda: nn.BatchNorm(use_running_average=False), 2),
    "pooling": pooling,
    "pooling with overlap": lambda: pooling(1),
    "branches": branching,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_measured(name):
    module, x = MEASURED[name]()
    seeds = []
    for seed in range(8):
        variables = qrjax.autoinit(module, x, seed=seed)
        seeds.append(qrjax.measure(module, variables, x, gradients=True, rngs=jax.random.key(seed)).weights)
    for column in ("gradient", "weight_gradient"):
        found = [[(getattr(r, column), getattr(r, f"measured_{column}")) for r in rows] for rows in seeds]
        bias = np.log2([[after / before for before, after in one] for one in found]).mean(0)
        assert np.abs(bias).max() <= 0.4, (column, dict(zip([r.weight for r in seeds[0]], bias, strict=True)))


class Placed(nn.Module):
    """What the input has no part in, made by layers: positions, looked up and through a layer, and queries."""

    @nn.compact
    def __call__(self, x):
        normal = nn.initializers.normal(1.0)
        x = nn.Dense(32, name="in")(x)
        x += nn.Embed(16, 32, name="table")(jnp.broadcast_to(jnp.arange(8), x.shape[:2]))
        x += nn.Dense(32, name="through")(self.param("places", normal, (1, 8, 32)))
        queries = nn.Dense(32, name="queries")(self.param("questions", normal, (1, 4, 32)))
        x = nn.MultiHeadDotProductAttention(4)(jnp.broadcast_to(queries, (len(x), 4, 32)), x)
        return nn.Dense(8)(x.mean(1))


def test_layers_that_the_input_has_no_part_in_have_theirs():
    report = predicted(Placed(), jax.ShapeDtypeStruct((16, 8, 12), jnp.float32))
    found = {row.weight or row.path: row.gradient for row in report}
    assert found["table/embedding"] == pytest.approx(found["in/kernel"], rel=SAME)
    # The same for all sixteen examples.
    assert found["through/kernel"] == found["through"] == pytest.approx(16 * found["in/kernel"], rel=SAME)
    assert found["queries/kernel"] == found["queries"] > 0


@pytest.mark.slow
def test_measure_predicts_for_the_weights_as_they_are():
    module = nn.Sequential([nn.Dense(256), nn.tanh, nn.Dense(256)])
    x = np.random.default_rng(0).standard_normal((32, 256), np.float32)
    variables = jax.tree.map(lambda w: 2 * w, qrjax.autoinit(module, x))
    report = qrjax.measure(module, variables, x, gradients=True)
    assert report[0].gradient == pytest.approx(report[0].measured_gradient, rel=0.1)
    assert report.weights[1].gradient == pytest.approx(1.0)
    assert dataclasses.replace(report[0]).measured_weight_gradient == pytest.approx(report[0].weight_gradient, rel=0.15)


def approximate(function, **shapes):
    x = jax.ShapeDtypeStruct((8, 6, 32), jnp.float32)
    report = qrjax.analyze(pair(function, **shapes), x, gradients=True)
    return [[note for note in row.notes if note.startswith("gradient approximate")] for row in report.weights]


def grouped(p, x):
    y = (x @ p["a"]).reshape(8, 6, 8, 4)
    y = y - y.mean((1, 3), keepdims=True)
    return (y / jnp.sqrt((y**2).mean((1, 3), keepdims=True))).reshape(8, 6, 32) @ p["b"]


FUNCTIONS = {
    "gates": lambda p, x: (x @ p["a"]) * jax.nn.sigmoid(x @ p["b"]) @ p["c"],
    "what is chosen by size": lambda p, x: jax.lax.top_k(x @ p["a"], 4)[0] @ p["c"][:4],
    "norms of groups": grouped,
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_what_gradients_are_approximate_behind_is_said(what):
    shapes = {"c": (32, 32), "a": (32, 32), "b": (32, 32)}
    found = approximate(FUNCTIONS[what], **shapes)
    assert [f"gradient approximate behind {what}"] in found
    assert found[-1] == []


@pytest.mark.parametrize("activation", [jax.nn.swish, jax.nn.relu, jnp.tanh])
def test_an_activation_or_a_layer_norm_is_not_approximate(activation):
    def apply(p, x):
        y = activation(x @ p["a"])
        y = y - y.mean(-1, keepdims=True)
        return y / jnp.sqrt((y**2).mean(-1, keepdims=True)) @ p["b"]

    assert approximate(apply, a=(32, 32), b=(32, 32)) == [[], []]
