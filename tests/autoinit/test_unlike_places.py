"""Places of one array that differ in strength: where rows meet themselves, behind known matrices, beside zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import function_agrees, normal, predicted
from pairs import pair

import qrjax

ROWS = normal(16, 12, 32)
UPPER = np.triu_indices(12)
TURNED = np.roll(np.eye(12, dtype=np.float32), 1, 0)


@pytest.fixture(autouse=True)
def _broadcasts():
    """Such layers are written with numbers of axes that differ."""
    with jax.numpy_rank_promotion("allow"):
        yield


def gram(x):
    """The products of all pairs of rows."""
    return jnp.einsum("bic,bjc->bij", x, x)


def normed(x):
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def beside_zeros(x):
    """A token that starts at zero and others, each of them normed."""
    return normed(jnp.concatenate([jnp.zeros_like(x[:, :1]), x], 1))


def pushed(x):
    """The top of a stack onto which two rows were pushed."""
    stack = jnp.zeros_like(x)
    for i in range(2):
        stack = jnp.concatenate([x[:, i : i + 1] + 0.5 * stack[:, :1], stack[:, :-1]], 1)
    return stack[:, 0]


def deviations(x):
    """Sums of all deviations from a mean, which are nothing, and others."""
    rows = np.random.default_rng(0).standard_normal((x.shape[1],) * 2, np.float32)
    rows[0] = 1
    return jnp.einsum("ij,bjc->bic", rows, x - x.mean(1, keepdims=True))


def decaying(x):
    """States that forget at rates of their own, as those of a selective state-space model."""
    rates, state = np.array([0.1, 1, 10], np.float32), 0.0
    for i in range(x.shape[1]):
        step, given = jax.nn.softplus(x[:, i, :16, None]), x[:, i, 16:, None]
        state = jnp.exp(-step * rates) * state + given
    return state


PLACES = {
    "states that forget": (decaying, 0.1),
    "a Gram matrix": (gram, 0.05),
    "over the features": (lambda x: jnp.einsum("bic,bid->bcd", x, x), 0.05),
    "of two functions of one array": (lambda x: jnp.einsum("bic,bjc->bij", jax.nn.relu(x), jnp.tanh(x)), 0.05),
    "its upper half": (lambda x: gram(x)[:, *UPPER], 0.05),
    "behind an activation": (lambda x: jax.nn.relu(gram(x)), 0.05),
    "cosines": (lambda x: gram(x / jnp.linalg.norm(x, axis=-1, keepdims=True)), 0.1),
    "attention without weights": (lambda x: jax.nn.softmax(gram(x) / 32**0.5) @ x, 0.12),
    "the first of running sums": (lambda x: jnp.einsum("ij,bjc->bic", np.tri(12, dtype=np.float32), x)[:, 0], 0.05),
    "a known permutation": (lambda x: jnp.einsum("ij,bjc->bic", TURNED, x * jnp.arange(12.0)[:, None])[:, 0], 0.08),
    "rows of deviations, one of which sums to nothing": (lambda x: deviations(x)[:, 1:], 0.05),
    "beside zeros": (lambda x: beside_zeros(x)[:, 1:], 0.1),
    "the top of a stack": (pushed, 0.05),
}


@pytest.mark.parametrize("name", PLACES)
def test_second_moments(name):
    function, within = PLACES[name]
    function_agrees(function, ROWS, draws=8, within=within)


def test_what_starts_at_zero_stays_there_through_a_norm():
    assert predicted(lambda x: beside_zeros(x)[:, 0], ROWS).second_moment == 0


@pytest.mark.parametrize("places", [12, 48])
def test_deviations_that_sum_to_nothing_do_so_but_for_rounding(places):
    x = normal(16, places, 32)
    assert predicted(lambda x: jax.nn.gelu(deviations(x))[:, 0], x).second_moment < 1e-6


@pytest.mark.parametrize("mask", [np.ones((12, 12), np.float32), np.tri(12, dtype=np.float32)], ids=["all", "causal"])
def test_scores_that_no_softmax_follows_are_as_alike_as_the_values(mask):
    """As RetNet and linear attention have them; the mean over four draws is within 5 sigma of their luck."""

    def apply(p, x):
        q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
        return ((jnp.einsum("bic,bjc->bij", q, k) * mask) @ v) @ p["last"]

    model = pair(apply, q=(32, 8), k=(32, 8), v=(32, 8), last=(8, 64))
    x = jax.random.normal(jax.random.key(0), (64, 12, 32))
    moments = [jnp.square(apply(qrjax.autoinit(model, x, seed=seed), x)).mean() for seed in range(4)]
    assert float(np.mean(moments)) == pytest.approx(1, rel=0.25)


def registers(p, x):
    """Tokens of zeros before others, and a layer norm of all, as vision transformers with registers begin."""
    x = jnp.concatenate([jnp.zeros((16, 6, 32)), x @ p["embed"]], 1)
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) @ p["query"]


def test_tokens_of_zeros_stay_nothing_behind_a_layer_norm():
    model = pair(registers, embed=(32, 32), query=(32, 32))
    x = np.random.default_rng(0).standard_normal((16, 12, 32), np.float32)
    rows = qrjax.measure(model, qrjax.autoinit(model, x), x).weights
    assert [row.octaves for row in rows] == pytest.approx([0, 0], abs=0.1)  # .6 where each token has the size 1
