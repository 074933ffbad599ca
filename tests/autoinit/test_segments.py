"""Aggregates over a graph's edges: softmax, sums, extremes and products of segments that the indices make."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import function_agrees, normal, predicted, shape_of

import qrjax

GRAPHS, NODES, EDGES = 8, 12, 40  # nodes and edges of each graph
N, E = GRAPHS * NODES, GRAPHS * EDGES
_PAIRS = np.random.default_rng(0)
# Edges without repetition, so that no message comes twice.
_CHOSEN = [_PAIRS.choice(NODES * NODES, EDGES, replace=False) + 0 * i for i in range(GRAPHS)]
SENDERS, RECEIVERS = (
    np.concatenate([end(chosen, NODES) + i * NODES for i, chosen in enumerate(_CHOSEN)]).astype(np.int32)
    for end in (np.floor_divide, np.remainder)
)
# Senders of which a node hears some several times.
FEW = SENDERS // NODES * NODES + SENDERS % 3
COUNTS = np.bincount(RECEIVERS, minlength=N).astype(np.float32)
GRAPH_OF_NODE, GRAPH_OF_EDGE = (np.repeat(np.arange(GRAPHS, dtype=np.int32), n) for n in (NODES, EDGES))


def total(x):
    return jax.ops.segment_sum(x, RECEIVERS, N)


def softmax(x, places=RECEIVERS, count=N):
    """A softmax over the edges that end at one node, as GAT's authors write it."""
    shifted = jnp.exp(x - jax.ops.segment_max(x, places, count)[places])
    return shifted / jax.ops.segment_sum(shifted, places, count)[places]


def squared(x):
    return softmax(x) ** 2


FUNCTIONS = {
    "softmax": (softmax, normal(E, 1)),
    "softmax of steep scores": (lambda x: softmax(3 * x), normal(E, 4)),
    "softmax, shifted": (lambda x: softmax(x + 5) + 1, normal(E, 4)),
    "weighted sum": (lambda x, y: total(softmax(x) * y), normal(E, 1), normal(E, 32)),
    "weighted sum of gathered": (lambda x, y: total(softmax(x) * y[SENDERS]), normal(E, 1), normal(N, 32)),
    "weighted sum of messages that come twice": (
        lambda x, y: total(softmax(x) * y[FEW]), normal(E, 1), normal(N, 32),
    ),
    "sum of messages that come twice": (lambda y: total(nn.relu(y[FEW])), normal(N, 32)),
    "sum of positive": (lambda x: total(nn.relu(x)), normal(E, 8)),
    "mean": (lambda x: total(x) / jnp.maximum(COUNTS, 1)[:, None], normal(E, 8, mean=1.0)),
    "centred": (lambda x: x - (total(x) / jnp.maximum(COUNTS, 1)[:, None])[RECEIVERS], normal(E, 8, mean=1.0)),
    "less a part of the sum": (lambda x: x - 0.1 * total(x)[RECEIVERS], normal(E, 8, mean=1.0)),
    "largest": (lambda x: jax.ops.segment_max(x, RECEIVERS, N)[RECEIVERS], normal(E, 8)),
    "smallest": (lambda x: jax.ops.segment_min(x, RECEIVERS, N)[RECEIVERS], normal(E, 8)),
    "largest, floored": (lambda x: jnp.maximum(jax.ops.segment_max(x, RECEIVERS, N), -1), normal(E, 8)),
    "largest or zero": (
        lambda x: (lambda y: jnp.where(jnp.isneginf(y), 0, y))(jax.ops.segment_max(x, RECEIVERS, N)), normal(E, 8),
    ),
    "largest, into ones": (lambda x: jnp.ones((N, 8)).at[RECEIVERS].max(x), normal(E, 8)),
    "product": (lambda x: jax.ops.segment_prod(x, RECEIVERS, N), normal(E, 64, mean=1.0, variance=0.1)),
    "onto others": (lambda x, y: y.at[RECEIVERS].add(x), normal(E, 8), normal(N, 8)),
    "in rows": (lambda x: jnp.zeros((N, 8)).at[RECEIVERS.reshape(GRAPHS, EDGES)].add(x), normal(GRAPHS, EDGES, 8)),
}  # fmt: skip


@pytest.mark.some(2)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_segments(name):
    function_agrees(*FUNCTIONS[name], draws=64)


def test_shares_sum_to_one_and_to_zero_where_nothing_is():
    shares, sums = predicted(lambda x: (softmax(x), total(softmax(x))), normal(E, 1))
    assert shares.mean == pytest.approx((COUNTS > 0).sum() / E, rel=0.02)
    assert sums.mean == pytest.approx((COUNTS > 0).mean(), rel=0.02)
    assert sums.second_moment == pytest.approx((COUNTS > 0).mean(), rel=0.02)


def test_equal_elements():
    ones = np.ones((1 << 19, 1), np.float32)  # too large to be computed
    places = np.arange(1 << 19) % 1000
    found = predicted(lambda x: jax.ops.segment_max(0 * x + ones, places, 1000), normal(1 << 19, 1))
    assert (found.mean, found.variance) == (1.0, 0.0)


def test_what_is_made_of_known_arrays_stays_known():
    # Repeating rows by known counts goes through a scatter of integers.
    def repeated(x):
        return jnp.repeat(x, np.full(GRAPHS, NODES), axis=0, total_repeat_length=N)

    found = predicted(repeated, normal(GRAPHS, 4))
    # Two of the rows are one in 11 of 95 cases, and not by chance in an eighth of all.
    assert found.rho[1, 0] == pytest.approx((NODES - 1) / (N - 1), rel=0.05)


class Attention(nn.Module):
    """Graph attention (Velickovic et al. 2018, arXiv 1710.10903)."""

    layers: int = 2

    @nn.compact
    def __call__(self, x, senders, receivers):
        for _ in range(self.layers):
            x = nn.Dense(64)(x)
            sent, received = x[senders], x[receivers]
            logits = nn.leaky_relu(nn.Dense(1)(jnp.concatenate([sent, received], -1)))
            x = nn.leaky_relu(jax.ops.segment_sum(sent * softmax(logits, receivers, len(x)), receivers, len(x)))
        return nn.Dense(16)(x)


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, *x):
        return nn.Dense(32)(nn.relu(nn.Dense(32)(jnp.concatenate(x, -1))))


class Messages(nn.Module):
    """A block of a graph network (Battaglia et al. 2018, arXiv 1806.01261): edges, nodes, and the whole graphs."""

    @nn.compact
    def __call__(self, nodes, edges, graphs, senders, receivers):
        edges = Perceptron(name="edge")(edges, nodes[senders], nodes[receivers], graphs[GRAPH_OF_EDGE])
        sent, received = (jax.ops.segment_sum(edges, ends, len(nodes)) for ends in (senders, receivers))
        nodes = Perceptron(name="node")(nodes, sent, received, graphs[GRAPH_OF_NODE])
        sums = [jax.ops.segment_sum(x, of, GRAPHS) for x, of in ((nodes, GRAPH_OF_NODE), (edges, GRAPH_OF_EDGE))]
        return Perceptron(name="graph")(*sums, graphs)


def octaves(module, *inputs, seeds=8):
    """Of the weights' rows: log2 of predicted over the mean measured second moment."""
    measured = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        fresh = [x if x.dtype == np.int32 else random.standard_normal(x.shape, np.float32) for x in inputs]
        variables = qrjax.autoinit(module, *inputs, seed=seed, source="hash", distribution="uniform")
        report = qrjax.measure(module, variables, *fresh)
        measured.append([row.measured_second_moment for row in report if row.gain is not None])
    return np.log2([row.second_moment for row in report if row.gain is not None] / np.mean(measured, 0))


def drawn(*shape):
    return np.random.default_rng(len(shape) + shape[0]).standard_normal(shape, np.float32)


@pytest.mark.slow
def test_graph_attention_as_measured():
    found = octaves(Attention(), drawn(N, 64), SENDERS, RECEIVERS)
    # The second layer's messages come from neighbours, which have neighbours in common: more alike than any two.
    # And logits have one weight vector, so that eight draws say little.
    assert np.abs(found).max() < 0.45


@pytest.mark.slow
def test_a_graph_network_as_measured():
    found = octaves(Messages(), drawn(N, 32), drawn(E, 32), drawn(GRAPHS, 32), SENDERS, RECEIVERS)
    assert np.median(np.abs(found)) < 0.15
    assert np.abs(found).max() < 0.35


def test_indices_that_are_not_known_are_taken_as_random():
    ends = jax.ShapeDtypeStruct((E,), np.int32)
    x = shape_of(normal(N, 64))
    guessed = qrjax.analyze(Attention(), x, ends, ends)
    random = np.random.default_rng(1)
    known = qrjax.analyze(Attention(), x, *(random.integers(0, N, E, np.int32) for _ in range(2)))
    gains, expected = ([row.gain for row in report if row.gain is not None] for report in (guessed, known))
    assert gains == pytest.approx(expected, rel=0.1)
    notes = [note for row in guessed for note in row.notes]
    assert f"indices into {N} places are not known: taken as uniformly random" in notes
    assert not [note for row in known for note in row.notes]
