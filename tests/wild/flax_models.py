"""Flax's own layers, put together as its users do."""

import functools

from flax import linen as nn

from .model import Wild, normal


class Blocks(nn.Module):
    """Attention whose queries and keys are normalized, and a gated MLP, behind norms."""

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = x + nn.SelfAttention(4, normalize_qk=True)(nn.RMSNorm()(x))
            y = nn.RMSNorm()(x)
            x = x + nn.Dense(64)(nn.silu(nn.Dense(128)(y)) * nn.Dense(128)(y))
        return nn.Dense(64)(nn.RMSNorm()(x))


class Bidirectional(nn.Module):
    """Cells of two kinds, one from each end of a sequence."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(64)(nn.Bidirectional(nn.RNN(nn.GRUCell(64)), nn.RNN(nn.LSTMCell(64)))(x))


class Film(nn.Module):
    """A convolutional cell over the frames of a film, and the mean over all places and frames."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(64)(nn.RNN(nn.ConvLSTMCell(16, (3, 3)))(x).mean((1, 2, 3)))


entry = functools.partial(Wild, package="flax")
MODELS = [
    entry("flax_normalized_queries", Blocks, normal(8, 16, 64)),
    entry("flax_bidirectional", Bidirectional, normal(8, 16, 64)),
    entry("flax_film", Film, normal(4, 5, 8, 8, 16)),
]
