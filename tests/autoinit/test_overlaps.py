"""Products of two weights' outputs of one input: examples have in common what the weights have."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from moments import module_agrees, normal

TOKENS, WIDTH = 96, 32
X = normal(4, TOKENS, WIDTH)


class Between(nn.Module):
    """A function of the outputs of three weights, and a weight."""

    function: object

    @nn.compact
    def __call__(self, x):
        y = self.function(*(nn.Dense(WIDTH, use_bias=False)(x) for _ in range(3)))
        return nn.Dense(WIDTH, use_bias=False)(y)


def heads(x):
    return x.reshape(len(x), TOKENS, 4, -1).transpose(0, 2, 1, 3)


def linear_attention(q, k, v):
    return jnp.einsum("bim,bmd->bid", q, jnp.einsum("bjm,bjd->bmd", k, v))


def of_heads(q, k, v):
    totals = jnp.einsum("bhjm,bhjd->bhmd", nn.relu(heads(k)), heads(v))
    return jnp.einsum("bhim,bhmd->bhid", heads(q), totals).transpose(0, 2, 1, 3).reshape(q.shape)


def of_one_matrix(x, *_):
    """Keys and values that one weight makes."""
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * second, second * first], -1).mean(1)


FUNCTIONS = {
    "halves of one output": of_one_matrix,
    "a mean of products": lambda x, y, _: (x * y).mean(1),  # 1.6 octaves too small
    "a mean of a gated unit": lambda x, y, _: (nn.sigmoid(x) * y).mean(1),
    "outer products": lambda k, v, _: (k[..., None] * v[:, :, None]).sum(1),  # 2.1 octaves too small
    "linear attention": linear_attention,
    "of heads, with features": of_heads,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_examples_have_in_common(name):
    # Of products of four weights over few draws, whose own spread is a tenth.
    function = FUNCTIONS[name]
    module_agrees(Between(function), X, draws=48, within=0.2)
