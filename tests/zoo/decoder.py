"""A language model in the manner of LLaMA (Touvron et al. 2023, arXiv 2302.13971)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, tokens


def rotate(x, base: float = 10_000.0):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) for x of shape (batch, length, heads, features)."""
    length, features = x.shape[1], x.shape[-1]
    frequencies = base ** (-jnp.arange(0, features, 2, dtype=jnp.float32) / features)
    angles = jnp.arange(length, dtype=jnp.float32)[None, :, None, None] * frequencies[None, None, None, :]
    cos, sin = (f(angles).astype(x.dtype) for f in (jnp.cos, jnp.sin))
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def unnamed(init: Any, axes: tuple[str, ...]) -> Any:
    """Leaves the axes of a weight without names."""
    del axes
    return init


@dataclasses.dataclass(frozen=True)
class Weights:
    """How the matrices are drawn, their type, and what tells devices their axes: (initializer, axes) -> initializer.

    The axes: "vocabulary", "width", "heads", "hidden".
    """

    kernel: Any = nn.linear.default_kernel_init
    embedding: Any = nn.linear.default_embed_init
    dtype: Any = jnp.float32
    name: Callable[[Any, tuple[str, ...]], Any] = unnamed

    def dense(self, features: int, *axes: str) -> nn.Dense:
        init = self.name(self.kernel, axes)
        return nn.Dense(features, use_bias=False, param_dtype=self.dtype, kernel_init=init)

    def norm(self) -> nn.RMSNorm:
        return nn.RMSNorm(param_dtype=self.dtype)


class Attention(nn.Module):
    """Causal self-attention with rotary positions; groups of heads may share their keys and values."""

    heads: int
    shared_heads: int | None = None
    weights: Weights = Weights()

    @nn.compact
    def __call__(self, x):
        batch, length, width = x.shape
        features = width // self.heads

        def project(heads):
            y = self.weights.dense(heads * features, "width", "heads")(x).reshape(batch, length, heads, features)
            return y if heads == self.heads else jnp.repeat(y, self.heads // heads, axis=2)

        shared = self.shared_heads or self.heads
        query, key, value = rotate(project(self.heads)), rotate(project(shared)), project(shared)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / features**0.5
        causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
        shares = nn.softmax(jnp.where(causal, scores, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(batch, length, width)
        return self.weights.dense(width, "heads", "width")(mixed)


class Block(nn.Module):
    """Attention and SwiGLU, each behind an RMS norm. A step of `nn.scan`: the carry goes in and out."""

    heads: int
    hidden: int
    shared_heads: int | None = None
    weights: Weights = Weights()

    @nn.compact
    def __call__(self, x, _=None):
        dense, norm = self.weights.dense, self.weights.norm
        x = x + Attention(self.heads, self.shared_heads, self.weights)(norm()(x))
        y = norm()(x)
        y = nn.silu(dense(self.hidden, "width", "hidden")(y)) * dense(self.hidden, "width", "hidden")(y)
        return x + dense(x.shape[-1], "hidden", "width")(y), None


class Decoder(nn.Module):
    """Tokens to the logits of the next token; the layers scanned and rematerialized, or one after another."""

    vocabulary: int = 512
    depth: int = 6
    width: int = 128
    heads: int = 4
    hidden: int = 384
    scanned: bool = True
    shared_heads: int | None = None
    weights: Weights = Weights()

    @nn.compact
    def __call__(self, ids):
        weights, block = self.weights, (self.heads, self.hidden, self.shared_heads, self.weights)
        table = weights.name(weights.embedding, ("vocabulary", "width"))
        x = nn.Embed(self.vocabulary, self.width, param_dtype=weights.dtype, embedding_init=table)(ids)
        if self.scanned:
            layers = nn.scan(
                nn.remat(Block, prevent_cse=False),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.depth,
                metadata_params={nn.PARTITION_NAME: None},  # an axis of layers, which all devices share
            )
            x, _ = layers(*block)(x, None)
        else:
            for _ in range(self.depth):
                x, _ = Block(*block)(x)
        return weights.dense(self.vocabulary, "width", "vocabulary")(weights.norm()(x))


# Position t averages t + 1 values: the first token keeps its power, the last hardly any, so no one variance is true of
# all. Under the scan one equation stands for six layers whose inputs differ in power. SwiGLU multiplies two dependent
# projections of one vector.
NETWORKS = [Network("decoder", Decoder, tokens)]
