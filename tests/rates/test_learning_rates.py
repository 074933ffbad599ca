"""Multipliers: closed forms, the published table, structures, and what is said of what was guessed."""

import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = jax.ShapeDtypeStruct((32, 64), jnp.float32)
IDS = jax.ShapeDtypeStruct((4, 8), jnp.int32)
SHIFT, SCALE = 1 / 16, 1 / 4


def mlp(width):
    return nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(width), nn.relu, nn.Dense(10)])


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


# How a multiplier grows with the width: powers of it for the weights and biases of the input, hidden and last layer.
# Tensor Programs V, arXiv 2203.03466, table 3 (with heads of zero), and for Muon sqrt(out / in) times the weight's
# scale, arXiv 2310.17813, over the sqrt(max(1, out / in)) that optax multiplies by.
PUBLISHED = {
    "adam": ((0, -1, -1), (0, 0, 0)),
    "sign": ((0, -1, -1), (0, 0, 0)),
    "sgd": ((1, 0, -1), (1, 1, 0)),
    "muon": ((0, 0, -0.5), (0, 0, 0)),
}


@pytest.mark.parametrize("optimizer", PUBLISHED)
def test_powers_of_the_width_are_the_published_ones(optimizer):
    narrow, wide = (qrjax.learning_rates(mlp(n), X, optimizer=optimizer, head=0.0) for n in (128, 1024))
    for kind, powers in zip(("kernel", "bias"), PUBLISHED[optimizer], strict=True):
        found = [math.log2(wide[name][kind] / narrow[name][kind]) / 3 for name in narrow]
        np.testing.assert_allclose(found, powers, atol=0.01)


def test_adam_by_hand():
    rates = qrjax.learning_rates(mlp(256), X)
    kernels = [rates[name]["kernel"] for name in rates]
    np.testing.assert_allclose(kernels, [1 / 64, 1 / (256 * 0.5**0.5), 1 / (256 * 0.5**0.5)], rtol=1e-4)
    assert [round(rates[name]["bias"], 4) for name in rates] == [SHIFT] * 3
    smaller = qrjax.learning_rates(mlp(256), X, target={"layers_0/*": 0.25}, head=0.01)
    assert smaller["layers_0"]["kernel"] == pytest.approx(0.5 / 64, rel=1e-4)  # relative to a smaller output
    assert smaller["layers_4"]["kernel"] == pytest.approx(kernels[2], rel=1e-4)  # whatever the head begins with


def test_sgd_by_hand():
    one = nn.Dense(10)
    # The gradient of an element for one example, of a cotangent of 1, is the input.
    rates = qrjax.learning_rates(one, X, optimizer="sgd")
    assert rates["kernel"] == pytest.approx(1 / 64, rel=1e-4)
    assert rates["bias"] == pytest.approx(SHIFT, rel=1e-4)
    many = qrjax.learning_rates(one, jax.ShapeDtypeStruct((512, 64), jnp.float32), optimizer="sgd")
    assert many["kernel"] == pytest.approx(rates["kernel"], rel=1e-4)  # a batch's size does not count


# What a head learned to a second moment of 16 makes of the multipliers that one of 1 has: its own are four times as
# large, and where the size of a gradient counts, those before it a quarter, as four times as much comes back.
SIXTEEN = {"adam": (1, 1, 4), "muon": (1, 1, 4), "sgd": (1 / 4, 1 / 4, 4)}


@pytest.mark.parametrize("optimizer", SIXTEEN)
def test_outputs_are_measured_by_what_they_are_to_come_to(optimizer):
    options = {"optimizer": optimizer, "head": 0.0}
    one, many = (qrjax.learning_rates(mlp(64), X, outputs=outputs, **options) for outputs in (None, 16.0))
    for kind in ("kernel", "bias"):
        found = [many[name][kind] / one[name][kind] for name in one]
        np.testing.assert_allclose(found, SIXTEEN[optimizer], rtol=1e-3)
    assert one == qrjax.learning_rates(mlp(64), X, outputs=1.0, **options)
    at_four = {"target": 4.0, **options}  # by default outputs come to their target, whatever they begin with
    by_target, told = (qrjax.learning_rates(mlp(64), X, outputs=outputs, **at_four) for outputs in (None, 4.0))
    assert by_target == told


def test_outputs_of_a_normalized_weight():
    network = nn.Sequential([nn.Dense(32), nn.relu, nn.WeightNorm(nn.Dense(8))])
    one, many = (qrjax.learning_rates(network, X, outputs=outputs, report=True) for outputs in (None, 16.0))
    assert many[0]["layers_2"]["layer_instance"]["kernel"] == pytest.approx(
        4 * one[0]["layers_2"]["layer_instance"]["kernel"]
    )
    assert many[0]["layers_0"] == one[0]["layers_0"]
    noted = {row.weight: row.notes for row in many[1] if row.notes}
    assert noted["layers_2/layer_instance/bias"] == ("makes outputs: measured by their target, 16",)


def test_muon_takes_matrices_alone_and_patterns_choose():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, ids):
            x = nn.Embed(512, 64)(ids)
            return nn.Dense(10)(nn.relu(nn.DenseGeneral((4, 32))(x)).reshape(*ids.shape, 128))

    rates, report = qrjax.learning_rates(Net(), IDS, optimizer="muon", report=True)
    assert rates["Embed_0"]["embedding"] == pytest.approx(8.0, rel=1e-3)  # a row of norm 1 has elements of 1/8
    assert rates["DenseGeneral_0"]["kernel"] == pytest.approx(1 / 64, rel=1e-3)  # of three axes, so Adam's
    assert report["DenseGeneral_0/kernel"].notes == ("no matrix: as for Adam",)
    assert rates["Dense_0"]["kernel"] == pytest.approx((2 * 10 / 128) ** 0.5, rel=1e-3)
    mixed = qrjax.learning_rates(Net(), IDS, optimizer={"*/embedding": "adam", "*": "muon"})
    assert mixed["Embed_0"]["embedding"] == pytest.approx(1.0, rel=1e-3)
    assert mixed["Dense_0"] == rates["Dense_0"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_stacked_layers_have_the_multipliers_of_the_same_layers_one_by_one(optimizer):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(32)(nn.relu(nn.Dense(32)(x))), None

    class Stacked(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return nn.Dense(10, name="head")(scanned(name="blocks")(nn.Dense(32, name="stem")(x), None)[0])

    class Listed(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(32, name="stem")(x)
            for i in range(3):
                x, _ = Block(name=f"block_{i}")(x, None)
            return nn.Dense(10, name="head")(x)

    stacked, listed = (qrjax.learning_rates(m(), X, optimizer=optimizer) for m in (Stacked, Listed))
    for layer in ("Dense_0", "Dense_1"):
        kernel = stacked["blocks"][layer]["kernel"]
        assert kernel.shape == (3, 1, 1)
        assert kernel.dtype == np.float32
        expected = [listed[f"block_{i}"][layer]["kernel"] for i in range(3)]
        np.testing.assert_allclose(kernel.ravel(), expected, rtol=0.02)
        assert stacked["blocks"][layer]["bias"].shape == (3, 1)
    assert stacked["stem"]["kernel"] == pytest.approx(listed["stem"]["kernel"], rel=0.02)


def test_an_nnx_module_and_a_pair_of_functions():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm = nnx.Linear(64, 32, rngs=rngs), nnx.BatchNorm(32, rngs=rngs)
            self.drop, self.last = nnx.Dropout(0.1, rngs=rngs), nnx.Linear(32, 4, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))

    model = Net(nnx.Rngs(0))
    rates = qrjax.learning_rates(model, X)
    assert isinstance(rates, nnx.State)
    assert jax.tree.structure(rates) == jax.tree.structure(nnx.state(model, nnx.Param))
    assert rates["first"]["kernel"].get_value() == pytest.approx(1 / 64, rel=1e-4)
    assert rates["norm"]["scale"].get_value() == pytest.approx(SCALE, rel=1e-4)

    def init(key, x):
        return [jax.random.normal(key, (x.shape[-1], 16)), {"b": jax.random.normal(key, (16, 2))}]

    first, last = qrjax.learning_rates((init, lambda params, x: jnp.tanh(x @ params[0]) @ params[1]["b"]), X)
    assert first == pytest.approx(1 / 64, rel=1e-4)
    assert set(last) == {"b"}


class Roles(nn.Module):
    """One parameter for each rule."""

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(64, 32, name="table")
        x = table(ids) + self.param("positions", nn.initializers.normal(0.02), (1, 8, 32))
        x = nn.RMSNorm(name="norm")(x)
        x = nn.WeightNorm(nn.Dense(32, name="normed"), name="wrapper")(x)
        layer = nn.Dense(32, use_bias=False, name="shared")
        x = layer(nn.relu(layer(x)))
        down = self.param("down", nn.initializers.normal(), (32, 4))
        up = self.param("up", nn.initializers.zeros, (4, 32))
        x = nn.Dense(32, name="base")(x) + (x @ down) @ up
        x = x * self.param("gate", nn.initializers.ones, ())
        x = nn.RNN(nn.SimpleCell(32), name="steps")(x)
        self.param("idle", nn.initializers.normal(), (3, 3))
        return table.attend(x)


def test_roles():
    rates, report = qrjax.learning_rates(Roles(), IDS, report=True)
    rules = {row.weight: row.rule for row in report}
    assert (rules["positions"], rules["norm/scale"], rules["idle"]) == ("shift", "scale", "unseen")
    assert rules["normed/kernel"] == "function"
    assert rules["base/bias"] == "shift"
    # A normalized weight by its own size, LoRA's second factor by what it may come to, its first by its inputs.
    tables = [row for row in report if row.weight == "table/embedding"]
    assert [row.rule for row in tables] == ["look-up", "product"]
    x = report["up"].input_second_moment
    assert rates["up"] == pytest.approx(1 / (4 * x**0.5), rel=1e-3)
    assert rates["down"] == pytest.approx(
        report["down"].second_moment ** 0.5 / (32 * report["down"].input_second_moment ** 0.5)
    )
    # The smallest of several uses, which is said.
    uses = [row for row in report if row.weight == "shared/kernel"]
    by_use = [(r.second_moment / r.input_second_moment) ** 0.5 / 32 for r in uses]
    assert rates["shared"]["kernel"] == pytest.approx(min(by_use))
    assert rates["table"]["embedding"] < report["table/embedding"].second_moment ** 0.5 / 4
    said = {str(f): f.severity for f in report.findings if f.startswith("rate")}
    assert any("smallest of its uses" in s and "table/embedding" in s for s in said)
    assert said["rate 1, as no use of it was seen: idle"] == "warning"
    assert any("single number" in s and "gate" in s for s in said)
    assert rates["idle"] == 1.0
    assert rates["gate"] == SCALE


class Placed(nn.Module):
    """Tokens at places, of which a table says in one of several ways where they are."""

    way: str

    @nn.compact
    def __call__(self, ids):
        length, normal = ids.shape[1], nn.initializers.normal(1.0)
        x = nn.Embed(64, 32, name="words")(ids)
        if self.way == "added":
            return nn.Dense(8)(nn.LayerNorm()(x + self.param("places", normal, (1, length, 32))))
        places = jnp.arange(length)[None]
        places = jnp.broadcast_to(places, ids.shape) if self.way == "wide" else places
        return nn.Dense(8)(nn.LayerNorm()(x + nn.Embed(4 * length, 32, name="places")(places)))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_positions_are_what_moves_all_examples_alike(optimizer):
    found = {}
    for way in ("added", "looked up", "wide"):
        rates, report = qrjax.learning_rates(Placed(way), IDS, optimizer=optimizer, report=True)
        (row,) = [row for row in report if row.weight.startswith("places")]
        assert row.rule == "shift"
        found[way] = (jax.tree.leaves(rates["places"])[0] / row.second_moment**0.5, rates["words"]["embedding"])
    assert found["looked up"] == pytest.approx(found["wide"], rel=1e-5)
    if optimizer == "adam":
        assert found["added"] == found["wide"] == pytest.approx((SHIFT, 1.0))
    if optimizer == "sgd":  # a token of 64 is met once by few examples, a place by all
        assert found["wide"][0] == pytest.approx(SHIFT * found["wide"][1], rel=1e-5)


def test_the_largest_change_of_an_output_is_the_rate():
    """A second way: real steps of signs, of one weight at a time, for one example."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(16, (3, 3), padding="VALID", name="conv")(x))
            x = nn.gelu(nn.Dense(64, name="hidden")(x.reshape(x.shape[0], -1)))
            return nn.Dense(8, name="head")(nn.LayerNorm()(x))

    network, x = Net(), jax.random.normal(jax.random.key(0), (1, 6, 6, 1))
    variables, rates = qrjax.autoinit(network, x, source="hash"), qrjax.learning_rates(network, x)
    cotangent = jax.random.normal(jax.random.key(1), (1, 8))
    gradient = jax.jit(jax.grad(lambda v: (network.apply(v, x) * cotangent).sum()))(variables)["params"]

    @jax.jit
    def outputs(params):
        _, found = network.apply({"params": params}, x, capture_intermediates=True, mutable="intermediates")
        return {name: made["__call__"][0] for name, made in found["intermediates"].items() if name in rates}

    before, eta = outputs(variables["params"]), 1e-3
    for name in ("conv", "hidden", "head"):
        params = dict(variables["params"])
        step = eta * rates[name]["kernel"] * np.sign(gradient[name]["kernel"])
        params[name] = {**params[name], "kernel": np.float32(params[name]["kernel"] + step)}
        first, then = np.asarray(before[name]), np.asarray(outputs(params)[name])
        change = np.sqrt(np.mean((then - first) ** 2) / np.mean(first**2))
        assert 0.25 * eta < float(change) < 1.5 * eta, name


def test_a_report_of_rates_is_read_and_kept_like_others():
    rates, report = qrjax.learning_rates(mlp(32), X, head=0.0, report=True)
    row = report["layers_0/kernel"]
    assert (row.rate, row.rule, row.weight) == (rates["layers_0"]["kernel"], "product", "layers_0/kernel")
    kept = json.loads(report.to_json())
    assert [r["rate"] for r in kept["rows"]] == [row.rate for row in report]
    assert {"rate", "as"} <= set(str(report).split("\n")[0].split())
    assert report.findings[0] == "head: the outputs of layers_4/kernel are zero"
    assert qrjax.analyze(mlp(32), X)[0].rate is None


def test_weights_of_the_modules_own():
    rates = qrjax.learning_rates(mlp(256), X, weights="module")
    assert rates["layers_2"]["kernel"] == pytest.approx(1 / 256, rel=0.02)  # LeCun's y^2 is x^2
    with pytest.raises(ValueError, match=r"`head` 0\.0 chooses scales"):
        qrjax.learning_rates(mlp(8), X, weights="module", head=0.0)


def test_errors():
    with pytest.raises(ValueError, match=r"`outputs` must be positive, got 0"):
        qrjax.learning_rates(mlp(8), X, outputs=0)
    with pytest.raises(ValueError, match=r"`outputs` is for the weights that make .* got 16 .*pass outputs=None"):
        qrjax.learning_rates(nn.LayerNorm(use_bias=False), X, outputs=16)
    with pytest.raises(ValueError, match=r"`optimizer` must be one of 'adam'.*did you mean 'adam'"):
        qrjax.learning_rates(mlp(8), X, optimizer="adamw")
    with pytest.raises(ValueError, match=r"`optimizer\['\*'\]` must be one of"):
        qrjax.learning_rates(mlp(8), X, optimizer={"*": "muons"})
    with pytest.raises(ValueError, match=r"pattern 'layer_0/\*', which matches no parameter"):
        qrjax.learning_rates(mlp(8), X, optimizer={"layer_0/*": "adam", "*": "sgd"})
    with pytest.raises(ValueError, match=r"no pattern for layers_2/bias.*end it with one for the rest"):
        qrjax.learning_rates(mlp(8), X, optimizer={"layers_0/*": "adam"})
    with pytest.raises(TypeError, match=r"`optimizer` as a mapping"):
        qrjax.learning_rates(mlp(8), X, optimizer={0: "adam"})
