"""A transformer with a sparse mixture of experts (Shazeer et al. 2017, arXiv 1701.06538)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from .network import Network, tokens


class Expert(nn.Module):
    """One perceptron."""

    hidden: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(self.hidden)(x)))


class Mixture(nn.Module):
    """Each token goes to the `chosen` experts that the router likes best, which are added by its probabilities."""

    experts: int
    chosen: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        likes = nn.softmax(nn.Dense(self.experts, use_bias=False, name="router")(x))
        gates, indices = jax.lax.top_k(likes, self.chosen)
        gates = gates / gates.sum(-1, keepdims=True)
        chosen = nn.one_hot(indices, self.experts)
        dispatch, combine = chosen.sum(-2), jnp.einsum("btk,btke->bte", gates, chosen)
        every = nn.vmap(
            Expert,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            axis_size=self.experts,
        )
        outputs = every(self.hidden)(jnp.einsum("bte,btd->ebtd", dispatch, x))
        return jnp.einsum("bte,ebtd->btd", combine, outputs)


class Experts(nn.Module):
    """Causal blocks of attention and a mixture."""

    vocabulary: int = 512
    depth: int = 4
    width: int = 128
    heads: int = 4
    experts: int = 8
    chosen: int = 2
    hidden: int = 256

    @nn.compact
    def __call__(self, ids):
        mask = nn.make_causal_mask(ids)
        x = nn.Embed(self.vocabulary, self.width)(ids)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x), mask=mask)
            x = x + Mixture(self.experts, self.chosen, self.hidden)(nn.LayerNorm()(x))
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))


# Three of four dispatched vectors are zero, and those are the ones that the combination then leaves out: taken as
# independent, dispatch and gates would each cost a factor. The two gates sum to 1 and depend on x by a sort.
NETWORKS = [Network("experts", Experts, tokens)]
