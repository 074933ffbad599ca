"""Ways to begin training, and training that compares them fairly, by which `depth.py` trains deep networks.

An arm makes the initial variables of a module for several seeds. `Trainer` trains them by the steps of the package's
experiments, one compiled program for all arms, rates and seeds of a network: minibatches drawn from the seed, so that
arms are paired; a cosine decay; the validation images are looked at every few steps, training stops where they show no
progress any more, and the test images count where validation was best. `tuned` chooses each arm's rate on the
validation images, the same rates and seeds for every arm, and looks at the test images with other seeds. `Journal`
keeps every result as a line of JSON, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from scipy import stats

import qrjax
from qrjax._experiments._statistics import holm, interval
from qrjax._experiments._training import DIRECTIONS, Data, State, step
from qrjax._experiments._tuning import highest
from qrjax._files._journal import opened, read

# Of the journal, and what each of its records has.
KIND, NAMES = "trained networks", ("settings", "result")

# Training images by which autoinit and calibrate see what comes in.
SAMPLE = 128
# Rates are tuned with so many of the seeds, which count from 0; they are trained once, and tested at the rate chosen.
TUNING_SEEDS = 2
# Factors of four; the same rates for every arm.
RATES = {"adam": (1e-4, 4e-4, 1.6e-3), "momentum": (4e-3, 1.6e-2, 6.4e-2)}
DEFAULT, ORTHOGONAL, AUTOINIT, CALIBRATE = "default", "orthogonal", "autoinit", "calibrate"
STABLE, STABLE_ORTHOGONAL = "stable", "stable, orthogonal"


def divided(inputs: Any, labels: Any, test_inputs: Any, test_labels: Any, share: float = 0.2) -> Data:
    """Inputs standardized by the training part; the last part of what there is to train becomes the validation part."""
    train = len(labels) - round(share * len(labels))
    mean, stddev = inputs[:train].mean(), inputs[:train].std()
    parts = [inputs[:train], labels[:train], inputs[train:], labels[train:], test_inputs, test_labels]
    scaled = [(p - mean) / stddev if i % 2 == 0 else p for i, p in enumerate(parts)]
    return Data(*(jnp.asarray(p, (jnp.float32, jnp.int32)[i % 2]) for i, p in enumerate(scaled)))


def digits() -> Data:
    """Scikit-learn's handwritten digits, 8 x 8: 1078 to train, 270 to validate, 449 to test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order].reshape(-1, 8, 8, 1), labels[order]
    return divided(images[:1348], labels[:1348], images[1348:], labels[1348:])


def mnist1d(length: int = 40) -> Data:
    """MNIST-1D (Greydanus and Kobak 2020, arXiv 2011.14439) as its package generates it: 3200, 800, 1000 examples."""
    from mnist1d.data import get_dataset_args, make_dataset

    options = get_dataset_args()
    options.final_seq_length = length
    made = make_dataset(options)
    x, test = (np.asarray(made[name])[..., None] for name in ("x", "x_test"))
    return divided(x, made["y"], test, made["y_test"])


# (module, sample of the inputs, seeds, gain of orthogonal kernels) to variables, stacked along the seeds.
Arm = Callable[[Any, Array, Sequence[int], float], Any]


def default_arm(module: Any, sample: Array, seeds: Sequence[int], gain: float) -> Any:
    """What the module's own initializers draw."""
    del gain
    return jax.vmap(lambda seed: module.init(jax.random.key(seed), sample))(jnp.asarray(seeds))


def orthogonal_arm(module: Any, sample: Array, seeds: Sequence[int], gain: float) -> Any:
    """The default with kernels from `jax.nn.initializers.orthogonal`, times the activation's customary gain.

    Of more than two axes the last two are one matrix and the others number matrices, as in a stack of layers and in a
    convolution; a convolution's matrices have the variance of its whole fan.
    """

    def drawn(seed: Array) -> Any:
        flat, tree = jax.tree.flatten_with_path(module.init(jax.random.key(seed), sample))
        keys = jax.random.split(jax.random.key(seed), len(flat))
        return jax.tree.unflatten(tree, [matrix(path, x, key) for (path, x), key in zip(flat, keys, strict=True)])

    def matrix(path: Any, leaf: Array, key: Array) -> Array:
        if path[-1].key != "kernel" or leaf.ndim < 2:
            return leaf
        window = leaf.shape[:-2] if leaf.ndim > 3 else ()
        scale = gain / float(np.sqrt(np.prod(window))) if window else gain
        draw = functools.partial(jax.nn.initializers.orthogonal(scale), shape=leaf.shape[-2:], dtype=leaf.dtype)
        count = int(np.prod(leaf.shape[:-2]))
        return jax.vmap(draw)(jax.random.split(key, count)).reshape(leaf.shape)

    return jax.vmap(drawn)(jnp.asarray(seeds))


def autoinit_arm(module: Any, sample: Array, seeds: Sequence[int], gain: float, **options: Any) -> Any:
    """`qrjax.autoinit`; the walk happens once for all seeds."""
    del gain
    return jax.vmap(lambda seed: qrjax.autoinit(module, sample, seed=seed, **options))(jnp.asarray(seeds))


def calibrated_arm(module: Any, sample: Array, seeds: Sequence[int], gain: float) -> Any:
    """`autoinit` and a sweep over the sample: LSUV (arXiv 1511.06422) with our draws."""
    drawn = autoinit_arm(module, sample, seeds, gain)
    each = [qrjax.calibrate(module, jax.tree.map(lambda x, i=i: x[i], drawn), sample) for i in range(len(seeds))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


class Chosen(NamedTuple):
    """What `target="stable"` chooses for a module.

    Attributes:
      target: as a number or a mapping.
      smallest: of its numbers.
      advised: whether a finding advises orthogonal weights.
    """

    target: Any
    smallest: float
    advised: bool


_CHOSEN: dict[Any, Chosen] = {}


def chosen(module: Any, sample: Array) -> Chosen:
    """By a walk of its own, once for a module, which the arms share."""
    if module not in _CHOSEN:
        report = qrjax.analyze(module, sample, target="stable")
        smallest = min(report.target.values()) if isinstance(report.target, Mapping) else report.target
        advised = any("is advised" in finding for finding in report.findings)
        _CHOSEN[module] = Chosen(report.target, smallest, advised)
    return _CHOSEN[module]


def stable_arm(module: Any, sample: Array, seeds: Sequence[int], gain: float, **options: Any) -> Any:
    """`autoinit` with `target="stable"`."""
    return autoinit_arm(module, sample, seeds, gain, target=chosen(module, sample).target, **options)


ARMS: dict[str, Arm] = {
    DEFAULT: default_arm,
    ORTHOGONAL: orthogonal_arm,
    AUTOINIT: autoinit_arm,
    CALIBRATE: calibrated_arm,
    STABLE: stable_arm,
    STABLE_ORTHOGONAL: functools.partial(stable_arm, distribution="orthogonal"),
}


class Schedule(NamedTuple):
    """How long and by what is trained.

    Attributes:
      batch: examples of a minibatch, drawn without repetition within it.
      steps: at most; the rate falls to zero over them along a cosine.
      check: every so many steps the validation part is looked at.
      patience: so many looks without a better accuracy or a smaller loss end the training.
    """

    batch: int = 32
    steps: int = 800
    check: int = 20
    patience: int = 10


class Result(NamedTuple):
    """Of one training.

    Attributes:
      validation, test: accuracies, shares of the examples, where validation was best.
      best: the step of that.
      steps: trained until the end.
    """

    validation: Array
    test: Array
    best: Array
    steps: Array


class _Progress(NamedTuple):
    state: State
    checks: Array
    since: Array  # looks without progress
    lowest: Array  # validation loss
    loss: Array  # where accuracy was best, which decides between equal ones
    best: Result


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains a module's variables, all of them; one compiled program."""

    module: Any
    data: Data
    optimizer: str = "adam"
    schedule: Schedule = dataclasses.field(default_factory=Schedule)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", jax.jit(self._trained))

    def _trained(self, params: Any, rate: Array, seed: Array) -> Result:
        steps, check, data = self.schedule.steps, self.schedule.check, self.data
        optimizer, rates = DIRECTIONS[self.optimizer](), optax.cosine_decay_schedule(rate, steps)

        def one(state: State, number: Array) -> tuple[State, Array]:
            drawn = jax.random.fold_in(state.key, number)
            rows = jax.random.choice(drawn, len(data.train_labels), (self.schedule.batch,), replace=False)
            inputs, labels = data.train_inputs[rows], data.train_labels[rows]
            return step(self.module.apply, optimizer, state._replace(rate=rates(number)), inputs, labels)

        def body(s: _Progress) -> _Progress:
            state, _ = lax.scan(one, s.state, s.checks * check + jnp.arange(check))
            return self._looked(s._replace(state=state, checks=s.checks + 1))

        def goes_on(s: _Progress) -> Array:
            return (s.checks * check < steps) & (s.since < self.schedule.patience)

        zero, never = jnp.int32(0), jnp.float32(jnp.inf)
        nothing = Result(jnp.float32(-1), jnp.float32(-1), zero, zero)
        start = State(params, optimizer.init(params), jax.random.key(seed), rate)
        return lax.while_loop(goes_on, body, _Progress(start, zero, zero, never, never, nothing)).best

    def _looked(self, s: _Progress) -> _Progress:
        """The validation part after a few steps, and the test part, on which nothing depends."""
        data, params, number = self.data, s.state.params, s.checks * self.schedule.check
        logits = self.module.apply(params, data.held_inputs)
        right = (jnp.argmax(logits, -1) == data.held_labels).mean()
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, data.held_labels).mean()
        test = (jnp.argmax(self.module.apply(params, data.test_inputs), -1) == data.test_labels).mean()
        better = (right > s.best.validation) | ((right == s.best.validation) & (loss < s.loss))
        progress = (right > s.best.validation) | (loss < s.lowest)
        now = Result(right, test, number, number)
        best = Result(*(jnp.where(better, a, b) for a, b in zip(now, s.best, strict=True)))._replace(steps=number)
        return s._replace(
            since=jnp.where(progress, 0, s.since + 1), lowest=jnp.fmin(loss, s.lowest),
            loss=jnp.where(better, loss, s.loss), best=best,
        )  # fmt: skip


def tuned(
    trainer: Trainer, arm: Arm, seeds: int, gain: float = 1.0, rates: Sequence[float] | None = None
) -> dict[str, Any]:
    """An arm at the best of the rates, by the mean validation accuracy: what the journal keeps of it."""
    began = time.perf_counter()
    rates = RATES[trainer.optimizer] if rates is None else rates
    drawn = arm(trainer.module, trainer.data.train_inputs[:SAMPLE], range(seeds), gain)

    def results(some: Sequence[int], rate: float) -> list[Result]:
        starts = (jax.tree.map(lambda x, i=i: x[i], drawn) for i in some)
        return [_run(trainer, start, rate, i) for i, start in zip(some, starts, strict=True)]

    looked = {rate: results(range(seeds)[:TUNING_SEEDS], rate) for rate in rates}
    scores = {rate: float(np.mean([r.validation for r in row])) for rate, row in looked.items()}
    best = highest(scores)
    found = [*looked[best], *results(range(seeds)[TUNING_SEEDS:], best)]
    return {
        "rate": best,
        "tuning": {f"{rate:g}": score for rate, score in scores.items()},
        "validation": [float(r.validation) for r in found],
        "test": [float(r.test) for r in found],
        "best": [int(r.best) for r in found],
        "steps": [int(r.steps) for r in found],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _run(trainer: Trainer, params: Any, rate: float, seed: int) -> Result:
    return jax.block_until_ready(trainer.run(params, jnp.float32(rate), jnp.uint32(seed)))  # type: ignore[attr-defined]


class Journal:
    """Results by what was asked for, each written as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        records = read(path, KIND, NAMES) if path.exists() else []
        self._found = {self._key(record["settings"]): record["result"] for record in records}

    @staticmethod
    def _key(settings: Mapping[str, Any]) -> str:
        return json.dumps(settings, sort_keys=True)

    def get(self, settings: Mapping[str, Any]) -> Any:
        """What is known, or None."""
        return self._found.get(self._key(settings))

    def once(self, settings: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """What is known, or else made and noted."""
        if self.get(settings) is None:
            self._found[self._key(settings)] = result = make()
            with opened(self._path, KIND, NAMES) as kept:
                kept.append([{"settings": settings, "result": result}])
        return self.get(settings)


class Compared(NamedTuple):
    """An arm against another over paired seeds, in points.

    Attributes:
      difference, low, high: mean and its 95 % bootstrap interval (BCa).
      p_value: of Student's paired test; `adjusted` corrects it for a whole table, by Holm.
    """

    difference: float
    low: float
    high: float
    p_value: float


def compared(one: Sequence[float], other: Sequence[float]) -> Compared:
    """Accuracies as shares, of the same seeds."""
    gaps = 100 * (np.asarray(one) - np.asarray(other))
    # Flipping the signs of ten pairs gives no less than 1 / 512, too coarse to correct for a table.
    p_value = float(stats.ttest_1samp(gaps, 0.0).pvalue) if np.ptp(gaps) else float(not gaps.any())
    return Compared(float(gaps.mean()), *interval(gaps), p_value)


def adjusted(found: Mapping[Any, Compared]) -> dict[Any, float]:
    """Holm's p-values of a table."""
    return dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
