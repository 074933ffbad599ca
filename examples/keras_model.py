"""Keras 3 on JAX: qrjax's builders as `kernel_initializer=`, and `qrjax.autoinit` for a whole model; on digits.

    pip install 'qrjax[demo]' keras
    python examples/keras_model.py

Two ways into one network:

* A builder, made a `keras.Initializer` by the few lines of `Quasirandom`: Keras asks for a shape and gets
  quasirandom weights of the textbook's scale.
* The whole model: `stateless_call` makes it a pair, init(key, x) -> arrays and apply(arrays, x) -> outputs, and what
  `autoinit` finds is assigned to the model's variables. Training is Keras's own `fit` in every case.

The network is 20 dense layers with ReLUs and no normalization. Keras's default, Glorot's scale, halves the signal's
power with every ReLU; He's keeps it, and so does autoinit, which needs no word about the activation.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax
import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import qrjax

WIDTH, CLASSES, BATCH, TRAINING_IMAGES = 64, 10, 64, 1347


@keras.saving.register_keras_serializable("qrjax")
class Quasirandom(keras.Initializer):
    """A builder of qrjax as Keras wants it; equal seeds give equal weights, for every layer another.

    Known by its name and settings, so that Keras can save, load and clone models that hold it.
    """

    def __init__(self, builder: str, seed: int, **settings: Any):
        self.config = {"builder": builder, "seed": seed, **settings}
        self.builder, self.key = getattr(qrjax, builder)(**settings), jax.random.key(seed)
        self.layers = 0

    def __call__(self, shape: Sequence[int], dtype: Any = None, **_: Any) -> jax.Array:
        """Weights of a new layer."""
        self.layers += 1
        return self.builder(jax.random.fold_in(self.key, self.layers), tuple(shape), dtype)

    def get_config(self) -> dict[str, Any]:
        """What makes it again."""
        return self.config


class Data(NamedTuple):
    """Standardized images and labels, to train and to test."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Run(NamedTuple):
    """One start and what training made of it."""

    name: str
    second_moment: float  # of the logits before training
    loss: float  # of the last epoch
    accuracy: float  # of the test images


def network(depth: int, initializer: Any = "glorot_uniform") -> keras.Model:
    """Dense layers, as Keras programs write them.

    With names of their own: qrjax draws a weight from its path, and Keras's names count what was made before.
    """
    units = [WIDTH] * (depth - 1) + [CLASSES]
    layers = [
        keras.layers.Dense(n, "relu" if n == WIDTH else None, kernel_initializer=initializer, name=f"dense_{i}")
        for i, n in enumerate(units)
    ]
    return keras.Sequential([keras.Input((64,)), *layers], name="network")


def initialized(model: keras.Model, x: np.ndarray, seed: int) -> qrjax.Report:
    """Gives the model weights that keep the signal; this function is all that `autoinit` needs."""
    variables = model.trainable_variables
    fixed = [variable.value for variable in model.non_trainable_variables]

    def init(_key: jax.Array, _x: jax.Array) -> dict[str, jax.Array]:
        return {variable.path: variable.value for variable in variables}

    def apply(arrays: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return model.stateless_call([arrays[variable.path] for variable in variables], fixed, x)[0]

    arrays, report = qrjax.autoinit((init, apply), x, seed=seed, report=True)
    for variable in variables:
        variable.assign(arrays[variable.path])
    return report


def digits() -> Data:
    """Scikit-learn's handwritten digits, 1347 to train and 450 to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)
    known = images[:TRAINING_IMAGES]
    images = ((images - known.mean()) / known.std()).astype(np.float32)
    return Data(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES], images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:])


def trained(name: str, model: keras.Model, data: Data, epochs: int, rate: float) -> Run:
    """Keras's usual loop."""
    moment = float(np.square(np.asarray(model(data.images))).mean())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    history = model.fit(data.images, data.labels, BATCH, epochs, verbose=0)
    accuracy = model.evaluate(data.test_images, data.test_labels, verbose=0)[1]
    return Run(name, moment, history.history["loss"][-1], accuracy)


def show(report: qrjax.Report, runs: Sequence[Run]) -> None:
    """The rows that the walk found, and the trainings."""
    console = Console()
    rows = Table("variable", "fan", "gain", "E(output²)", title="What the walk found")
    for row in report.weights:
        rows.add_row(row.weight, f"{row.fan:.0f}", f"{row.gain:.4f}", f"{row.second_moment:.3f}")
    console.print(rows)
    table = Table("initialization", "E(logit²)", "final loss", "accuracy, %", title="Digits; chance is 10 %")
    for run in runs:
        table.add_row(run.name, f"{run.second_moment:.1e}", f"{run.loss:.3f}", f"{100 * run.accuracy:.1f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """Makes the network in three ways and trains each."""
    parser = argparse.ArgumentParser(description="A Keras model with Keras's own weights and with qrjax's.")
    parser.add_argument("--depth", type=int, default=20, help="layers (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-4, help="Adam's (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(options.seed)
    data = digits()
    models = {
        "Keras default": network(options.depth),
        "he_normal_qr": network(options.depth, Quasirandom("he_normal_qr", options.seed)),
        "qrjax.autoinit": network(options.depth),
    }
    report = initialized(models["qrjax.autoinit"], data.images, options.seed)
    runs = [trained(name, model, data, options.epochs, options.rate) for name, model in models.items()]
    show(report, runs)
    return runs


if __name__ == "__main__":
    main()
