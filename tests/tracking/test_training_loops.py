"""Training loops as Flax's examples write them, with a gradual schedule inside the compiled step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, nnx
from flax.training import train_state

import qrjax

KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (8, 6)), jnp.arange(8) % 4


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        return nn.Dense(4)(nn.Dropout(0.2, deterministic=not train)(nn.relu(x)))


class TrainState(train_state.TrainState):
    batch_stats: Any
    mask: Any


def test_a_train_state_with_statistics_and_a_cubic_schedule():
    def init():
        return Network().init({"params": KEY, "dropout": KEY}, X)

    variables = jax.jit(init)()
    every = jax.tree.map(lambda w: jnp.ones(w.shape, bool), variables["params"])
    state = TrainState.create(
        apply_fn=Network().apply, params=variables["params"], tx=optax.adamw(0.01),
        batch_stats=variables["batch_stats"], mask=every,
    )  # fmt: skip

    @jax.jit
    def train_step(state, rng):
        def loss(params):
            logits, new = state.apply_fn(
                {"params": params, "batch_stats": state.batch_stats}, X, train=True, mutable=["batch_stats"],
                rngs={"dropout": rng},
            )  # fmt: skip
            return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean(), new["batch_stats"]

        gradients, statistics = jax.grad(loss, has_aux=True)(state.params)
        state = state.apply_gradients(grads=gradients, batch_stats=statistics)
        # Params alone against an init function of all variables.
        sparsity = 0.75 * (1 - (1 - jnp.minimum(1.0, state.step / 4)) ** 3)
        mask = qrjax.mask(init, state.params, sparsity=sparsity, within=state.mask)
        return state.replace(params=qrjax.prune(state.params, mask), mask=mask)

    gone = []
    with jax.numpy_dtype_promotion("standard"):  # optax's and Flax's own arithmetic needs it
        for step in range(6):
            before = state.mask
            state = train_step(state, jax.random.fold_in(KEY, step))
            assert jax.tree.all(jax.tree.map(lambda now, old: bool((old | ~now).all()), state.mask, before))
            gone.append([int(jnp.sum(state.params[f"Dense_{i}"]["kernel"] == 0)) for i in (0, 1)])
    shares = [0.75 * (1 - (1 - min(1, n / 4)) ** 3) for n in range(1, 7)]
    assert gone == [[int(s * 96 + 0.5), int(s * 64 + 0.5)] for s in shares]
    assert train_step._cache_size() == 2  # the step that a state begins with is Python's number, later ones are not


def test_replicas_of_pmap():
    params = jax_utils.replicate(jax.jit(Network().init)(KEY, X)["params"])

    def half(params):
        return qrjax.prune(params, qrjax.mask(None, params, criterion="magnitude", sparsity=0.5))

    pruned = jax_utils.unreplicate(jax.pmap(half)(params))
    assert int(jnp.sum(pruned["Dense_0"]["kernel"] == 0)) == 48


class Model(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(6, 16, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def test_an_nnx_loop():
    model = Model(nnx.Rngs(0))
    mask = qrjax.mask(lambda: Model(nnx.Rngs(0)), model, criterion="magnitude", sparsity=0.5)
    model = qrjax.prune(model, mask)
    optimizer = nnx.Optimizer(model, qrjax.keep_pruned(optax.adamw(0.01, weight_decay=0.1), mask), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(X), Y).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    @nnx.jit
    def prune_step(model, sparsity):
        params = nnx.state(model, nnx.Param)
        nnx.update(model, qrjax.prune(params, qrjax.mask(None, params, criterion="magnitude", sparsity=sparsity)))

    begin = np.array(model.head.kernel[...])
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            train_step(model, optimizer)
    after = np.array(model.head.kernel[...])
    gone = ~np.asarray(mask["head"]["kernel"][...])
    assert (after[gone] == 0).all()
    assert (after[~gone] != begin[~gone]).all()
    prune_step(model, 0.75)
    more = np.array(model.head.kernel[...]) == 0
    assert more.sum() == 48
    assert more[gone].all()
