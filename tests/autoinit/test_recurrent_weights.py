"""Weights whose input is made of their own earlier output: no stronger than the state, however the loop is written."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import qrjax

N, STEPS = 32, 6
X = jax.ShapeDtypeStruct((4, STEPS, 16), jnp.float32)
SHAPES = {"u": (16, N), "w": (N, N), "v": (16 + N, N), "stack": (3, N, N), "low": (N, 4), "high": (4, N), "o": (N, 4)}


def parameters(key, _x):
    """Each drawn by a key of its own."""
    keys = jax.random.split(key, len(SHAPES))
    return {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)}


def scanned(step):
    """A recurrence whose last state is read."""

    def apply(p, x):
        start = jnp.zeros((len(x), N))
        return jax.lax.scan(lambda h, one: (step(p, h, one), None), start, jnp.swapaxes(x, 0, 1))[0] @ p["o"]

    return parameters, apply


def unrolled(p, x):
    h = jnp.zeros((len(x), N))
    for t in range(STEPS):
        h = jnp.tanh(x[:, t] @ p["u"] + h @ p["w"])
    return h @ p["o"]


def while_loop(p, x):
    first = x[:, 0] @ p["u"]
    body = lambda s: (s[0] + 1, jnp.tanh(first + s[1] @ p["w"]))  # noqa: E731
    return jax.lax.while_loop(lambda s: s[0] < STEPS, body, (0, jnp.zeros((len(x), N))))[1] @ p["o"]


def equinox_cell():
    """Both gates' weights are fields of one module."""
    eqx = pytest.importorskip("equinox")
    init = lambda key, _x: eqx.nn.GRUCell(16, N, key=key)  # noqa: E731

    def apply(cell, x):
        def one(rows):
            return jax.lax.scan(lambda h, row: (cell(row, h), None), jnp.zeros(N), rows)[0]

        return jax.vmap(one)(x)

    return init, apply


def haiku_core(unroll):
    hk = pytest.importorskip("haiku")

    def network(x):
        core = hk.VanillaRNN(N)
        return getattr(hk, unroll)(core, jnp.swapaxes(x, 0, 1), core.initial_state(len(x)))[0]

    made = hk.without_apply_rng(hk.transform(network))
    return made.init, made.apply


RECURRENT = {
    "Linen, LSTM": (nn.RNN(nn.OptimizedLSTMCell(N)), {"cell/hi/kernel"}),  # and beside it those of the other gates
    "Linen, backwards": (nn.RNN(nn.SimpleCell(N), reverse=True), {"cell/h/kernel"}),
    "NNX, GRU": (nnx.RNN(nnx.GRUCell(16, N, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)), {"cell/dense_h/kernel"}),
    "unrolled": ((parameters, unrolled), {"w"}),
    "while": ((parameters, while_loop), {"w"}),
    "state beside the input": (
        scanned(lambda p, h, x: jnp.tanh(jnp.concatenate([x, h], -1) @ p["v"])), {"v"}
    ),
    "masked": (scanned(lambda p, h, x: jnp.tanh(x @ p["u"] + h @ jnp.tril(p["w"]))), {"w"}),
}  # fmt: skip


# Of other frameworks, which the newcomer's tests do without.
OTHERS = {
    "Equinox, GRU": (equinox_cell, {"weight_hh"}),
    "Haiku, dynamic": (lambda: haiku_core("dynamic_unroll"), {"vanilla_rnn/linear_1/w"}),
    "Haiku, static": (lambda: haiku_core("static_unroll"), {"vanilla_rnn/linear_1/w"}),
}


def keep(report):
    return {row.weight for row in report.weights if any(note.startswith("recurrent") for note in row.notes)}


@pytest.mark.parametrize("name", [*RECURRENT, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_recurrent_weights_keep_what_the_state_has(name):
    model, expected = RECURRENT[name] if name in RECURRENT else (OTHERS[name][0](), OTHERS[name][1])
    report = qrjax.analyze(model, X)
    assert keep(report) == expected
    (said,) = (finding for finding in report.findings if finding.startswith("recurrent: "))
    for row in report.weights:
        arriving = row.input_variance + row.input_mean**2
        if row.weight in expected:
            assert row.second_moment == pytest.approx(arriving, rel=0.02)
            assert arriving < 1
            assert row.weight in said
            if name != "masked":
                assert row.gain == pytest.approx(1 / math.sqrt(row.fan), rel=2e-3)  # a kink lies between two nodes
        else:
            assert row.second_moment == pytest.approx(1, rel=0.03)


NOT = {
    "layers of a stack": lambda p, x: jax.lax.scan(
        lambda h, w: (h + jnp.tanh(h @ w), None), x[:, 0] @ p["u"], p["stack"]
    )[0] @ p["o"],
    "one weight for all layers": lambda p, x: jax.lax.scan(
        lambda h, _: (jax.nn.relu(h @ p["w"]), None), x[:, 0] @ p["u"], length=STEPS
    )[0] @ p["o"],
    "one weight for all layers, with shortcuts": lambda p, x: jax.lax.scan(
        lambda h, _: (h + jax.nn.relu(h @ p["w"]), None), x[:, 0] @ p["u"], length=STEPS
    )[0] @ p["o"],
    "another weight in between": lambda p, x: scanned(
        lambda p, h, row: jnp.tanh(row @ p["u"] + jax.nn.relu(h @ p["low"]) @ p["high"])
    )[1](p, x),
    "what reads all states": lambda p, x: jax.lax.scan(
        lambda h, row: (0.5 * h + row, h), jnp.zeros((len(x), 16)), jnp.swapaxes(x, 0, 1)
    )[1] @ p["u"] @ p["o"],
}  # fmt: skip


@pytest.mark.parametrize("name", NOT)
def test_depth_is_no_recurrence(name):
    report = qrjax.analyze((parameters, NOT[name]), X)
    assert keep(report) == set()
    assert not [finding for finding in report.findings if finding.startswith("recurrent")]
    assert report.weights[-1].second_moment == pytest.approx(1, rel=0.01)


def logits(rows):
    """A residual stream that begins with rows of a table, and logits by the same table."""

    def apply(p, x):
        ids = jnp.clip(x[..., 0], 0, N - 1).astype(jnp.int32)
        return (rows(p["w"], ids) + jnp.tanh(x @ p["u"])) @ p["w"].T

    return apply


TURNED = {
    "a table that makes logits": logits(lambda table, ids: table[ids]),
    "rows by products": logits(lambda table, ids: jax.nn.one_hot(ids, N) @ table),
    "a decoder with its encoder's weights": lambda p, x: jax.nn.relu(
        jax.nn.relu(x @ p["u"] @ p["w"]) + x @ p["u"]
    ) @ p["w"].T,
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
def test_a_weight_that_is_turned_round_is_no_recurrence(name):
    report = qrjax.analyze((parameters, TURNED[name]), X, target=2.0)
    assert keep(report) == set()
    assert not [finding for finding in report.findings if finding.startswith("recurrent")]
    if name == "a table that makes logits":
        assert report.weights[-1].second_moment == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("target", [{"*/h/kernel": 0.25}, lambda path: 0.25 if "/h/" in path else 1.0])
def test_a_target_of_its_own_is_taken_at_its_word(target):
    report = qrjax.analyze(nn.RNN(nn.SimpleCell(N)), X, target=target)
    assert keep(report) == set()
    assert report["cell/h"].second_moment == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize("target", [1.0, {"*": 1.0}, pytest.param("stable", marks=pytest.mark.slow)])
def test_a_target_for_all_is_the_most_that_a_recurrent_weight_gets(target):
    assert keep(qrjax.analyze(nn.RNN(nn.SimpleCell(N)), X, target=target)) == {"cell/h/kernel"}
    small = qrjax.analyze(nn.RNN(nn.SimpleCell(N)), X, target=0.04)
    assert small["cell/h"].second_moment <= 0.04


def test_calibrate_and_records_have_the_same_scale():
    network, x = nn.RNN(nn.SimpleCell(64)), jax.random.normal(jax.random.key(3), (64, *X.shape[1:]))
    own = jax.tree.map(lambda a: 3 * a, network.init(jax.random.key(0), x))
    calibrated = qrjax.calibrate(network, own, x)["params"]["cell"]["h"]["kernel"]
    assert float(jnp.var(calibrated)) * 64 == pytest.approx(1, rel=0.02)
    drawn = qrjax.autoinit(network, x, seed=2)["params"]["cell"]["h"]["kernel"]
    assert float(jnp.var(drawn)) * 64 == pytest.approx(1, rel=0.02)
    assert (qrjax.record(network, x, seed=2).initial("cell/h/kernel") == drawn).all()
