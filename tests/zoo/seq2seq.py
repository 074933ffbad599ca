"""Translation by recurrence and attention (Luong et al. 2015, arXiv 1508.04025)."""

import jax.numpy as jnp
from flax import linen as nn

from .network import Network, tokens


class Seq2Seq(nn.Module):
    """A GRU reads the source, another writes the target and looks back at the source at every step."""

    vocabulary: int = 512
    width: int = 128

    @nn.compact
    def __call__(self, source, target):
        read = nn.Embed(self.vocabulary, self.width)(source)
        carry, memory = nn.RNN(nn.GRUCell(self.width), return_carry=True)(read)
        states = nn.RNN(nn.GRUCell(self.width))(nn.Embed(self.vocabulary, self.width)(target), initial_carry=carry)
        scores = jnp.einsum("btd,bsd->bts", nn.Dense(self.width, use_bias=False)(states), memory)
        context = jnp.einsum("bts,bsd->btd", nn.softmax(scores), memory)
        joined = nn.tanh(nn.Dense(self.width, use_bias=False)(jnp.concatenate([context, states], axis=-1)))
        return nn.Dense(self.vocabulary)(joined)


def inputs(seed: int):
    return (*tokens(seed, length=24), *tokens(seed + 1, length=16))


# The last state of one scan starts another. The scores are not divided by the root of the width, so the softmax is
# sharper than in a transformer, the more so the larger the states.
NETWORKS = [Network("seq2seq", Seq2Seq, inputs)]
