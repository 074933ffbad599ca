"""Networks of any width, with a batch and a loss each, for checks of what a step changes.

The heads of attention grow in number with the width and not in size, but for "fixed_heads".
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from zoo.mixer import Mixer
from zoo.nnx_transformer import MLP as NnxMLP
from zoo.nnx_transformer import Transformer as NnxTransformer

CLASSES, EXAMPLES, LENGTH, VOCABULARY, HEAD = 10, 16, 8, 32, 16


@dataclasses.dataclass(frozen=True)
class Wide:
    """A network of any width.

    Attributes:
      make: of a width what `qrjax.coordinate_check` takes.
      sample: what it is called with.
      loss: of what it returns.
      package: whose it is, if not ours.
    """

    make: Callable[[int], Any]
    sample: Any
    loss: Callable[[Any], Any]
    package: str | None = None


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


LABELS = np.random.default_rng(1).integers(0, CLASSES, EXAMPLES)
IDS = np.random.default_rng(2).integers(0, VOCABULARY, (EXAMPLES, LENGTH + 1), np.int32)
VECTORS, IMAGES, SEQUENCES = normal(EXAMPLES, 16), normal(EXAMPLES, 8, 8, 3), normal(EXAMPLES, LENGTH, 12)


def classified(logits):
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)).mean()


def continued(logits):
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(IDS[:, 1:])).mean()


class MLP(nn.Module):
    """Dense layers with ReLU."""

    width: int

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(CLASSES)(x)


class CNN(nn.Module):
    """Convolutions with gelu, and the mean over places."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Conv(self.width, (3, 3), 2)(x))
        x = nn.gelu(nn.Conv(self.width, (3, 3), 2)(x))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Attention(nn.Module):
    """Self-attention whose heads have a fixed size, or a fixed number."""

    heads: int | None = None

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        heads = self.heads or width // HEAD
        q, k, v = (nn.Dense(width, name=name)(x).reshape(*x.shape[:2], heads, -1) for name in ("query", "key", "value"))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width // heads)
        y = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)
        return nn.Dense(width, name="out")(y.reshape(x.shape))


class Transformer(nn.Module):
    """Sequences to classes; without norms its branches are half as strong as what they are added to."""

    width: int
    norms: bool = True
    heads: int | None = None

    @nn.compact
    def __call__(self, x):
        norm = (lambda x: nn.LayerNorm()(x)) if self.norms else (lambda x: 0.5 * x)
        x = nn.Dense(self.width)(x)
        for _ in range(2):
            x = x + Attention(self.heads)(norm(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(norm(x))))
        return nn.Dense(CLASSES)(norm(x).mean(1))


class Deep(nn.Module):
    """So many blocks of two dense layers, and of attention before each, between an embedding and a head."""

    depth: int
    norms: bool = True
    attention: bool = False

    @nn.compact
    def __call__(self, x):
        width, norm = 64, lambda x, name=None: nn.LayerNorm(name=name)(x) if self.norms else x
        x = nn.Dense(width, name="embedding")(x)
        for _ in range(self.depth):
            if self.attention:
                x = x + Attention()(norm(x))
            x = x + nn.Dense(width)(nn.relu(nn.Dense(width)(norm(x))))
        x = norm(x, "norm")
        return nn.Dense(CLASSES, name="head")(x.mean(1) if self.attention else x)


class GRU(nn.Module):
    """The last state of a recurrent layer."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(CLASSES)(nn.RNN(nn.GRUCell(self.width))(x)[:, -1])


def nnx_transformer(width):
    return NnxTransformer(2, width, width // HEAD, VOCABULARY, LENGTH, rngs=nnx.Rngs(0))


def bert(width):
    """The transformers library's classifier."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=2, num_attention_heads=width // HEAD,
        intermediate_size=2 * width, max_position_embeddings=LENGTH, num_labels=CLASSES,
    )  # fmt: skip
    return transformers.FlaxBertForSequenceClassification(config, _do_init=False).module


def gpt2(depth):
    """The transformers library's language model, with a head of its own."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=depth, n_head=4, n_positions=LENGTH, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.FlaxGPT2LMHeadModel(config, _do_init=False).module


def bert_sample():
    ids = IDS[:, :LENGTH]
    places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ids.shape)
    return ids, np.ones_like(ids), np.zeros_like(ids), places, None


def gpt2_sample():
    ids = IDS[:, :LENGTH]
    return ids, np.ones_like(ids), np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ids.shape)


def equinox(width):
    """Equinox's perceptron, as a pair of functions."""
    import equinox as eqx

    def make(key):
        return eqx.nn.MLP(16, CLASSES, width, 3, key=key)

    static = eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)[1]

    def init(key, x):
        del x
        return eqx.filter(make(key), eqx.is_inexact_array)

    return init, lambda arrays, x: jax.vmap(eqx.combine(arrays, static))(x)


def haiku(width):
    """Haiku's convolutions."""
    import haiku as hk

    def forward(x):
        for _ in range(2):
            x = jax.nn.relu(hk.Conv2D(width, 3, stride=2)(x))
        return hk.Linear(CLASSES)(x.mean((1, 2)))

    return hk.without_apply_rng(hk.transform(forward))


NETWORKS = {
    "mlp": Wide(MLP, VECTORS, classified),
    "cnn": Wide(CNN, IMAGES, classified),
    "transformer": Wide(Transformer, SEQUENCES, classified),
    "norm_free": Wide(lambda width: Transformer(width, False), SEQUENCES, classified),
    "fixed_heads": Wide(lambda width: Transformer(width, heads=4), SEQUENCES, classified),
    # Of these it is the depth that grows.
    "residual": Wide(Deep, VECTORS, classified),
    "residual_free": Wide(lambda depth: Deep(depth, False), VECTORS, classified),
    "deep_transformer": Wide(lambda depth: Deep(depth, attention=True), SEQUENCES, classified),
    "deep_gpt2": Wide(gpt2, gpt2_sample(), lambda out: continued(out.logits), package="transformers"),
    "gru": Wide(GRU, SEQUENCES, classified),
    "mixer": Wide(lambda width: Mixer(2, width, 2, 32, 4 * width), IMAGES, classified),
    "nnx_mlp": Wide(lambda width: NnxMLP(4, width, 16, CLASSES, rngs=nnx.Rngs(0)), VECTORS, classified),
    "nnx_transformer": Wide(nnx_transformer, IDS[:, :LENGTH], continued),
    "bert": Wide(bert, bert_sample(), lambda out: classified(out.logits), package="transformers"),
    "equinox": Wide(equinox, VECTORS, classified, package="equinox"),
    "haiku": Wide(haiku, IMAGES, classified, package="haiku"),
}
