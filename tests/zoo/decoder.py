"""A language model in the manner of LLaMA (Touvron et al. 2023, arXiv 2302.13971)."""

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, tokens


def rotate(x, base: float = 10_000.0):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) for x of shape (batch, length, heads, features)."""
    length, features = x.shape[1], x.shape[-1]
    frequencies = base ** (-jnp.arange(0, features, 2, dtype=jnp.float32) / features)
    angles = jnp.arange(length, dtype=jnp.float32)[None, :, None, None] * frequencies[None, None, None, :]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * jnp.cos(angles) - b * jnp.sin(angles), b * jnp.cos(angles) + a * jnp.sin(angles)], -1)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    heads: int

    @nn.compact
    def __call__(self, x):
        batch, length, width = x.shape
        features = width // self.heads

        def project():
            return nn.Dense(width, use_bias=False)(x).reshape(batch, length, self.heads, features)

        query, key, value = rotate(project()), rotate(project()), project()
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / features**0.5
        causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
        weights = nn.softmax(jnp.where(causal, scores, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, length, width)
        return nn.Dense(width, use_bias=False)(mixed)


class Block(nn.Module):
    """Attention and SwiGLU, each behind an RMS norm. A step of `nn.scan`: the carry goes in and out."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x, _=None):
        x = x + Attention(self.heads)(nn.RMSNorm()(x))
        y = nn.RMSNorm()(x)
        y = nn.silu(nn.Dense(self.hidden, use_bias=False)(y)) * nn.Dense(self.hidden, use_bias=False)(y)
        return x + nn.Dense(x.shape[-1], use_bias=False)(y), None


class Decoder(nn.Module):
    """Tokens to the logits of the next token; the layers scanned and rematerialized, or one after another."""

    vocabulary: int = 512
    depth: int = 6
    width: int = 128
    heads: int = 4
    hidden: int = 384
    scanned: bool = True

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(self.vocabulary, self.width)(ids)
        if self.scanned:
            layers = nn.scan(
                nn.remat(Block, prevent_cse=False),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.depth,
            )
            x, _ = layers(self.heads, self.hidden)(x, None)
        else:
            for _ in range(self.depth):
                x, _ = Block(self.heads, self.hidden)(x)
        return nn.Dense(self.vocabulary, use_bias=False)(nn.RMSNorm()(x))


# Position t averages t + 1 values: the first token keeps its power, the last hardly any, so no one variance is true of
# all. Under the scan one equation stands for six layers whose inputs differ in power. SwiGLU multiplies two dependent
# projections of one vector.
NETWORKS = [Network("decoder", Decoder, tokens)]
