"""Networks, data and a loop of training for the scripts on rates over width.

A cell is one network of one width, trained in one way; a way is whose weights begin and what multiplies their rates.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import qrjax
from qrjax._datasets._table import load


class MLP(nn.Module):
    """Three dense layers with ReLU."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(10)(x)


class Transformer(nn.Module):
    """Two blocks over the rows of an image, heads of size 8."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x.reshape(*x.shape[:2], -1))
        x = x + self.param("positions", nn.initializers.normal(1.0), x.shape[1:])[None]
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(self.width // 8)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class CNN(nn.Module):
    """Two convolutions and a mean over places."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = x[..., None]
        for _ in range(2):
            x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        return nn.Dense(10)(x.mean((1, 2)))


class Residual(nn.Module):
    """Blocks x + W relu(V norm(x)) of width 64; what grows is their number."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64)(x.reshape(len(x), -1))
        for _ in range(self.width):
            x = x + nn.Dense(64)(nn.relu(nn.Dense(64)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x))


NETWORKS = {"mlp": MLP, "transformer": Transformer, "cnn": CNN, "residual": Residual}
BATCH, EVALUATED = 64, 512
WAYS = {
    "default": "Flax's, one rate",
    "autoinit": "`autoinit`, one rate",
    "multipliers": "multipliers, head 0",
    "outputs": "multipliers, head 0, outputs 16",
    "head": "multipliers, head 1",
    "head outputs": "multipliers, head 1, outputs 16",
    "branches": "multipliers, head 1, outputs 16, branches 1",
    "first": "head 0, outputs 16, the first layer's rate a quarter",
    "fast positions": "head 0, outputs 16, positions as fast as weights",
    "faster positions": "head 0, outputs 16, positions a quarter of that",
    "slow biases": "head 0, outputs 16, biases' rates a quarter",
    "slow scales": "head 0, outputs 16, norms' scales' rates a quarter",
    "slow scores": "head 0, outputs 16, queries' and keys' rates a quarter",
}
# Of these ways, which parameters are slower than by the rules or faster, and by how much.
OTHERWISE = {
    "first": ("Dense_0/kernel", 1 / 4), "fast positions": ("positions", 16.0), "faster positions": ("positions", 4.0),
    "slow biases": ("*/bias", 1 / 4), "slow scales": ("*/scale", 1 / 4), "slow scores": ("*/[qk]*y/kernel", 1 / 4),
}  # fmt: skip
PLAIN = ("default", "autoinit")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of one width, trained in one way at all rates of a grid."""

    network: str
    data: str
    optimizer: str
    arm: str
    width: int
    steps: int = 60
    decay: float = 0.0
    schedule: str = "constant"

    def key(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@functools.cache
def data_of(name: str) -> tuple[Any, Any]:
    """Standardized training examples, and their labels or targets."""
    if name == "regression":
        return regression()
    found = load(name.removeprefix("centred "))
    x = np.asarray(found.train_inputs, np.float32).reshape(len(found.train_inputs), -1)
    x = x - x.mean(0 if name.startswith("centred") else None)
    x /= x.std()
    side = (8, 5) if name == "mnist1d" else (8, 8)
    return jnp.asarray(x.reshape(-1, *side)), jnp.asarray(np.asarray(found.train_labels, np.int32))


def regression() -> tuple[Any, Any]:
    """Inputs half of whose second moment is their mean, and ten targets that a random network makes of the rest."""
    random = np.random.default_rng(1)
    x = random.normal(size=(4096, 64))
    first, last = (random.normal(size=shape) / shape[0] ** 0.5 for shape in ((64, 32), (32, 10)))
    y = np.maximum(x @ first, 0) @ last
    mean = random.normal(size=64)
    x = (x + mean / np.sqrt((mean**2).mean())) / 2**0.5
    targets = (y - y.mean(0)) / y.std(0)
    return jnp.asarray(x.reshape(-1, 8, 8), jnp.float32), jnp.asarray(targets, jnp.float32)


def loss_of(outputs: Any, wanted: Any) -> Any:
    """The cross-entropy of labels, the mean square of targets."""
    if jnp.issubdtype(wanted.dtype, jnp.integer):
        return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, wanted).mean()
    return ((outputs - wanted) ** 2).mean()


def direction(name: str) -> Any:
    """The steps before multipliers and rate, downhill."""
    if name == "muon":
        return optax.contrib.muon(1.0)
    return optax.chain({"adam": optax.scale_by_adam, "sgd": lambda: optax.trace(0.9)}[name](), optax.scale(-1.0))


def head_of(arm: str) -> float | None:
    """The second moment of the outputs at first."""
    return None if arm in PLAIN else 1.0 if arm.startswith(("head", "branches")) else 0.0


def branches_of(arm: str) -> float | None:
    """The second moment that all branches of a stream add together."""
    return 1.0 if arm == "branches" else None


def multipliers_of(cell: Cell, network: Any, sample: Any) -> Any:
    outputs = 1.0 if cell.arm in ("multipliers", "head") else 16.0
    found = qrjax.learning_rates(
        network,
        sample,
        optimizer=cell.optimizer,
        head=head_of(cell.arm),
        outputs=outputs,
        branches=branches_of(cell.arm),
    )
    pattern, share = OTHERWISE.get(cell.arm, ("", 1.0))

    def scaled(path: Any, rate: Any) -> Any:
        return rate * share if fnmatch.fnmatchcase("/".join(step.key for step in path), pattern) else rate

    return jax.tree_util.tree_map_with_path(scaled, found)


def share_of(schedule: str, number: Any, steps: int) -> Any:
    """The share of the rate that a step gets: all of it, or a tenth of the steps to warm up and half a cosine."""
    if schedule == "constant":
        return 1.0
    warm = max(1, steps // 10)
    return jnp.minimum(1.0, (number + 1) / warm) * (1 + jnp.cos(jnp.pi * number / steps)) / 2


class Training:
    """A cell's training, two compiled programs for all rates and seeds."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.network, self.data = cell, NETWORKS[cell.network](cell.width), data_of(cell.data)
        sample = self.data[0][:BATCH]
        parts = [direction(cell.optimizer)]
        if cell.arm not in PLAIN:
            parts.append(qrjax.scale_by_width(multipliers_of(cell, self.network, sample)))
        if cell.decay:
            parts.append(optax.add_decayed_weights(-cell.decay))
        self._optimizer, self._sample = optax.chain(*parts), sample
        self._begin, self._step, self.loss = map(jax.jit, (self._started, self._stepped, self._loss))

    def params(self, rate: float, seed: int) -> Any:
        """What is trained."""
        # No scan: within a loop XLA's convolutions take longer on a CPU, 2.5 times of width 32.
        carry = self._begin(np.uint32(seed))
        for number in range(self.cell.steps):
            carry = self._step(carry, np.float32(rate), np.uint32(seed), np.uint32(number))
        return carry[0]

    def _loss(self, params: Any, chosen: Any) -> Any:
        x, y = self.data
        return loss_of(self.network.apply({"params": params}, x[chosen]), y[chosen])

    def _started(self, seed: Any) -> Any:
        arm = self.cell.arm
        made = (
            self.network.init(jax.random.key(seed), self._sample)
            if arm == "default"
            else qrjax.autoinit(self.network, self._sample, seed=seed, head=head_of(arm), branches=branches_of(arm))
        )
        return made["params"], self._optimizer.init(made["params"])

    def _stepped(self, carry: Any, rate: Any, seed: Any, number: Any) -> Any:
        params, state = carry
        key = jax.random.fold_in(jax.random.key(seed), number)
        chosen = jax.random.randint(key, (BATCH,), 0, len(self.data[0]))
        updates, state = self._optimizer.update(jax.grad(self._loss)(params, chosen), state, params)
        now = rate * share_of(self.cell.schedule, number, self.cell.steps)
        return jax.tree.map(lambda p, u: p + now * u, params, updates), state


def trained(cell: Cell, rates: Sequence[float], seeds: int) -> Any:
    """The losses after training, (rates, seeds)."""
    training, seen = Training(cell), np.arange(EVALUATED)
    return np.array([[float(training.loss(training.params(r, s), seen)) for s in range(seeds)] for r in rates])
