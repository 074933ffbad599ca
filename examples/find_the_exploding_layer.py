"""A network whose signal looks healthy and that does not train: its gradients say where it is broken.

    python examples/find_the_exploding_layer.py

It needs the extra `demo` (`pip install 'qrjax[demo]'`) and a quarter of a minute. Of sixteen tanh layers one divides by
a temperature of .0002 that somebody forgot there. The second moment of each output is 1 with it as without, since a
tanh that is always at its ends has just that, so all that one usually looks at is in order. Going back, though, the
squared gradient is a thousand times larger before that layer than behind it. `qrjax.analyze(..., gradients=True)` says
so, with the layer's name, before a weight is drawn, and so does `qrjax analyze --gradients` on the command line;
`qrjax.measure` sees the same on a real batch, and `report.assert_healthy()` is the line for one's tests.

Test accuracy in percent after 300 steps with seeds 0, 1, 2, where chance is 10:

    as found      10.7, 11.8, 8.0
    mended        96.7, 97.8, 98.2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import qrjax

CLASSES, BATCH, TRAINING_IMAGES = 10, 64, 1347
RATE, MOMENTUM = 0.01, 0.9


class Network(nn.Module):
    """Dense layers with tanh, one of which was to be softened by a temperature."""

    temperature: float
    depth: int = 16
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pixels to logits."""
        for i in range(self.depth):
            y = nn.Dense(self.width)(x)
            x = nn.tanh(y / self.temperature if i == 10 else y)
        return nn.Dense(CLASSES)(x)


def digits() -> tuple[jax.Array, jax.Array]:
    """Scikit-learn's handwritten digits in a fixed order: pixels of mean 0 and variance 1, and what they show."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (images - images[:TRAINING_IMAGES].mean()) / images[:TRAINING_IMAGES].std()
    return jnp.asarray(images[order].astype(np.float32)), jnp.asarray(labels[order].astype(np.int32))


def trained(network: Network, variables: Any, images: jax.Array, labels: jax.Array, steps: int) -> float:
    """The accuracy on the test images after so many steps of SGD."""
    optimizer = optax.sgd(RATE, MOMENTUM)

    def loss(variables: Any, chosen: jax.Array) -> jax.Array:
        logits = network.apply(variables, images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]).mean()

    @jax.jit
    def step(variables: Any, state: Any, chosen: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(variables, chosen), state)
        return optax.apply_updates(variables, updates), state

    state, order = optimizer.init(variables), np.random.default_rng(1)
    for _ in range(steps):
        variables, state = step(variables, state, order.choice(TRAINING_IMAGES, BATCH, replace=False))
    found = jnp.argmax(network.apply(variables, images[TRAINING_IMAGES:]), -1)
    return 100 * float((found == labels[TRAINING_IMAGES:]).mean())


def diagnosed(network: Network, images: jax.Array) -> tuple[qrjax.Report, qrjax.Report]:
    """What is predicted of the network, forward and backward, and the same beside what a real batch measures."""
    batch = images[:256]
    variables = qrjax.autoinit(network, batch)
    return qrjax.analyze(network, batch, gradients=True), qrjax.measure(network, variables, batch, gradients=True)


def show(title: str, report: qrjax.Report) -> None:
    """Both halves of the signal, one line for a layer, and what the report says of them."""
    print(f"\n{title}\n\n    layer       E y²   measured   squared gradient   measured")
    for row in report.weights:
        forward = f"{row.second_moment:6.2f} {row.measured_second_moment:10.2f}"
        print(f"    {row.path:<9} {forward} {row.gradient_norm**2:18.3g} {row.measured_gradient_norm**2:10.3g}")


def main(arguments: Sequence[str] | None = None) -> dict[str, tuple[qrjax.Report, list[float]]]:
    """Finds the layer, mends it, and trains both networks."""
    parser = argparse.ArgumentParser(description="A broken layer that only the gradients show.")
    parser.add_argument("--temperature", type=float, default=0.0002, help="of the broken layer (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="minibatches of 64 (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (default: %(default)s)")
    options = parser.parse_args(arguments)
    images, labels = digits()
    result = {}
    for name, network in {"as found": Network(options.temperature), "mended": Network(1.0)}.items():
        predicted, measured = diagnosed(network, images)
        show(f"The network {name}", measured)
        try:
            predicted.assert_healthy()
            print("\n    healthy")
        except qrjax.UnhealthyError as error:
            print(f"\n    unhealthy: {error}")
        starts = [qrjax.autoinit(network, images[:256], seed=seed) for seed in range(options.seeds)]
        accuracies = [trained(network, variables, images, labels, options.steps) for variables in starts]
        print(f"\n    accuracy after {options.steps} steps: {', '.join(f'{a:.1f}' for a in accuracies)} %")
        result[name] = measured, accuracies
    return result


if __name__ == "__main__":
    main()
