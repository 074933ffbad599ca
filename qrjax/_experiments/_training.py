"""Training of one network for each seed, all seeds side by side."""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from qrjax._autoinit._initialize import autoinit
from qrjax._datasets._dataset import Dataset
from qrjax._experiments._initializers import FAMILIES
from qrjax._experiments._settings import Settings
from qrjax._initializers._initializer import RankCollapseWarning
from qrjax._sweep import _memory

# Test examples whose activations are held at once, for each seed.
EVALUATED = 1024
# Training examples by which autoinit sees what comes in.
SAMPLE = 64


class Data(NamedTuple):
    """What the program reads, on the device once for all."""

    train_inputs: Array
    train_labels: Array
    test_inputs: Array
    test_labels: Array


class State(NamedTuple):
    params: Any
    optimizer: Any
    key: Array  # of the order of the examples: the same for every initializer


class Trained(NamedTuple):
    """One network of each seed, trained.

    Attributes:
      losses: (seeds, epochs), mean training loss of the epoch, in nats.
      accuracies: (seeds, epochs), share of the test examples after the epoch.
      initialize_seconds, train_seconds: of one seed, without compiling the training.
    """

    losses: np.ndarray[Any, Any]
    accuracies: np.ndarray[Any, Any]
    initialize_seconds: float
    train_seconds: float


class Trainer:
    """The training of one kind of network, compiled once for all initializers."""

    def __init__(
        self, settings: Settings, data: Dataset, seeds: int, chunk: int | None, placed: Data | None = None
    ) -> None:
        self._data = on_device(data) if placed is None else placed
        self._tests = len(data.test_labels)
        self._optimizer = {"adam": optax.adam, "sgd": optax.sgd}[settings.optimizer](settings.learning_rate)
        self._start = jax.jit(jax.vmap(self._optimizer.init))
        self._network = settings.network(data)  # its initializers are not used
        step = partial(_epoch, self._network, self._optimizer, settings.batch_size)
        batched = jax.jit(jax.vmap(step, in_axes=(None, 0)), donate_argnums=1)

        def lowered(count: int) -> Any:
            return batched.lower(self._data, self._shapes(count))

        start = time.perf_counter()
        if chunk is None:
            self.chunk, _, self._run = _memory.fitting(lowered, seeds, _memory.available(jax.local_devices()[:1]))
        else:
            self.chunk, self._run = chunk, lowered(chunk).compile()
        self.compile_seconds = time.perf_counter() - start

    def train(
        self,
        initialize: Callable[[], Any],
        seeds: Sequence[int],
        epochs: int,
        report: Callable[[int], None] = lambda _epoch: None,
    ) -> Trained:
        """Trains one network of each seed, `chunk` of them, from the stacked params that `initialize` returns.

        Calls `report` with the number of epochs that are done.
        """
        start = time.perf_counter()
        params = jax.block_until_ready(initialize())
        initialized = time.perf_counter()
        states = State(params, self._start(params), _orders(np.array(seeds, np.uint32)))
        losses, hits = [], []
        for epoch in range(epochs):
            states, found = self._run(self._data, states)
            loss, count = jax.device_get(found)
            losses.append(loss)
            hits.append(count)
            report(epoch + 1)
        seconds = (initialized - start) / len(seeds), (time.perf_counter() - initialized) / len(seeds)
        # Of whole numbers, in float64: a share such as 9 of 10 equals 0.9.
        return Trained(np.stack(losses, 1), np.stack(hits, 1) / self._tests, *seconds)

    def _shapes(self, count: int) -> Any:
        def states(seeds: Array) -> State:
            sample = self._data.train_inputs[:1]
            params = jax.vmap(lambda seed: self._network.init(jax.random.key(seed), sample)["params"])(seeds)
            return State(params, jax.vmap(self._optimizer.init)(params), _orders(seeds))

        return jax.eval_shape(states, jax.ShapeDtypeStruct((count,), jnp.uint32))


class Trainers:
    """A `Trainer` for each kind of network, made when it is needed."""

    def __init__(self, data: Dataset, chunk: int | None = None) -> None:
        self.data = data
        self._placed = on_device(data)
        self._chunk = chunk
        self._made: dict[tuple[Settings, int], Trainer] = {}

    def of(self, settings: Settings, seeds: int) -> Trainer:
        # What does not enter the program of an epoch is set to one value.
        same = dataclasses.replace(settings, initializer="glorot_uniform", source="random", epochs=1)
        if (same, seeds) not in self._made:
            self._made[same, seeds] = Trainer(same, self.data, seeds, self._chunk, self._placed)
        return self._made[same, seeds]


def _orders(seeds: Any) -> Array:
    return jax.vmap(lambda seed: _keys(seed)[1])(seeds)


def _keys(seed: Any) -> tuple[Array, Array]:
    """Of the weights, and of the order of the examples."""
    weights, order = jax.random.split(jax.random.key(seed))
    return weights, order


# From seeds, and their first dimensions in the paper's order, to their initial params, stacked.
Initial = Callable[[Sequence[int], Sequence[int | None]], Any]


def initial(settings: Settings, data: Dataset) -> Initial:
    """What draws the initial params of an experiment; compiled once for all chunks of seeds."""
    if settings.source == "sequence":
        return lambda seeds, dims: _stacked(
            [_in_sequence(settings, data, np.uint32(seed), dim) for seed, dim in zip(seeds, dims, strict=True)]
        )
    sample, network = data.train_inputs[:SAMPLE], settings.network(data)
    if settings.source == "autoinit":
        distribution = FAMILIES[settings.initializer].distribution

        def one(seed: Any) -> Any:
            return autoinit(network, sample, key=_keys(seed)[0], distribution=distribution)["params"]
    else:

        def one(seed: Any) -> Any:
            return network.init(_keys(seed)[0], sample[:1])["params"]

    # Not by `vmap`: JAX's own orthogonal matrices, several batches of them in one program, can hang jaxlib's CPU.
    drawn = jax.jit(functools.partial(lax.map, one))
    return lambda seeds, _dims: drawn(np.array(seeds, np.uint32))


def _in_sequence(settings: Settings, data: Dataset, seed: Any, dim: int | None) -> Any:
    # A dimension is part of the program, so seeds do not go side by side here.
    network, sample = settings.network(data, dim or 1), data.train_inputs[:1]
    with warnings.catch_warnings():
        # That this order collapses the rank is what the experiment is about.
        warnings.simplefilter("ignore", RankCollapseWarning)
        return jax.jit(lambda seed: network.init(_keys(seed)[0], sample)["params"])(seed)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def on_device(data: Dataset) -> Data:
    parts = data.train_inputs, data.train_labels, data.test_inputs, data.test_labels
    return Data(*map(jnp.asarray, parts))


def _epoch(
    network: nn.Module, optimizer: optax.GradientTransformation, batch_size: int, data: Data, state: State
) -> tuple[State, tuple[Array, Array]]:
    """One pass over the training examples in a new order; its mean loss, and how many tests are right after it."""
    key, shuffle = jax.random.split(state.key)
    count = len(data.train_labels)
    steps = max(1, count // batch_size)
    order = jax.random.permutation(shuffle, count)[: steps * batch_size].reshape(steps, -1)
    state, losses = lax.scan(partial(_step, network, optimizer, data), state._replace(key=key), order)
    return state, (losses.mean(), _right(network, state.params, data))


def _step(
    network: nn.Module, optimizer: optax.GradientTransformation, data: Data, state: State, batch: Array
) -> tuple[State, Array]:
    def loss(params: Any) -> Array:
        logits = network.apply({"params": params}, data.train_inputs[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, data.train_labels[batch]).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer's power
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), optimizer_state, state.key), value


def _right(network: nn.Module, params: Any, data: Data) -> Array:
    def hits(part: tuple[Array, Array]) -> Array:
        inputs, labels = part
        logits = jnp.asarray(network.apply({"params": params}, inputs))
        return (jnp.argmax(logits, -1) == labels).sum()

    count = len(data.test_labels)
    size = min(count, EVALUATED)
    whole = count // size * size
    parts = [part[:whole].reshape(-1, size, *part.shape[1:]) for part in (data.test_inputs, data.test_labels)]
    found = lax.map(hits, tuple(parts)).sum()
    if whole < count:
        found += hits((data.test_inputs[whole:], data.test_labels[whole:]))
    return found
