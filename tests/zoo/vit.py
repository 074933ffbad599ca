"""Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929) that read the mean or a class token."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, images


class Block(nn.Module):
    """Self-attention and a perceptron with gelu, each behind a layer norm."""

    heads: int

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
        return x + nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))


class ViT(nn.Module):
    """Patches, learned positions, blocks and a head on one vector per image."""

    readout: str
    depth: int = 6
    width: int = 128
    heads: int = 4
    patch: int = 4
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (self.patch, self.patch), self.patch, padding="VALID")(x)
        x = x.reshape(len(x), -1, self.width)
        if self.readout == "class":
            token = self.param("class", nn.initializers.zeros, (1, 1, self.width))
            x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = Block(self.heads)(x)
        x = nn.LayerNorm()(x)
        return nn.Dense(self.classes)(x[:, 0] if self.readout == "class" else x.mean(1))


# Attention over 64 tokens is almost a mean, and what it adds is almost the same for every token, so the tokens'
# correlation rises block by block and decides what the mean over tokens keeps. The class token starts at zero, with
# its position's variance of 0.0004 alone, which the first layer norm lifts to 1.
NETWORKS = [Network(f"vit_{readout}", partial(ViT, readout), images) for readout in ("mean", "class")]
