"""`keep_pruned` in optax's wrappers and around them: what is gone stays gone, all else trains as without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state
from tracked import same_leaves

import qrjax

DRAWS = np.random.default_rng(8)
PARAMS = {
    "encoder": {
        "kernel": jnp.asarray(DRAWS.normal(size=(5, 4)), "float32"),
        "bias": jnp.asarray(np.ones(4, "float32")),
    },
    "head": {"kernel": jnp.asarray(DRAWS.normal(size=(4, 3)), "float32"), "bias": jnp.asarray(np.ones(3, "float32"))},
}
X, Y = (jnp.asarray(DRAWS.normal(size=(8, n)), "float32") for n in (5, 3))
LABELS = {"encoder": "slow", "head": {"kernel": "fast", "bias": "none"}}
ONE = {"encoder": {"kernel": True, "bias": False}, "head": True}


@functools.cache
def half():
    """A mask of half of the params."""
    return qrjax.mask(None, PARAMS, criterion="magnitude", sparsity=0.5)


@functools.cache
def start():
    return qrjax.prune(PARAMS, half())


def adam():
    return optax.adamw(0.05, weight_decay=0.1)


def loss(params):
    h = jnp.tanh(X @ params["encoder"]["kernel"] + params["encoder"]["bias"][None])
    return jnp.mean((h @ params["head"]["kernel"] + params["head"]["bias"][None] - Y) ** 2)


# Each takes what wraps an optimizer: keep_pruned, or nothing in its place.
WRAPPERS = {
    "partition": lambda keep: optax.partition(
        {"slow": keep(optax.sgd(0.1, momentum=0.9)), "fast": keep(adam()), "none": optax.set_to_zero()}, LABELS
    ),
    "multi_transform": lambda keep: optax.multi_transform(
        {"slow": keep(adam()), "fast": optax.sgd(0.1), "none": keep(adam())}, lambda _: LABELS
    ),
    "masked": lambda keep: optax.masked(keep(adam()), ONE),
    "around partition": lambda keep: keep(
        optax.partition({"slow": adam(), "fast": optax.sgd(0.1), "none": optax.sgd(0.1)}, LABELS)
    ),
    "around masked": lambda keep: keep(optax.masked(adam(), ONE)),
    "chain": lambda keep: optax.chain(optax.clip_by_global_norm(0.5), keep(adam())),
    "several steps": lambda keep: optax.MultiSteps(keep(adam()), 2).gradient_transformation(),
    "hyperparameters": lambda keep: optax.inject_hyperparams(lambda rate: keep(optax.sgd(rate, momentum=0.5)))(
        rate=0.1
    ),
    "if finite": lambda keep: optax.apply_if_finite(keep(adam()), 3),
    "schedule-free": lambda keep: keep(optax.contrib.schedule_free_sgd(0.1)),
}


def run(optimizer, params, steps=4):
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(getattr(params, "fast", params)), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def assert_kept(params):
    moved = 0
    for p, m, s in zip(*map(jax.tree.leaves, (params, half(), start())), strict=True):
        gone = ~np.asarray(m)
        assert np.asarray(p)[gone].tobytes() == np.asarray(s)[gone].tobytes()
        moved += int(np.sum(np.asarray(p) != np.asarray(s)))
    assert moved > 0


def some(*fast):
    """The others in the slow part."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in WRAPPERS]


@pytest.mark.parametrize("name", some("partition", "masked", "around partition", "chain"))
def test_inside_and_around_wrappers(name):
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic needs it
        if name not in ("partition", "multi_transform"):
            assert_kept(run(WRAPPERS[name](lambda optimizer: qrjax.keep_pruned(optimizer, half())), start()))
            return
        # One of the inner optimizers has no mask, or there is none for what stands still.
        found = run(WRAPPERS[name](lambda optimizer: qrjax.keep_pruned(optimizer, half())), start())
        assert bool(jnp.all((found["encoder"]["kernel"] != 0) == half()["encoder"]["kernel"]))
        assert bool(jnp.all((found["head"]["kernel"] != 0) == half()["head"]["kernel"])) == (name == "partition")


@pytest.mark.parametrize("name", some("partition", "around masked"))
def test_a_mask_of_all_changes_nothing(name):
    every = jax.tree.map(jnp.ones_like, half())
    with jax.numpy_dtype_promotion("standard"):
        with_it = run(WRAPPERS[name](lambda optimizer: qrjax.keep_pruned(optimizer, every)), PARAMS, 2)
        without = run(WRAPPERS[name](lambda optimizer: optimizer), PARAMS, 2)
    for a, b in zip(jax.tree.leaves(with_it), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("order", ["inside", "around"])
def test_lookahead(order):
    if order == "inside":
        optimizer = optax.lookahead(qrjax.keep_pruned(adam(), half()), 2, 0.5)
    else:
        optimizer = qrjax.keep_pruned(optax.lookahead(adam(), 2, 0.5), half())

    with jax.numpy_dtype_promotion("standard"):
        params = optax.LookaheadParams.init_synced(start())
        params = run(optimizer, params)
    assert_kept(params.fast)
    assert_kept(params.slow)


def test_flax_train_state_and_what_optax_asks_of_a_state():
    optimizer = qrjax.keep_pruned(adam(), half())
    state = train_state.TrainState.create(apply_fn=None, params=start(), tx=optimizer)
    with jax.numpy_dtype_promotion("standard"):
        step = jax.jit(lambda state: state.apply_gradients(grads=jax.grad(loss)(state.params)))
        for _ in range(2):
            state = step(state)
    assert_kept(state.params)
    # Such as for the sharding of a state: which of its parts are like the params.
    marked = optax.tree.map_params(optimizer, lambda _: "params", state.opt_state)
    assert jax.tree.leaves(marked).count("params") == 8


def test_masks_with_parts_left_out():
    mask = {"encoder": half()["encoder"], "head": optax.MaskedNode()}
    same_leaves(qrjax.prune(PARAMS, mask), {"encoder": start()["encoder"], "head": PARAMS["head"]})
    part = {"encoder": {"kernel": PARAMS["encoder"]["kernel"], "bias": optax.MaskedNode()}, "head": optax.MaskedNode()}
    same_leaves(qrjax.prune(part, half())["encoder"]["kernel"], start()["encoder"]["kernel"])
    with pytest.raises(ValueError, match="the mask lack 'encoder/bias'"):
        qrjax.prune(PARAMS, {"encoder": {"kernel": half()["encoder"]["kernel"]}, "head": optax.MaskedNode()})


def test_partitions_of_an_nnx_model():
    model = nnx.Sequential(nnx.Linear(5, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 3, rngs=nnx.Rngs(1)))
    mask = qrjax.mask(None, model, criterion="magnitude", sparsity=0.5)
    model = qrjax.prune(model, mask)

    def labels(params):
        return jax.tree.map_with_path(lambda path, _: "b" if "bias" in jax.tree_util.keystr(path) else "k", params)

    tx = optax.partition({"k": qrjax.keep_pruned(adam(), mask), "b": optax.sgd(0.1)}, labels)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(X) - Y) ** 2))(model))

    begin = jax.tree.map(np.array, nnx.state(model))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            step(model, optimizer)
    for m, now, old in zip(*map(jax.tree.leaves, (mask, nnx.state(model), begin)), strict=True):
        assert (np.asarray(now)[~np.asarray(m)] == 0).all()
        assert (np.asarray(now) != old).any()


@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_the_mask_of_all_variables_is_one_of_the_params(framework):
    statistics = {"norm": {"mean": jnp.zeros(3)}}
    if framework == "linen":
        variables, params = {"params": PARAMS, "batch_stats": statistics}, PARAMS
    else:
        variables = nnx.state(nnx.Dict(w=nnx.Param(PARAMS["head"]["kernel"]), mean=nnx.BatchStat(jnp.zeros(3))))
        params = nnx.filter_state(variables, nnx.Param)
    mask = qrjax.mask(None, variables, criterion="magnitude", sparsity=0.5)
    optimizer = qrjax.keep_pruned(optax.identity(), mask)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert sum(int(jnp.sum(x == 0)) for x in jax.tree.leaves(updates)) == (16 if framework == "linen" else 6)
    same_leaves(updates, qrjax.prune(params, mask))
    # And the other way round: the params' mask is one of all variables.
    own = qrjax.mask(None, params, criterion="magnitude", sparsity=0.5)
    same_leaves(qrjax.prune(variables, own), qrjax.prune(variables, mask))
    more = {"criterion": "magnitude", "sparsity": 0.8}
    same_leaves(qrjax.mask(None, variables, within=own, **more), qrjax.mask(None, variables, within=mask, **more))


# --- JAX keys among the variables


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(6, 5, kernel_init=qrjax.he_normal_hash(), rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.own = rngs.fork()

    def __call__(self, x):
        return self.drop(self.layer(x))


def test_modules_that_hold_keys():
    model = Dropped(nnx.Rngs(0, dropout=1))
    kernel = np.array(model.layer.kernel[...])
    keys = [np.asarray(jax.random.key_data(k)) for k in jax.tree.leaves(nnx.state(model)) if _is_key(k)]
    assert len(keys) >= 2
    mask = qrjax.mask(None, model, criterion="magnitude", sparsity=0.5)
    for to in ("zero", "initial"):
        new = qrjax.prune(model, mask, to, lambda: Dropped(nnx.Rngs(0, dropout=1)))
        after = [np.asarray(jax.random.key_data(k)) for k in jax.tree.leaves(nnx.state(new)) if _is_key(k)]
        assert all((a == b).all() for a, b in zip(keys, after, strict=True))
        assert new(jnp.ones((2, 6))).shape == (2, 5)
    found = qrjax.max_sparsity(
        lambda m: jnp.sum(m.layer.kernel[...] == 0).astype(jnp.float32), None, model, 10.0, criterion="magnitude",
        progress=False,
    )  # fmt: skip
    assert int((np.asarray(found.params.layer.kernel[...]) == 0).sum()) == 10
    assert qrjax.changes(lambda: Dropped(nnx.Rngs(0, dropout=1)), found.params).total.changed == 10
    assert (np.asarray(model.layer.kernel[...]) == kernel).all()


def _is_key(value):
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def test_collections_that_hold_keys():
    variables = {"params": PARAMS, "noise": {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(4), 2)}}
    mask = qrjax.mask(None, variables, criterion="magnitude", sparsity=0.5)
    same_leaves(mask["params"], half())
    assert jax.tree.structure(mask) == jax.tree.structure(variables)
    for new in (qrjax.prune(variables, mask), jax.jit(qrjax.prune)(variables, mask)):
        same_leaves(new["params"], start())
        assert new["noise"]["key"] == variables["noise"]["key"]
    found = qrjax.max_sparsity(lambda v: np.float32(0), None, variables, 0.0, criterion="magnitude", progress=False)  # noqa: ARG005
    assert found.sparsity == 1.0
    assert qrjax.changes({"params": PARAMS, "noise": variables["noise"]}, found.params).total.changed == 32
    optimizer = qrjax.keep_pruned(optax.identity(), mask)
    updates, _ = optimizer.update(variables, optimizer.init(variables), variables)
    same_leaves(updates["params"], start())
