"""A causal transformer and a perceptron in Flax NNX."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from .network import Network, digits, tokens


class Block(nnx.Module):
    """Self-attention and a perceptron with gelu, each behind a layer norm."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.before_attention = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.before_perceptron = nnx.LayerNorm(width, rngs=rngs)
        self.widen = nnx.Linear(width, 4 * width, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.before_attention(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.widen(self.before_perceptron(x))))


class Transformer(nnx.Module):
    """Tokens to the logits of the next token."""

    def __init__(self, depth=4, width=128, heads=4, vocabulary=512, length=64, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocabulary, width, rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, length, width)))
        self.blocks = nnx.List([Block(width, heads, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, ids):
        mask = nnx.make_causal_mask(ids)
        x = self.embed(ids) + self.positions[...]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


class MLP(nnx.Module):
    """Dense layers with silu and a linear head."""

    def __init__(self, depth=12, width=128, features=64, classes=10, *, rngs: nnx.Rngs):
        sizes = [features, *[width] * (depth - 1)]
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(sizes)])
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        x = jnp.reshape(x, (len(x), -1))
        for layer in self.layers:
            x = nnx.silu(layer(x))
        return self.head(x)


def seeded(module, **kwargs):
    return module(rngs=nnx.Rngs(0), **kwargs)


# NNX draws its weights when built, so a tool has to find them in the state and put others there. Flax's embeddings
# start with variance 1 / width: beside them, positions of standard deviation 0.02 are 5 percent of the power.
NETWORKS = [
    Network("nnx_transformer", partial(seeded, Transformer), tokens),
    Network("nnx_mlp", partial(seeded, MLP), digits),
]
