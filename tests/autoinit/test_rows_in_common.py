"""What rows have in common beyond a mean over all pairs: tokens of few numbers, edges of one node."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import pair

import qrjax
from qrjax._rules._places import UNKNOWN, pairs_of
from qrjax._signals._ranks import behind_weight, effective_rank
from qrjax._signals._signal import Signal
from qrjax._signals._source import Rows, Source, related

# Octaves; without what is tested here queries are 1.6 off, first nodes 2.8.
NEAR = 0.6
TOKENS = np.random.default_rng(0).standard_normal((16, 48, 8), np.float32)
NODES, EDGES = 96, 384
GRAPHS = np.repeat(np.arange(4), 24)
FIRST = np.repeat(np.arange(4) * 24, 96)
SENDERS, RECEIVERS = (FIRST + np.random.default_rng(seed).integers(0, 24, EDGES) for seed in (1, 2))


def attention(p, x):
    x = x @ p["embed"]
    q, k, v = (x @ p[name] for name in ("query", "key", "value"))
    return jax.nn.softmax(q @ k.swapaxes(1, 2) / 64**0.5) @ v @ p["out"]


def messages(p, x):
    x = x @ p["first"]
    for number in range(2):
        sent = jax.nn.relu(jnp.concatenate([x[SENDERS], x[RECEIVERS]], -1) @ p[f"message {number}"])
        x = jax.nn.relu(jax.ops.segment_sum(sent, RECEIVERS, NODES))
    return jax.ops.segment_sum(x, GRAPHS, 4) @ p["out"]


def octaves(module, x, column="gradient"):
    """By weight log2 of measured over predicted."""
    rows = qrjax.measure(module, qrjax.autoinit(module, x, source="hash"), x, gradients=True).weights
    return {row.weight: np.log2(getattr(row, f"measured_{column}") / getattr(row, column)) for row in rows}


def test_tokens_of_few_numbers():
    weights = {"embed": (8, 64)} | dict.fromkeys(("query", "key", "value", "out"), (64, 64))
    found = octaves(pair(attention, **weights), TOKENS)
    assert {name: o for name, o in found.items() if abs(o) > NEAR} == {}


def fused(p, x):
    x = x @ p["embed"]
    q, k, v = jnp.split(x @ p["all"], 3, -1)
    return jax.nn.softmax(q @ k.swapaxes(1, 2) / 64**0.5) @ v @ p["out"]


def test_one_weight_for_queries_keys_and_values_is_as_three():
    first = {"embed": (8, 64), "out": (64, 64)}
    apart = qrjax.analyze(pair(attention, **first, query=(64, 64), key=(64, 64), value=(64, 64)), TOKENS)
    together = qrjax.analyze(pair(fused, **first, all=(64, 192)), TOKENS)
    assert together.weights[-1].gain == pytest.approx(apart.weights[-1].gain, rel=1e-6)


def test_edges_of_one_node():
    weights = {"first": (32, 64), "message 0": (128, 64), "message 1": (128, 64), "out": (64, 32)}
    x = np.random.default_rng(3).standard_normal((NODES, 32), np.float32)
    found = octaves(pair(messages, **weights), x)
    assert {name: o for name, o in found.items() if abs(o) > NEAR} == {}


def by_kind_of_edge(p, x):
    """Each node has a sum of its own for the messages of either kind, and both in one row."""
    x = x @ p["first"]
    for _ in range(2):
        sent = jax.nn.relu(x[SENDERS] @ p["message"])
        sums = jax.ops.segment_sum(sent, 2 * RECEIVERS + np.arange(EDGES) % 2, 2 * NODES)
        x = sums.reshape(NODES, 64) @ p["both"]
    return jax.ops.segment_sum(x, GRAPHS, 4) @ p["out"]


def to_nowhere(p, x):
    """Some messages have no receiver."""
    x = x @ p["first"]
    receivers = np.where(np.arange(EDGES) < 4, -1000, RECEIVERS)
    for _ in range(2):
        sent = jax.nn.relu(x[SENDERS] @ p["message"])
        x = jnp.zeros((NODES, 32)).at[receivers].add(sent, mode="drop")
    return jax.ops.segment_sum(x, GRAPHS, 4) @ p["out"]


def by_column(p, x):
    """What is added up are columns, of which there are fewer than nodes."""
    x = x @ p["first"]
    for _ in range(2):
        x = jax.ops.segment_sum(jax.nn.relu(x[SENDERS] @ p["message"]), RECEIVERS, NODES)
        x = x.at[:, np.arange(8)].add(jnp.tanh(x[:, 8:16]))
    return jax.ops.segment_sum(x, GRAPHS, 4) @ p["out"]


@pytest.mark.parametrize("function", [by_kind_of_edge, to_nowhere, by_column])
def test_sums_that_are_not_one_to_a_node(function):
    weights = {"first": (32, 32), "message": (32, 32), "both": (64, 32), "out": (32, 32)}
    x = jax.ShapeDtypeStruct((NODES, 32), jnp.float32)
    report = qrjax.analyze(pair(function, **weights), x, gradients=True)
    assert all(0 < row.gradient < np.inf for row in report.weights)


def test_entries_of_unknown_places_make_no_pairs():
    assert pairs_of(np.array([0, 0, 1, UNKNOWN, UNKNOWN])) == 2


@pytest.mark.parametrize("rank", [8, 64])
def test_the_effective_rank_of_a_weight_s_outputs(rank):
    generator = np.random.default_rng(0)
    draws = generator.standard_normal((4000, rank)) @ generator.standard_normal((rank, 128))
    eigenvalues = np.linalg.eigvalsh(np.cov(draws.T))
    measured = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert effective_rank(Signal.normal((4000, rank)), rank) == pytest.approx(rank)
    assert behind_weight(rank, 128) == pytest.approx(measured, rel=0.05)


def test_rows_that_are_all_one_have_the_rank_of_their_features():
    """A sum of two arrays without differences between rows, as of an image of one number everywhere."""
    parts = [(Source(rows=Rows(8.0, 0.0)), 0.5**0.5) for _ in range(2)]
    alike = Signal.normal((16, 32)).fresh(source=related(parts), rho=np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert effective_rank(alike, 32) == pytest.approx(32)
