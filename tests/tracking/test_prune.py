"""Pruning, training what is left, and how much can go."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import same_leaves, trained

import qrjax

KEY = jax.random.key(8)


def make(dtype="float32"):
    """Of few shapes, since each compiles."""
    keys = jax.random.split(KEY, 3)
    return {
        "a": {"kernel": qrjax.he_normal_hash()(keys[0], (13, 13), dtype), "bias": jnp.zeros(13, dtype)},
        "b": {"kernel": qrjax.orthogonal_qr()(keys[1], (13, 13), "float32"), "bias": jnp.full(13, 0.25)},
        "c": jax.nn.initializers.he_normal()(keys[2], (13, 9)),
    }


def by_hand(tree):
    return jax.tree.map(lambda x: jnp.asarray(trained(x, seed=x.size, share=1.0)), tree)


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=pytest.mark.slow), "float32"])
def test_to_zero_and_to_the_initial_bits(dtype):
    begin = make(dtype)
    now = by_hand(begin)
    before = jax.tree.map(np.array, now)
    mask = qrjax.mask(None, now, criterion="random", sparsity=0.6, select="*")
    zero = jax.tree.map(lambda m, x: np.where(m, x, np.zeros_like(x)), mask, before)
    first = jax.tree.map(lambda m, x, x0: np.where(m, x, x0), mask, before, jax.tree.map(np.array, begin))
    record = qrjax.record(lambda key: make(dtype), key=KEY, by="init")  # noqa: ARG005
    same_leaves(qrjax.prune(now, mask), zero)
    for form in (functools.partial(make, dtype), record, begin):
        rewound = qrjax.prune(now, mask, to="initial", record_or_init_fn=form)
        same_leaves(rewound, first)
        off = sum(int(np.sum(~np.asarray(m))) for m in jax.tree.leaves(mask))
        assert qrjax.changes(form, rewound).total.sleeping >= off
    same_leaves(now, before)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(), (3,), (2, 5)]), st.sampled_from(["float32", "bfloat16", "float64"]), st.integers(0, 99))
def test_any_mask_on_numpy_arrays(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=shape).astype(jnp.dtype(dtype)).reshape(shape)}
    begin = {"w": rng.normal(size=shape).astype(jnp.dtype(dtype)).reshape(shape)}
    mask = {"w": np.asarray(rng.random(shape) < 0.5)}
    same_leaves(qrjax.prune(params, mask), {"w": np.where(mask["w"], params["w"], np.zeros_like(params["w"]))})
    same_leaves(qrjax.prune(params, mask, "initial", begin), {"w": np.where(mask["w"], params["w"], begin["w"])})


def test_an_nnx_module_gives_a_new_one():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(6, 5, kernel_init=qrjax.he_normal_hash(), rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)

    def build():
        return Model(nnx.Rngs(3))

    model = build()
    model.layer.kernel[...] = model.layer.kernel[...] + 1
    kernel = np.array(model.layer.kernel[...])
    mask = qrjax.mask(None, model, criterion="magnitude", sparsity=0.5)
    there = np.asarray(mask["layer"]["kernel"][...])
    assert there.sum() == 15
    for to, other in (("zero", np.zeros_like(kernel)), ("initial", np.asarray(build().layer.kernel[...]))):
        new = qrjax.prune(model, mask, to, build)
        assert isinstance(new, Model)
        assert new is not model
        np.testing.assert_array_equal(new.layer.kernel[...], np.where(there, kernel, other))
        np.testing.assert_array_equal(model.layer.kernel[...], kernel)


OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adamw": optax.adamw(0.01, weight_decay=0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.02)),
    "weights grow": optax.chain(optax.scale(0.1), optax.add_decayed_weights(-0.01)),
}


FAST = [("adamw", "initial"), ("clipped", "zero")]
REST = [case for case in itertools.product(OPTIMIZERS, ("zero", "initial")) if case not in FAST]


@pytest.mark.few("adamw-initial")
@pytest.mark.parametrize(("name", "to"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)])
def test_pruned_weights_stay_and_others_train_as_if_alone(name, to):
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((16, n), np.float32) for n in (13, 9))

    def loss(p):
        h = jnp.tanh(x @ p["a"]["kernel"] + p["a"]["bias"][None])
        return jnp.mean(((h @ p["b"]["kernel"] + p["b"]["bias"][None]) @ p["c"] - y) ** 2)

    now = by_hand(make())
    mask = qrjax.mask(make, now, sparsity=0.7)
    params = start = qrjax.prune(now, mask, to, make)
    optimizer = qrjax.keep_pruned(OPTIMIZERS[name], mask)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    # By hand: the surviving weights are the only ones that there are.
    pick = [np.nonzero(np.ravel(m))[0] for m in jax.tree.leaves(mask)]
    tree, shapes = jax.tree.structure(params), [p.shape for p in jax.tree.leaves(params)]

    def spread(vectors):
        flat = [np.ravel(p) for p in jax.tree.leaves(start)]
        full = [jnp.asarray(f).at[i].set(v).reshape(s) for f, i, v, s in zip(flat, pick, vectors, shapes, strict=True)]
        return jax.tree.unflatten(tree, full)

    alone = [jnp.ravel(p)[i] for p, i in zip(jax.tree.leaves(start), pick, strict=True)]
    own = OPTIMIZERS[name].init(alone)

    @jax.jit
    def own_step(alone, own):
        updates, own = OPTIMIZERS[name].update(jax.grad(lambda v: loss(spread(v)))(alone), own, alone)
        return optax.apply_updates(alone, updates), own

    # Adam makes steps of rounding errors, and a GPU multiplies matrices with 10 bits unless it is asked not to.
    with jax.numpy_dtype_promotion("standard"), jax.default_matmul_precision("highest"):  # optax needs the former
        for _ in range(20):
            params, state = step(params, state)
            alone, own = own_step(alone, own)
    moved = 0
    for m, p, s, v, i in zip(*map(jax.tree.leaves, (mask, params, start)), alone, pick, strict=True):
        off = ~np.asarray(m)
        assert np.asarray(p)[off].tobytes() == np.asarray(s)[off].tobytes()
        moved += int(np.sum(np.asarray(p) != np.asarray(s)))
        np.testing.assert_allclose(np.ravel(p)[i], v, rtol=2e-4, atol=2e-6)
    assert moved > 0.9 * sum(map(len, pick))


def test_pruned_passes_extra_arguments_on():
    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    optimizer = qrjax.keep_pruned(inner, {"w": jnp.array([True, False])})
    params = {"w": jnp.ones(2)}
    updates, _ = optimizer.update({"w": jnp.full(2, 3.0)}, optimizer.init(params), params, value=2.0)
    assert updates["w"].tolist() == [6.0, 0.0]


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.norm = nnx.Linear(4, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.layer(x))


@pytest.mark.slow
def test_pruned_trains_an_nnx_model():
    model = Normed(nnx.Rngs(0))
    mask = qrjax.mask(None, model, criterion="magnitude", sparsity=0.5)
    model = qrjax.prune(model, mask)
    begin = np.array(model.layer.kernel[...])
    tx = qrjax.keep_pruned(optax.sgd(0.1, momentum=0.9), nnx.filter_state(mask, nnx.Param))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    x = jax.random.normal(KEY, (8, 4))
    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(x)[:, 0] - x[:, 0]) ** 2))(model))
    off = ~np.asarray(mask["layer"]["kernel"][...])
    assert off.sum() == 6
    after = np.asarray(model.layer.kernel[...])
    assert not np.flatnonzero(after[off]).size, f"pruned weights that training moved: {after[off]}"
    still = (after[:, :1] == begin[:, :1]) & ~off[:, :1]
    assert not still.any(), f"weights of the trained column that are not pruned and did not move: {np.argwhere(still)}"


# 64 weights 1, 2, ..., 64; the loss is a function of how many are left.
PARAMS = {"w": jnp.arange(1.0, 65.0).reshape(8, 8)}


def count(params):
    return int((np.asarray(params["w"]) != 0).sum())


def search(loss, tolerance, **options):
    return qrjax.max_sparsity(
        loss, None, PARAMS, tolerance, criterion="magnitude", **{"progress": False, **options}
    )  # fmt: skip


@pytest.mark.few("0", "5", "64")
@pytest.mark.parametrize("left", [0, 1, 5, 63, 64])
def test_the_known_largest_sparsity(left):
    found = search(lambda p: 0.0 if count(p) >= left else 1.0, 0.5)
    assert count(found.params) == left
    assert int(found.mask["w"].sum()) == left
    assert (found.loss, found.baseline) == (0.0, 0.0)
    # One weight more is half a weight of sparsity away at most, and the search ends 2**-10 from that.
    assert abs(found.sparsity - (64 - left) / 64) <= 0.5 / 64 + 2**-10
    same_leaves(qrjax.mask(None, PARAMS, criterion="magnitude", sparsity=found.sparsity), found.mask)


def test_a_tolerance_of_zero_is_met_exactly():
    found = search(lambda p: float(np.sum(np.maximum(0, 40 - count(p)))), 0.0)
    assert (count(found.params), found.loss) == (40, 0.0)
    assert search(lambda p: float(-count(p)), 0).sparsity < 0.5 / 64


def test_what_is_found_satisfies_the_tolerance_where_the_loss_goes_up_and_down():
    rng = np.random.default_rng(3)
    bumps = np.append(rng.uniform(0, 1, 64), 0.0)
    for tolerance in (0.0, 0.05, 0.3, 0.9):
        found = search(lambda p: float(bumps[count(p)]), tolerance)
        assert found.loss <= tolerance
        assert found.loss == bumps[count(found.params)]


def test_steps_bound_the_number_of_losses():
    calls = []
    search(lambda p: calls.append(count(p)) or float(64 - count(p)), 10.0, steps=3)
    assert len(calls) == 6  # before, at 0, at 1, and three halvings
    assert search(lambda p: float("nan") if count(p) < 50 else 0.0, 0.1).sparsity == pytest.approx(14 / 64, abs=0.01)


def test_rewinding_to_initial_values():
    begin = {"w": PARAMS["w"] + jnp.where(PARAMS["w"] > 60, 5.0, 0.0)}
    found = qrjax.max_sparsity(
        lambda p: float(jnp.sum(jnp.abs(p["w"] - PARAMS["w"]))), begin, PARAMS, 1.0, to="initial", progress=False
    )
    assert int(found.mask["w"].sum()) == 4
    assert found.loss == 0.0


def test_the_progress_bar_is_on_standard_error(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    search(lambda p: float(64 - count(p)), 32.0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "sparsity 0.5" in err
    search(lambda p: float(64 - count(p)), 32.0)
    assert capsys.readouterr() == ("", "")
