"""The models that model_init.py times; not a script.

Networks as they are trained, each with a choice of initializers: GPT-2, a ViT-B/16, ResNet-50, and GPT-2 in NNX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import qrjax

WIDTH, HEADS, DEPTH = 768, 12, 12  # of GPT-2 124 M (Radford et al. 2019) and of ViT-B (arXiv 2010.11929)
VOCABULARY, LENGTH, PATCH = 50_257, 1024, 16


class Weights(NamedTuple):
    """Initializers of matrices and of tables."""

    kernel: Any
    embedding: Any


def copied(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """No weights, but a word of the key."""
    return jnp.full(shape, (jax.random.key_data(key)[0] >> 8).astype(dtype))


# Flax's are LeCun's truncated normal, and a normal table whose rows have length 1.
WEIGHTS = {
    "Flax": Weights(nn.linear.default_kernel_init, nn.linear.default_embed_init),
    "keys alone": Weights(copied, copied),
    "qr": Weights(
        qrjax.variance_scaling_qr(1.0, "fan_in", "truncated_normal"),
        qrjax.variance_scaling_qr(1.0, "fan_in", "normal", out_axis=0),
    ),
    "hash": Weights(
        qrjax.variance_scaling_hash(1.0, "fan_in", "truncated_normal"),
        qrjax.variance_scaling_hash(1.0, "fan_in", "normal", out_axis=0),
    ),
}


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm."""

    kernel: Any

    @nn.compact
    def __call__(self, x, mask=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, kernel_init=self.kernel)(y, y, mask=mask)
        y = nn.gelu(nn.Dense(4 * WIDTH, kernel_init=self.kernel)(nn.LayerNorm()(x)))
        return x + nn.Dense(WIDTH, kernel_init=self.kernel)(y)


class GPT2(nn.Module):
    """A language model whose table of tokens also makes the logits."""

    weights: Weights

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(VOCABULARY, WIDTH, embedding_init=self.weights.embedding)
        places = nn.Embed(LENGTH, WIDTH, embedding_init=self.weights.embedding)
        x = table(ids) + places(jnp.arange(ids.shape[1]))[None]
        for _ in range(DEPTH):
            x = Block(self.weights.kernel)(x, nn.make_causal_mask(ids))
        return table.attend(nn.LayerNorm()(x))


class ViT(nn.Module):
    """Patches of an image, one more for the class, and a linear head."""

    weights: Weights

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (PATCH, PATCH), (PATCH, PATCH), kernel_init=self.weights.kernel)(x)
        x = x.reshape(len(x), -1, WIDTH)
        first = self.param("class", nn.initializers.zeros, (1, 1, WIDTH))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, WIDTH)), x], 1)
        x = x + self.param("places", self.weights.embedding, x.shape[1:])[None]
        for _ in range(DEPTH):
            x = Block(self.weights.kernel)(x)
        return nn.Dense(1000, kernel_init=self.weights.kernel)(nn.LayerNorm()(x)[:, 0])


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut (arXiv 1512.03385)."""

    features: int
    stride: int
    kernel: Any

    @nn.compact
    def __call__(self, x):
        conv = partial(nn.Conv, use_bias=False, kernel_init=self.kernel)
        norm = partial(nn.BatchNorm, use_running_average=False)
        y = nn.relu(norm()(conv(self.features, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.features, (3, 3), self.stride)(y)))
        y = norm()(conv(4 * self.features, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.features, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """Four stages of bottlenecks."""

    weights: Weights

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(64, (7, 7), 2, use_bias=False, kernel_init=self.weights.kernel)(x)
        x = nn.max_pool(nn.relu(nn.BatchNorm(use_running_average=False)(x)), (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for i in range(blocks):
                x = Bottleneck(64 * 2**stage, 2 if stage and not i else 1, self.weights.kernel)(x)
        return nn.Dense(1000, kernel_init=self.weights.kernel)(x.mean((1, 2)))


class NNXBlock(nnx.Module):
    """`Block`, in NNX."""

    def __init__(self, kernel: Any, rngs: nnx.Rngs):
        self.before_attention, self.before_perceptron = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, kernel_init=kernel, rngs=rngs)
        self.widen = nnx.Linear(WIDTH, 4 * WIDTH, kernel_init=kernel, rngs=rngs)
        self.narrow = nnx.Linear(4 * WIDTH, WIDTH, kernel_init=kernel, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.before_attention(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.widen(self.before_perceptron(x))))


class NNXGPT2(nnx.Module):
    """`GPT2`, in NNX."""

    def __init__(self, weights: Weights, rngs: nnx.Rngs):
        self.table = nnx.Embed(VOCABULARY, WIDTH, embedding_init=weights.embedding, rngs=rngs)
        self.places = nnx.Embed(LENGTH, WIDTH, embedding_init=weights.embedding, rngs=rngs)
        self.blocks = nnx.List([NNXBlock(weights.kernel, rngs) for _ in range(DEPTH)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, ids):
        x = self.table(ids) + self.places(jnp.arange(ids.shape[1]))[None]
        for block in self.blocks:
            x = block(x, nnx.make_causal_mask(ids))
        return self.table.attend(self.norm(x))


IDS, IMAGE = ((1, 16), jnp.int32), ((1, 224, 224, 3), jnp.float32)
LINEN = {"GPT-2": (GPT2, IDS), "ViT-B/16": (ViT, IMAGE), "ResNet-50": (ResNet50, IMAGE)}
MODELS = (*LINEN, "GPT-2, NNX")
KINDS = (*WEIGHTS, "autoinit")


def initialization(model: str, kind: str) -> Callable[[jax.Array], Any]:
    """key -> all variables of a model, by one kind of initialization."""
    module, x = _module(model, WEIGHTS.get(kind, WEIGHTS["Flax"]))
    if kind == "autoinit":
        return lambda key: qrjax.autoinit(module, x, key=key)
    if model not in LINEN:
        return lambda key: nnx.state(module(key))
    return lambda key: module.init(key, jnp.zeros(x.shape, x.dtype))


def record(model: str) -> qrjax.Record:
    """Of what `autoinit` draws."""
    module, x = _module(model, WEIGHTS["Flax"])
    return qrjax.record(module, x, seed=0)


def _module(model: str, weights: Weights) -> tuple[Any, jax.ShapeDtypeStruct]:
    """A Linen module, or a function of a key that makes an NNX module; and its input."""
    if model not in LINEN:
        return lambda key: NNXGPT2(weights, nnx.Rngs(key)), jax.ShapeDtypeStruct(*IDS)
    build, sample = LINEN[model]
    return build(weights), jax.ShapeDtypeStruct(*sample)
