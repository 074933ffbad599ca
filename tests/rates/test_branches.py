"""`branches=`: residual streams are found, add up to the same at any depth, and are changed alike by a step."""

import functools
import importlib.util
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
from wild import MODELS

import qrjax
from qrjax._adjoint._branches import _Ancestry, branches, counts
from qrjax._autoinit._analyze import gains_of, input_values, model_of
from qrjax._interpreter._tape import each

WIDTH = 16
X = np.random.default_rng(0).standard_normal((8, 6), np.float32)


class Block(nn.Module):
    """x + f(x), from its parts: a norm before, one behind, several branches beside each other, a zero at the end."""

    norm: bool = True
    normed: bool = False
    parallel: int = 1
    zero: bool = False

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x) if self.norm else x
        for _ in range(self.parallel):
            z = nn.relu(nn.Dense(WIDTH)(y))
            end = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
            z = nn.Dense(WIDTH, kernel_init=end)(z)
            x = x + (nn.LayerNorm()(z) if self.normed else z)
        return x


class Stepped(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return Block(name="block")(x), None


class Net(nn.Module):
    """So many blocks between an embedding and a head."""

    depth: int = 4
    scanned: bool = False
    block: Any = Block

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(WIDTH, name="embedding")(x)
        if self.scanned:
            layers = nn.scan(Stepped, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
            x, _ = layers(name="layers")(x, None)
        for _ in range(0 if self.scanned else self.depth):
            x = self.block()(x)
        return nn.Dense(3, name="head")(nn.LayerNorm(name="norm")(x))


def added(report):
    """What the blocks' last weights make."""
    return [row.second_moment for row in report.weights if row.path.endswith(("Dense_1", "Dense_3"))]


@pytest.mark.few("1.0")
@pytest.mark.parametrize("total", [1.0, 0.25])
def test_all_branches_together_add_it(total):
    report = qrjax.analyze(Net(), X, branches=total)
    np.testing.assert_allclose(added(report), total / 4, rtol=1e-4)
    others = [row.second_moment for row in report.weights if not row.path.endswith("Dense_1")]
    np.testing.assert_allclose(others, 1.0, rtol=1e-4)
    assert any("4 branches of a stream" in finding for finding in report.findings)


class Side(nn.Module):
    """Branches that are added to each other first."""

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        first = nn.Dense(WIDTH, name="Dense_1")(nn.tanh(nn.Dense(WIDTH, name="Dense_0")(y)))
        gate = nn.softmax(nn.Dense(2, name="router")(y))
        experts = nn.Dense(2 * WIDTH, name="Dense_3")(y).reshape(*y.shape[:-1], 2, WIDTH)
        return x + (first + jnp.einsum("ne,nef->nf", gate, experts))


def test_parallel_branches_count_each():
    report = qrjax.analyze(Net(3, block=Side), X, branches=1.0)
    np.testing.assert_allclose(added(report), 1 / 6, rtol=1e-4)
    routers = [row.second_moment for row in report.weights if row.path.endswith("router")]
    np.testing.assert_allclose(routers, 1.0, rtol=1e-4)
    report = qrjax.analyze(Net(3, block=functools.partial(Block, parallel=2)), X, branches=1.0)
    np.testing.assert_allclose(added(report), 1 / 6, rtol=1e-4)


class Beside(nn.Module):
    """A branch whose halves two weights make."""

    @nn.compact
    def __call__(self, x):
        y = nn.tanh(nn.Dense(WIDTH, name="Dense_0")(nn.LayerNorm()(x)))
        halves = [nn.Dense(WIDTH // 2, name=f"Dense_{i}")(y) for i in (1, 3)]
        return x + jnp.concatenate(halves, -1)


def test_parts_side_by_side_are_one_branch():
    report = qrjax.analyze(Net(3, block=Beside), X, branches=1.0)
    np.testing.assert_allclose(added(report), 1 / 3, rtol=1e-4)
    assert not any(finding.severity == "warning" for finding in report.findings)


def test_rates_within_branches_are_slower_by_the_root_of_their_number():
    one, other = (qrjax.learning_rates(Net(), X, branches=b) for b in (None, 1.0))
    ratio = jax.tree.map(lambda a, b: b / a, one, other)
    for outside in ("embedding", "norm", "head"):
        np.testing.assert_allclose(jax.tree.leaves(ratio[outside]), 1.0, rtol=1e-4)
    block = ratio["Block_2"]
    inner = jax.tree.leaves([block["LayerNorm_0"], block["Dense_0"], block["Dense_1"]["kernel"]])
    # The last weights' outputs are half as large, by which their steps are measured; so are their biases'.
    np.testing.assert_allclose(inner, [0.5, 0.5, 0.5, 0.5, 0.25], rtol=1e-4)
    np.testing.assert_allclose(block["Dense_1"]["bias"], 0.25, rtol=1e-4)


def test_layers_in_one_array_are_as_those_in_several():
    flat, stacked = (qrjax.learning_rates(Net(scanned=scanned), X, branches=1.0) for scanned in (False, True))
    each = [flat[f"Block_{layer}"]["Dense_1"]["kernel"] for layer in range(4)]
    np.testing.assert_allclose(stacked["layers"]["block"]["Dense_1"]["kernel"].ravel(), each, rtol=1e-4)


def test_modules_own_weights_keep_their_size_and_learn_slower():
    one, other = (qrjax.learning_rates(Net(), X, weights="module", branches=b) for b in (None, 1.0))
    assert other["Block_0"]["Dense_1"]["kernel"] / one["Block_0"]["Dense_1"]["kernel"] == pytest.approx(0.5)


@pytest.mark.slow
def test_records_know_it():
    variables = qrjax.autoinit(Net(2), X, branches=1.0)
    again = qrjax.record(Net(2), X, branches=1.0).initial("Block_1/Dense_1/kernel")
    np.testing.assert_array_equal(variables["params"]["Block_1"]["Dense_1"]["kernel"], again)


def test_what_cannot_be_sized_is_said():
    for what, word in (("normed", "a norm or a number"), ("zero", "a constant of their own")):
        report = qrjax.analyze(Net(2, block=functools.partial(Block, **{what: True})), X, branches=1.0)
        assert any(word in finding and finding.severity == "warning" for finding in report.findings)


class Biased(nn.Module):
    """Two layers of attention without a stream, to whose scores the same is added."""

    @nn.compact
    def __call__(self, x):
        penalty = -jnp.square(x[:, None, None, :, 0])
        for _ in range(2):
            q, k, v = (nn.Dense(8)(x).reshape(*x.shape[:2], 4, 2) for _ in range(3))
            scores = nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k) + penalty)
            x = nn.Dense(6)(jnp.einsum("nhqk,nkhd->nqhd", scores, v).reshape(*x.shape[:2], 8))
        return x


class Convolved(nn.Module):
    """A shortcut with a weight of its own, and then one without."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(WIDTH, name="shortcut")(x) + nn.Dense(WIDTH, name="beside")(nn.relu(x))
        x = nn.relu(x + nn.Dense(WIDTH, name="branch")(x))
        return nn.Dense(3, name="head")(x)


def test_a_shortcut_with_weights_begins_a_stream():
    report = qrjax.analyze(Convolved(), X, branches=0.25)
    assert {row.path: round(row.second_moment, 3) for row in report.weights} == {
        "shortcut": 1.0, "beside": 1.0, "branch": 0.25, "head": 1.0,
    }  # fmt: skip


class Gated(nn.Module):
    """A highway layer."""

    @nn.compact
    def __call__(self, x):
        gate = nn.sigmoid(nn.Dense(6)(x))
        return gate * nn.tanh(nn.Dense(6)(x)) + (1 - gate) * x


@pytest.mark.few("*0", "*3", "*4")
@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential([nn.Dense(8), nn.gelu, nn.Dense(3)]),
        nn.RNN(nn.GRUCell(4)),
        nn.RNN(nn.LSTMCell(4)),
        Gated(),
        Biased(),
    ],
)
def test_without_a_stream_it_is_an_error(network):
    x = np.broadcast_to(X[:, None], (8, 3, 6)) if isinstance(network, (nn.RNN, Biased)) else X
    with pytest.raises(ValueError, match="`branches` is for what weights add to a residual stream"):
        qrjax.learning_rates(network, x, branches=1.0)


# Of GPT-J attention and the layers beside it are added to each other first; of the last two the encoder comes first.
PUBLIC = {"gpt2": [4], "gptj": [4], "haiku_transformer": [4], "t5": [4, 6], "bart": [4, 6]}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_streams_of_public_models(name):
    if importlib.util.find_spec(MODELS[name].package) is None:
        pytest.skip(f"{MODELS[name].package} is not installed; pip install 'qrjax[wild]' has it")
    network = MODELS[name]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = model_of(network.build(), network.inputs(0), dict(network.kwargs), rngs=network.rngs or None)
        walk, _ = model.taped(gains_of(model, 1.0, None), input_values(model, None, None))
        assert [*counts(branches(walk.tape.moves)).values()] == PUBLIC[name]


def test_values_that_nothing_uses_any_more_are_forgotten():
    most = []
    for depth in (2, 8):
        model = model_of(Net(depth), (X,), {})
        moves = model.taped(gains_of(model, 1.0, None), input_values(model, None, None))[0].tape.moves
        ancestry, known = _Ancestry(moves), []
        for move, times in each(moves):
            ancestry.follow(move, times)
            known.append(len(ancestry._origins))
        most.append(max(known))
        assert len(ancestry.branches) == depth
    assert most[0] == most[1] < 10


def test_it_is_positive():
    for call in (qrjax.autoinit, qrjax.analyze, qrjax.learning_rates):
        with pytest.raises(ValueError, match=r"`branches` must be positive, got 0\.0"):
            call(Net(1), X, branches=0)


def loss(outputs):
    return jnp.mean((outputs - 1.0) ** 2)


@pytest.mark.slow
def test_a_step_changes_streams_alike_at_any_depth():
    settings = {"steps": 2, "seeds": 1, "rate": 2.0**-6}
    found, plain = (qrjax.coordinate_check(Net, [2, 8], X, loss, branches=b, **settings) for b in (1.0, None))
    found.assert_stable(select=("embedding", "norm", "head"))
    assert plain["norm"].slope > 0.4
    with pytest.raises(qrjax.UnhealthyError, match=r"norm .*grows"):
        plain.assert_stable(select="norm")
