"""Training of one network for each seed, all seeds side by side."""

from __future__ import annotations

import dataclasses
import math
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
from qrjax._autoinit._measure import calibrate
from qrjax._datasets._dataset import Dataset
from qrjax._experiments._devices import Side
from qrjax._experiments._initializers import FAMILIES
from qrjax._experiments._names import OWN
from qrjax._experiments._own import built, is_whole
from qrjax._experiments._settings import Settings
from qrjax._initializers._initializer import RankCollapseWarning
from qrjax._sweep import _memory
from qrjax._sweep._places import Devices, devices_of

# Test examples whose activations are held at once, for each seed.
EVALUATED = 1024
# Training examples by which autoinit sees what comes in.
SAMPLE = 64


class Data(NamedTuple):
    """What the program reads, on the device once for all."""

    train_inputs: Array
    train_labels: Array
    held_inputs: Array  # for validation; there may be none
    held_labels: Array
    test_inputs: Array
    test_labels: Array


class State(NamedTuple):
    params: Any
    optimizer: Any
    key: Array  # of the order of the examples: the same for every initializer
    rate: Array


class Trained(NamedTuple):
    """One network of each seed, trained.

    Attributes:
      losses: (seeds, epochs), mean training loss of the epoch, in nats.
      accuracies: (seeds, epochs), share of the test examples after the epoch.
      held: the same of the validation examples; None without any.
      initialize_seconds, train_seconds: of one seed, without compiling the training.
    """

    losses: np.ndarray[Any, Any]
    accuracies: np.ndarray[Any, Any]
    held: np.ndarray[Any, Any] | None
    initialize_seconds: float
    train_seconds: float


# What a gradient becomes before the rate, which is an argument, so that all rates are one program.
DIRECTIONS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam, "sgd": optax.identity, "momentum": partial(optax.trace, decay=0.9),
}  # fmt: skip


class Trainer:
    """The training of one kind of network, compiled once for all initializers and rates.

    Attributes:
      chunk: how many seeds train side by side on one device.
      together: on all devices.
    """

    def __init__(
        self, settings: Settings, data: Dataset, seeds: int, chunk: int | None, placed: Data | None = None,
        devices: Devices | None = None,
    ) -> None:  # fmt: skip
        devices = devices_of(None) if devices is None else devices
        self._side = Side(devices[: math.ceil(seeds / (chunk or 1))])
        self._data = self._side.same(on_device(data, settings.validation) if placed is None else placed)
        self._optimizer = DIRECTIONS[settings.optimizer]()
        self._start = jax.jit(jax.vmap(self._optimizer.init))
        self._network = settings.network(data)  # its initializers are not used
        step = partial(_epoch, self._network, self._optimizer, settings.batch_size)
        batched = self._side.spread(jax.vmap(step, in_axes=(None, 0)))

        def lowered(count: int) -> Any:
            return batched.lower(self._data, self._side.apart(self._shapes(count * self._side.devices)))

        start = time.perf_counter()
        if chunk is None:
            share, free = math.ceil(seeds / self._side.devices), _memory.available(devices)
            self.chunk, _, self._run = _memory.fitting(lowered, share, free)
        else:
            self.chunk, self._run = chunk, lowered(chunk).compile()
        self.together = self.chunk * self._side.devices
        self.compile_seconds = time.perf_counter() - start

    def train(
        self,
        initialize: Callable[[], Any],
        seeds: Sequence[int],
        rates: Sequence[float],
        epochs: int,
        report: Callable[[int], None] = lambda _epoch: None,
    ) -> Trained:
        """Trains one network of each seed, `together` of them, from the stacked params that `initialize` returns.

        Calls `report` with the number of epochs that are done.
        """
        start = time.perf_counter()
        params = jax.block_until_ready(initialize())
        initialized = time.perf_counter()
        orders = _orders(np.array(seeds, np.uint32))
        states = self._side.apart(State(params, self._start(params), orders, jnp.asarray(rates, jnp.float32)))
        found = []
        for epoch in range(epochs):
            states, numbers = self._run(self._data, states)
            found.append(jax.device_get(numbers))
            report(epoch + 1)
        seconds = (initialized - start) / len(seeds), (time.perf_counter() - initialized) / len(seeds)
        losses, right, held = (np.stack(values, 1) for values in zip(*found, strict=True))
        # Of whole numbers, in float64: a share such as 9 of 10 equals 0.9.
        tests, holding = len(self._data.test_labels), len(self._data.held_labels)
        return Trained(losses, right / tests, held / holding if holding else None, *seconds)

    def _shapes(self, count: int) -> Any:
        def states(seeds: Array) -> State:
            sample = self._data.train_inputs[:1]
            params = jax.vmap(lambda seed: self._network.init(jax.random.key(seed), sample)["params"])(seeds)
            rates = jnp.ones(count, jnp.float32)
            return State(params, jax.vmap(self._optimizer.init)(params), _orders(seeds), rates)

        return jax.eval_shape(states, jax.ShapeDtypeStruct((count,), jnp.uint32))


class Trainers:
    """A `Trainer` for each kind of network, made when it is needed."""

    def __init__(self, data: Dataset, chunk: int | None = None, devices: Devices | None = None) -> None:
        self.data = data
        self._placed: dict[float, Data] = {}
        self._chunk, self._devices = chunk, devices
        self._made: dict[tuple[Settings, int], Trainer] = {}

    def of(self, settings: Settings, seeds: int) -> Trainer:
        # What does not enter the program of an epoch is set to one value.
        same = dataclasses.replace(settings.kind(), epochs=1)
        share = settings.validation
        if share not in self._placed:
            self._placed[share] = on_device(self.data, share)
        if (same, seeds) not in self._made:
            self._made[same, seeds] = Trainer(same, self.data, seeds, self._chunk, self._placed[share], self._devices)
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
    """What draws the initial params of an experiment, one seed after the other, on the host."""
    sample, network = data.train_inputs[:SAMPLE], settings.network(data)
    alone = _alone(settings, network, sample)

    def draw(seeds: Sequence[int], dims: Sequence[int | None]) -> Any:
        if settings.source == "sequence":
            drawn = {
                (seed, dim): _in_sequence(settings, data, seed, dim) for seed, dim in zip(seeds, dims, strict=True)
            }
            return _stacked([drawn[each] for each in zip(seeds, dims, strict=True)])
        found = {seed: jax.device_get(alone(_keys(np.uint32(seed))[0])) for seed in dict.fromkeys(seeds)}
        return _stacked([found[seed] for seed in seeds])

    return draw


def _alone(settings: Settings, network: nn.Module, sample: Any) -> Callable[[Array], Any]:
    """From a key to params."""
    if settings.source in ("autoinit", "stable"):
        distribution = FAMILIES[settings.initializer].distribution
        target: Any = "stable" if settings.source == "stable" else 1.0
        # The walk once, for all seeds.
        return jax.jit(
            lambda key: autoinit(network, sample, key=key, distribution=distribution, target=target)["params"]
        )
    if settings.source == "calibrate":
        return lambda key: calibrate(network, network.init(key, sample[:1]), sample)["params"]
    if settings.source == OWN and is_whole(own := built(settings.initializer)):
        return lambda key: own.params(network, sample, key)
    # Not compiled: most of it is JAX's own random numbers, which all initializers then have in common.
    return lambda key: network.init(key, sample[:1])["params"]


def _in_sequence(settings: Settings, data: Dataset, seed: int, dim: int | None) -> Any:
    # A dimension is part of the program.
    network, sample = settings.network(data, dim or 1), data.train_inputs[:1]
    with warnings.catch_warnings():
        # That this order collapses the rank is what the experiment is about.
        warnings.simplefilter("ignore", RankCollapseWarning)
        return jax.device_get(network.init(_keys(np.uint32(seed))[0], sample)["params"])


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def on_device(data: Dataset, validation: float = 0.0) -> Data:
    """The examples, this share of those to train on held back: always the same, taken at random."""
    count = len(data.train_labels)
    held = round(validation * count)
    order = np.random.default_rng(0).permutation(count) if held else np.arange(count)
    training = [part[order] for part in (data.train_inputs, data.train_labels)]
    kept, back = ([part[where] for part in training] for where in (slice(count - held), slice(count - held, None)))
    return Data(*map(jnp.asarray, (*kept, *back, data.test_inputs, data.test_labels)))


def _epoch(
    network: nn.Module, optimizer: optax.GradientTransformation, batch_size: int, data: Data, state: State
) -> tuple[State, tuple[Array, Array, Array]]:
    """One pass over the training examples in a new order.

    Its mean loss, and how many of the test and of the validation examples are right after it.
    """
    key, shuffle = jax.random.split(state.key)
    count = len(data.train_labels)
    steps = max(1, count // batch_size)
    order = jax.random.permutation(shuffle, count)[: steps * batch_size].reshape(steps, -1)

    def body(state: State, batch: Array) -> tuple[State, Array]:
        return step(_of_params(network), optimizer, state, data.train_inputs[batch], data.train_labels[batch])

    state, losses = lax.scan(body, state._replace(key=key), order)
    tests = _right(network, state.params, data.test_inputs, data.test_labels)
    return state, (losses.mean(), tests, _right(network, state.params, data.held_inputs, data.held_labels))


def _of_params(network: nn.Module) -> Callable[[Any, Array], Any]:
    return lambda params, inputs: network.apply({"params": params}, inputs)


def step(
    apply: Callable[[Any, Array], Any], optimizer: optax.GradientTransformation, state: State, inputs: Array,
    labels: Array,
) -> tuple[State, Array]:  # fmt: skip
    """One step by the mean cross entropy of a minibatch, which is returned, too; `apply` makes logits."""

    def loss(params: Any) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, inputs), labels).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer's power
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, jax.tree.map(lambda update: -state.rate * update, updates))
    return state._replace(params=params, optimizer=optimizer_state), value


def _right(network: nn.Module, params: Any, inputs: Array, labels: Array) -> Array:
    count = len(labels)
    if not count:
        return jnp.zeros((), jnp.int32)

    def hits(part: tuple[Array, Array]) -> Array:
        examples, expected = part
        logits = jnp.asarray(network.apply({"params": params}, examples))
        return (jnp.argmax(logits, -1) == expected).sum()

    size = min(count, EVALUATED)
    whole = count // size * size
    parts = [part[:whole].reshape(-1, size, *part.shape[1:]) for part in (inputs, labels)]
    found = lax.map(hits, tuple(parts)).sum()
    if whole < count:
        found += hits((inputs[whole:], labels[whole:]))
    return found
