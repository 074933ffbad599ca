"""The optax transformation: alone, within optax's and Flax's own, in every dtype, and what it refuses."""

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import qrjax

PARAMS = {"dense": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}, "layers": jnp.ones((3, 2, 2))}
RATES = {"dense": {"kernel": 0.25, "bias": 2.0}, "layers": np.array([1.0, 2.0, 4.0], np.float32).reshape(3, 1, 1)}


def step(transformation, updates, params=None):
    return transformation.update(updates, transformation.init(params or updates), params)[0]


def expected(updates=PARAMS):
    return jax.tree.map(lambda u, m: u * jnp.asarray(m, u.dtype), updates, RATES)


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32)), found, wanted
    )
    assert [a.dtype for a in jax.tree.leaves(found)] == [b.dtype for b in jax.tree.leaves(wanted)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_updates_times_their_numbers_in_their_own_dtype(dtype):
    updates = jax.tree.map(lambda w: w.astype(dtype), PARAMS)
    same(step(qrjax.scale_by_width(RATES), updates), expected(updates))
    same(jax.jit(lambda u: step(qrjax.scale_by_width(RATES), u))(updates), expected(updates))


def test_half_precision_is_rounded_once():
    update, rate = jnp.asarray([1.0 + 2**-7], jnp.bfloat16), 1.0 + 2**-8
    found = step(qrjax.scale_by_width({"w": rate}), {"w": update})["w"]
    assert found[0] == jnp.asarray((1.0 + 2**-7) * rate, jnp.bfloat16)


def test_containers_holes_and_none():
    scaled = qrjax.scale_by_width(RATES)
    same(step(scaled, flax.core.freeze(PARAMS)), flax.core.freeze(expected()))
    holes = {"dense": {"kernel": PARAMS["dense"]["kernel"], "bias": optax.MaskedNode()}, "layers": None}
    found = step(scaled, holes)
    assert found["layers"] is None
    assert found["dense"]["bias"] == optax.MaskedNode()
    np.testing.assert_array_equal(found["dense"]["kernel"], 0.25 * np.ones((4, 2)))
    boxed = {"w": nn.Partitioned(jnp.ones(3), ("x",))}
    assert step(qrjax.scale_by_width({"w": 0.5}), boxed)["w"].value.tolist() == [0.5] * 3


def test_masked_multi_transform_and_injected():
    kernels = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", PARAMS)
    masked = step(optax.masked(qrjax.scale_by_width(RATES), kernels), PARAMS)
    same(masked, {"dense": {"kernel": expected()["dense"]["kernel"], "bias": jnp.ones(2)}, "layers": PARAMS["layers"]})
    labels = jax.tree.map(lambda kernel: "a" if kernel else "b", kernels)
    parts = {"a": qrjax.scale_by_width(RATES), "b": optax.chain(qrjax.scale_by_width(RATES), optax.scale(2.0))}
    both = step(optax.multi_transform(parts, labels), PARAMS)
    same(both, jax.tree.map(lambda e, k: e if k else 2 * e, expected(), kernels))

    @optax.inject_hyperparams
    def made(learning_rate):
        return optax.chain(qrjax.scale_by_width(RATES), optax.scale(-learning_rate))

    injected = made(learning_rate=optax.linear_schedule(1.0, 0.5, 10))
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic
        same(step(injected, PARAMS), jax.tree.map(lambda e: -e, expected()))


def test_weight_decay_behind_is_the_same_share_of_every_weight():
    gradients = jax.tree.map(jnp.zeros_like, PARAMS)
    behind = optax.chain(qrjax.scale_by_width(RATES), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(0.5))
    before = optax.chain(optax.add_decayed_weights(0.1), qrjax.scale_by_width(RATES), optax.scale_by_learning_rate(0.5))
    for found, wanted in ((step(behind, gradients, PARAMS), PARAMS), (step(before, gradients, PARAMS), expected())):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -0.05 * b, rtol=1e-6), found, wanted)


def test_an_nnx_optimizer_and_muon_train_with_it():
    model = nnx.Sequential(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(16, 4, rngs=nnx.Rngs(1)))
    x, labels = jax.random.normal(jax.random.key(0), (32, 8)), jnp.arange(32) % 4
    model = qrjax.autoinit(model, x, head=0.0)
    rates = qrjax.learning_rates(model, x, head=0.0, optimizer="muon")
    optimizer = nnx.Optimizer(
        model, optax.chain(optax.contrib.muon(0.1), qrjax.scale_by_width(rates)), wrt=nnx.Param
    )  # fmt: skip

    @nnx.jit
    def train(model, optimizer):
        def loss(model):
            return optax.losses.softmax_cross_entropy_with_integer_labels(model(x), labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax's own arithmetic
        losses = [float(train(model, optimizer)) for _ in range(25)]
    assert losses[0] == pytest.approx(np.log(4), rel=1e-5)
    assert losses[-1] < 0.7 * losses[0]


def test_sharded_updates_stay_where_they_are():
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    updates = {"w": jax.device_put(jnp.ones((4, 8 * jax.device_count())), place)}
    found = jax.jit(lambda u: step(qrjax.scale_by_width({"w": 0.5}), u))(updates)
    assert found["w"].sharding.is_equivalent_to(place, 2)


def test_multipliers_go_with_a_record():
    layer, x = nn.Dense(8), jax.ShapeDtypeStruct((4, 6), jnp.float32)
    rates = qrjax.learning_rates(layer, x)
    record = qrjax.record(layer, x)
    assert record.rates is None
    carrying = record.with_rates(rates)
    for found in (carrying, qrjax.Record.from_json(carrying.to_json())):
        assert found.rates == rates
    assert carrying != record
    with pytest.raises(ValueError, match="`rates` lacks 'bias', which the record has"):
        record.with_rates({"kernel": 1.0})
    with pytest.raises(TypeError, match="got 'fast' of type str at 'bias'"):
        record.with_rates(rates | {"bias": "fast"})


def test_a_stack_goes_with_a_record():
    def init(key, x):
        return {"w": jax.random.normal(key, (3, x.shape[-1], 6))}

    def apply(params, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["w"])[0]

    x = jax.ShapeDtypeStruct((4, 6), jnp.float32)
    rates = qrjax.learning_rates((init, apply), x)
    again = qrjax.Record.from_json(qrjax.record((init, apply), x).with_rates(rates).to_json()).rates
    np.testing.assert_array_equal(again["w"], rates["w"])
    assert again["w"].dtype == np.float32


WRONG = {
    "text": ({"w": "fast"}, TypeError, "`rates` must hold numbers, got 'fast' of type str at 'w'"),
    "negative": ({"w": -1.0}, ValueError, "finite numbers of 0 or more, got -1.0 .*at 'w'"),
    "endless": ({"w": float("inf")}, ValueError, "got inf .*at 'w'"),
    "empty": ({}, ValueError, "`rates` must be a tree of numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rates(name):
    rates, kind, text = WRONG[name]
    with pytest.raises(kind, match=text):
        qrjax.scale_by_width(rates)


def test_wrong_structures_are_named_by_their_path():
    scaled = qrjax.scale_by_width(RATES)
    with pytest.raises(ValueError, match=r"no number for the parameter 'dense/kernle', .*mean 'dense/kernel'"):
        scaled.init({"dense": {"kernle": jnp.ones(2)}})
    with pytest.raises(ValueError, match=r"use \{'params': rates\}"):
        scaled.init({"params": PARAMS})
    with pytest.raises(ValueError, match=r"use rates\['params'\]"):
        qrjax.scale_by_width({"params": RATES}).init(PARAMS)
    with pytest.raises(ValueError, match=r"shape \(3, 1, 1\) at 'layers', which does not broadcast .*\(2, 2, 2\)"):
        scaled.init(PARAMS | {"layers": jnp.ones((2, 2, 2))})
