"""Plain perceptrons, fifty layers deep and without normalization."""

from collections.abc import Callable
from functools import partial

import jax
from flax import linen as nn

from .network import Network, digits


class MLP(nn.Module):
    """Dense layers of one width and a linear head."""

    activation: Callable[[jax.Array], jax.Array]
    depth: int = 50
    width: int = 256
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(self.depth - 1):
            x = self.activation(nn.Dense(self.width)(x))
        return nn.Dense(self.classes)(x)


# An error of the gain is raised to the fiftieth power. With Flax's default of variance 1 / fan_in, relu halves the
# power at every layer (2^-49 at the head), gelu loses more, tanh decays like 1 / depth, selu stays at its fixed point.
ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "selu": nn.selu}
NETWORKS = [Network(f"mlp_{name}", partial(MLP, activation), digits) for name, activation in ACTIVATIONS.items()]
