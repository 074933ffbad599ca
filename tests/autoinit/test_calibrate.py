"""Calibration corrects the weights: the variables it returns, measured again, are at the target."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_loops import LOOPS, pair

import qrjax

X = jax.random.normal(jax.random.key(0), (64, 32))
TOKENS = jax.random.randint(jax.random.key(1), (8, 16), 0, 50)
TARGET = 2.0
W, WV = {"w": (32, 32)}, {"w": (32, 32), "v": (32, 32)}


def deciding(rows, path):
    """The mean over the rows of a weight; of a table that also makes logits, over the logits."""
    found = [row for row in rows if row.weight == path]
    products = [row for row in found if row.op != "gather"]
    return np.mean([row.measured_second_moment for row in products or found])


def check(network, variables, x, **options):
    made = qrjax.calibrate(network, variables, x, target=TARGET, **options)
    rows = qrjax.measure(network, made, x).weights
    assert rows
    for path in {row.weight for row in rows}:
        assert deciding(rows, path) == pytest.approx(TARGET, rel=0.01), path
    return made


# Weights that do more than meet their input: each snippet's outputs were off by up to 500 times.
BESIDE = {
    "added": (lambda p, x: jnp.tanh(x @ p["w"] + p["w"].sum(0)[None]) @ p["v"], WV),
    "regularized": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"] + 0.1 * (p["w"] ** 2).sum(), WV),
    "both ways": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T @ p["v"], WV),
    "of itself": (lambda p, x: jnp.sin(jnp.tanh(x @ p["w"]) @ p["w"]) * p["w"].sum() @ p["v"], WV),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_weight_that_is_used_beside_its_contraction(name):
    function, shapes = BESIDE[name]
    network = pair(function, **shapes)
    check(network, network[0](jax.random.key(2)), X)


def norm_of(v):
    return jnp.linalg.norm(v, axis=0, keepdims=True)


def with_norms(key, *_):
    weights = jax.random.normal(key, (2, 32, 32)) / 32
    return {"first": {"v": weights[0], "g": norm_of(weights[0])}, "last": {"v": weights[1], "g": norm_of(weights[1])}}


def by_norms(p, x):
    for layer in (p["first"], p["last"]):
        x = nn.relu(x) @ (layer["g"] / norm_of(layer["v"]) * layer["v"])
    return x


@pytest.mark.parametrize(
    "network", [(with_norms, by_norms), nn.Sequential([nn.WeightNorm(nn.Dense(32)), nn.relu, nn.Dense(8)])],
    ids=["drawn of it", "ones"],
)  # fmt: skip
def test_a_normalized_weight_by_the_scale_beside_it(network):
    variables = qrjax.autoinit(network, X)
    made = check(network, variables, X)
    before, after = (v["first"] if isinstance(network, tuple) else v["params"]["layers_0"] for v in (variables, made))
    kept = [bool((a == b).all()) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert kept.count(False) == 1  # the scale alone


def test_a_scale_of_another_weight_that_is_one_itself():
    def init(key, *_):
        return {"w": jax.random.normal(key, (32, 32)), "s": jax.random.uniform(key, (32, 32))}

    network = (init, lambda p, x: (x @ (p["w"] * p["s"])) @ p["s"])
    check(network, network[0](jax.random.key(2)), X)


@pytest.mark.parametrize("name", ["fori_loop", "fori_loop, unknown", "scan in a loop", "reversed scan"])
def test_loops(name):
    function, shapes, _ = LOOPS[name]
    network = pair(function, **shapes)
    check(network, network[0](jax.random.key(2)), X)


@pytest.mark.parametrize("axis", [1, *(pytest.param(a, marks=pytest.mark.slow) for a in (0, -1))])
def test_layers_stacked_along_any_axis(axis):
    shape = np.insert([32, 32], axis % 3, 3)

    def run(p, x):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, jnp.moveaxis(p["w"], axis, 0))[0] @ p["v"]

    network = pair(run, w=tuple(shape), v=(32, 32))
    before = network[0](jax.random.key(2))
    made = check(network, before, X)
    # One factor for each layer.
    ratios = np.moveaxis(np.asarray(made["w"] / before["w"]), axis, 0).reshape(3, -1)
    assert np.ptp(ratios, 1) == pytest.approx(0, abs=1e-6)
    assert np.ptp(ratios[:, 0]) > 1e-3


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return jnp.tanh(nn.Dense(32)(x)), None


class Stack(nn.Module):
    axis: int
    shared: bool = False

    @nn.compact
    def __call__(self, x):
        options = {"variable_broadcast": "params"} if self.shared else {"variable_axes": {"params": self.axis}}
        scanned = nn.scan(Layer, **options, split_rngs={"params": not self.shared}, length=3, in_axes=nn.broadcast)
        return nn.Dense(4)(scanned(name="layers")(x, None)[0])


@pytest.mark.parametrize(
    "module",
    [Stack(1), pytest.param(Stack(-1), marks=pytest.mark.slow), Stack(0, shared=True)],
    ids=["1", "-1", "shared"],
)
def test_scanned_modules(module):
    check(module, module.init(jax.random.key(3), X), X)


def test_a_table_that_also_makes_logits_is_sized_for_them():
    network = pair(lambda p, t: jnp.tanh(p["e"][t] @ p["w"]) @ p["e"].T, e=(50, 32), w=(32, 32))
    made = check(network, network[0](jax.random.key(2)), TOKENS)
    assert qrjax.measure(network, made, TOKENS).weights[0].measured_second_moment < 0.3  # the look-up gets the rest


def test_what_no_scale_brings_to_the_target_is_said_and_left():
    # 0 by its mean; and a normalized product.
    def run(p, x):
        w = p["w"] * lax.rsqrt(jnp.mean(p["w"] ** 2))
        return jnp.tanh(x @ p["v"]) @ w.reshape(32, 32)

    network = pair(run, **WV)
    variables = network[0](jax.random.key(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = qrjax.calibrate(network, variables, X, target=TARGET)
    rows = qrjax.measure(network, made, X).weights
    if "w" in {row.weight for row in rows}:
        told = [c for c in caught if issubclass(c.category, qrjax.CalibrationWarning) and "w (" in str(c.message)]
        assert {c.filename for c in told} == {__file__}
    np.testing.assert_array_equal(made["w"], variables["w"])
    assert deciding(rows, "v") == pytest.approx(TARGET, rel=0.01)
