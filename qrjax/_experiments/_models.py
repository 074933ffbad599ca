"""The paper's networks: perceptrons, convolutions, a recurrent one and a Transformer."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from qrjax._experiments._convolution import convolution_by_matmul
from qrjax._experiments._initializers import Initializer

Inits = tuple[Initializer, ...]


class Mlp(nn.Module):
    """Dense layers with ReLUs between them, on flattened images."""

    kernel_inits: Inits
    classes: int
    units: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images.reshape(len(images), -1)
        for features, init in zip(self.units, self.kernel_inits[:-1], strict=True):
            x = nn.relu(nn.Dense(features, kernel_init=init)(x))
        return nn.Dense(self.classes, kernel_init=self.kernel_inits[-1])(x)


class Cnn(nn.Module):
    """3 x 3 convolutions with ReLUs and 2 x 2 max pooling between them, then two dense layers.

    Of signals, which are images of one column, windows of 3 and of 2. Each hidden layer comes `depth` times in a row.
    """

    kernel_inits: Inits
    classes: int
    filters: tuple[int, ...]
    units: int
    depth: int = 1

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x, inits = images, iter(self.kernel_inits)
        window = tuple(3 if size > 1 else 1 for size in images.shape[1:3])
        for layer, features in enumerate(self.filters):
            x = _pooled(x) if layer else x
            for _ in range(self.depth):
                convolution = nn.Conv(
                    features, window, kernel_init=next(inits), conv_general_dilated=convolution_by_matmul
                )
                x = nn.relu(convolution(x))
        x = x.reshape(len(x), -1)
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(self.units, kernel_init=next(inits))(x))
        return nn.Dense(self.classes, kernel_init=next(inits))(x)


def _pooled(x: Array) -> Array:
    # As a maximum of strided slices: its gradient is several times faster on a CPU than that of a window.
    for axis in (1, 2):
        if (size := x.shape[axis]) > 1:
            x = jnp.maximum(*(lax.slice_in_dim(x, start, size // 2 * 2, 2, axis) for start in (0, 1)))
    return x


class Lstm(nn.Module):
    """LSTMs in Keras's form (one kernel for all gates), the last one's last state, a dense layer.

    Over embedded tokens, or over the rows of images.
    """

    kernel_inits: Inits
    classes: int
    vocabulary: int | None
    units: int
    layers: int = 1

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        if self.vocabulary is None:
            x = inputs.reshape(*inputs.shape[:2], -1)
        else:
            x = nn.Embed(self.vocabulary, self.units)(inputs)
        for layer in range(self.layers):
            x = self._layer(x, self.kernel_inits[2 * layer : 2 * layer + 2], f"_{layer}" if layer else "")
        return nn.Dense(self.classes, kernel_init=self.kernel_inits[-1])(x[:, -1])

    def _layer(self, x: Array, inits: Inits, suffix: str) -> Array:
        """The states after each row or token."""
        kernel = self.param(f"kernel{suffix}", inits[0], (x.shape[-1], 4 * self.units))
        recurrent = self.param(f"recurrent_kernel{suffix}", inits[1], (self.units, 4 * self.units))
        bias = self.param(f"bias{suffix}", _forgetting_little, (4 * self.units,))

        def step(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, cell = state
            entry, forget, new, out = jnp.split(gates + hidden @ recurrent + bias[None], 4, axis=-1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(entry) * jnp.tanh(new)
            hidden = nn.sigmoid(out) * jnp.tanh(cell)
            return (hidden, cell), hidden

        start = jnp.zeros((len(x), self.units), x.dtype)
        _, states = lax.scan(step, (start, start), jnp.swapaxes(x @ kernel, 0, 1))
        return jnp.swapaxes(states, 0, 1)


def _forgetting_little(_key: Array, shape: tuple[int, ...]) -> Array:
    quarter = shape[0] // 4
    return jnp.zeros(shape).at[quarter : 2 * quarter].set(1.0)


class Transformer(nn.Module):
    """Blocks of attention and a feed-forward layer, each followed by LayerNorm, over rows of pixels or over tokens.

    Without `norms` the sums go on as they are.

    Every projection is a dense layer of its own, so that each has a Sobol' dimension in the paper's order.
    """

    kernel_inits: Inits
    classes: int
    vocabulary: int | None
    width: int
    heads: int
    blocks: int
    in_each_block: ClassVar[int] = 6
    norms: bool = True

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        first, *rest = self.kernel_inits
        if self.vocabulary is None:
            rows = inputs.reshape(*inputs.shape[:2], -1)
            x = nn.Dense(self.width, kernel_init=first)(rows)
            inits = rest
        else:
            x, inits = nn.Embed(self.vocabulary, self.width)(inputs), [first, *rest]
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        for block in range(self.blocks):
            x = self._block(x, inits[block * self.in_each_block :])
        return nn.Dense(self.classes, kernel_init=inits[-1])(x.mean(1))

    def _block(self, x: Array, inits: Any) -> Array:
        query, key, value, out, up, down = inits[: self.in_each_block]
        parts = [nn.Dense(self.width, kernel_init=init)(x) for init in (query, key, value)]
        queries, keys, values = (part.reshape(*x.shape[:2], self.heads, -1) for part in parts)
        mixed = nn.dot_product_attention(queries, keys, values).reshape(x.shape)
        x = self._normalized(x + nn.Dense(self.width, kernel_init=out)(mixed))
        hidden = nn.relu(nn.Dense(4 * self.width, kernel_init=up)(x))
        return self._normalized(x + nn.Dense(self.width, kernel_init=down)(hidden))

    def _normalized(self, x: Array) -> Array:
        return nn.LayerNorm()(x) if self.norms else x


def parameters(network: nn.Module, sample: Any) -> int:
    """How many numbers a network holds."""
    variables = jax.eval_shape(network.init, jax.random.key(0), sample)
    return sum(leaf.size for leaf in jax.tree.leaves(variables))
