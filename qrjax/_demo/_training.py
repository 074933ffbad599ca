"""Training of one network per seed, all seeds side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from qrjax._datasets._dataset import Dataset
from qrjax._demo._model import Classifier, KernelInit
from qrjax._experiments._training import Data, on_device

BATCH = 32
LEARNING_RATE = 1e-3
OPTIMIZER = optax.adam(LEARNING_RATE)

# Called with the epochs done and the mean test accuracy.
Report = Callable[[int, float], None]


class State(NamedTuple):
    params: Any
    optimizer: Any
    key: Array  # of the order of the images; the same for every initializer


class History(NamedTuple):
    """One initializer's training."""

    name: str
    losses: np.ndarray[Any, Any]  # (seeds, epochs, minibatches), cross-entropy in nats
    accuracies: np.ndarray[Any, Any]  # (seeds, epochs), share of the test images
    seconds: float  # with the compilation of the initializer, without that of the training


class Trainer:
    """Trains networks of `seeds` seeds on `digits`; compiled once for all initializers."""

    def __init__(self, digits: Dataset, seeds: int) -> None:
        self._digits = on_device(digits)
        self._seeds = jnp.arange(seeds)
        start = time.perf_counter()
        states = jax.eval_shape(partial(_initial, Classifier()), self._digits, self._seeds)
        self._epoch = jax.jit(jax.vmap(_epoch, in_axes=(None, 0))).lower(self._digits, states).compile()
        self.compilation_seconds = time.perf_counter() - start

    def train(self, name: str, kernel_init: KernelInit, epochs: int, report: Report) -> History:
        start = time.perf_counter()
        states = jax.jit(partial(_initial, Classifier(kernel_init)))(self._digits, self._seeds)
        losses, accuracies = [], []
        for epoch in range(epochs):
            states, (loss, accuracy) = self._epoch(self._digits, states)
            losses.append(np.asarray(loss))
            accuracies.append(np.asarray(accuracy))
            report(epoch + 1, float(accuracies[-1].mean()))
        return History(name, np.stack(losses, 1), np.stack(accuracies, 1), time.perf_counter() - start)


def _initial(network: Classifier, digits: Data, seeds: Array) -> State:
    def one(seed: Array) -> State:
        weights, order = jax.random.split(jax.random.key(seed))
        params = network.init(weights, digits.train_inputs[:1])
        return State(params, OPTIMIZER.init(params), order)

    return jax.vmap(one)(seeds)


def _epoch(digits: Data, state: State) -> tuple[State, tuple[Array, Array]]:
    """One pass over the training images in a new order; the minibatches' losses, and the test accuracy after it."""
    key, shuffle = jax.random.split(state.key)
    steps = len(digits.train_labels) // BATCH
    order = jax.random.permutation(shuffle, len(digits.train_labels))[: steps * BATCH]
    state, losses = lax.scan(partial(_step, digits), state._replace(key=key), order.reshape(steps, BATCH))
    hits = jnp.argmax(_logits(state.params, digits.test_inputs), -1) == digits.test_labels
    return state, (losses, hits.mean())


def _step(digits: Data, state: State, batch: Array) -> tuple[State, Array]:
    def loss(params: Any) -> Array:
        logits = _logits(params, digits.train_inputs[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, digits.train_labels[batch]).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    updates, optimizer = OPTIMIZER.update(gradients, state.optimizer)
    return State(optax.apply_updates(state.params, updates), optimizer, state.key), value


def _logits(params: Any, images: ArrayLike) -> Array:
    # Any kernel_init: it is not used once there are parameters.
    return jnp.asarray(Classifier().apply(params, images))
