"""The encoder of the first transformer (Vaswani et al. 2017, arXiv 1706.03762): norms after the sums, dropout."""

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, tokens
from .unet import sinusoid


class PostNorm(nn.Module):
    """Tokens to logits at every position, with fixed sinusoidal positions."""

    vocabulary: int = 512
    depth: int = 6
    width: int = 128
    heads: int = 4
    rate: float = 0.1

    @nn.compact
    def __call__(self, ids, train: bool):
        def drop(x):
            return nn.Dropout(self.rate, deterministic=not train)(x)

        x = nn.Embed(self.vocabulary, self.width)(ids) * self.width**0.5
        x = drop(x + sinusoid(jnp.arange(ids.shape[1], dtype=jnp.float32), self.width)[None])
        for _ in range(self.depth):
            x = nn.LayerNorm()(x + drop(nn.MultiHeadDotProductAttention(self.heads)(x)))
            y = nn.Dense(self.width)(nn.relu(nn.Dense(4 * self.width)(x)))
            x = nn.LayerNorm()(x + drop(y))
        return nn.Dense(self.vocabulary)(x)


# The forward signal is always standard here; what suffers is the backward one, and the correlation of the tokens.
NETWORKS = [Network("transformer_post", PostNorm, tokens, {"train": True}, ("dropout",))]
