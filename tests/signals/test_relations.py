"""What two sources have to do with each other."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter._model import laws_of
from qrjax._signals._signal import Signal, Source, relation

SHARES = (0.1, 0.2, 0.3, 0.15, 0.25, 0.35, 0.05)


def test_a_relation_does_not_depend_on_where_objects_lie():
    found, kept = set(), []
    for trial in range(50):
        elders = [Source() for _ in range(40)]
        kept.append(elders)
        random.Random(trial).shuffle(elders)
        first, second = (Source(kin=dict(zip(elders, shares, strict=False))) for shares in (SHARES, SHARES[::-1]))
        found.add(relation(first, second))
    assert len(found) == 1


def centred(x, m, inv):
    return (x - m) * inv


def multiplied(x, m, inv):
    return x * inv + (-m * inv)


# One norm, as different libraries write it.
FORMS = {"centred": centred, "multiplied": multiplied, "shifted": lambda x, m, inv: x * inv - m * inv}


@pytest.mark.parametrize("form", FORMS)
def test_a_norm_over_the_batch_is_one_however_it_is_written(form):
    """Rows share .35 of the variance, neighbours in an image .3 of it and channels nothing."""
    rho = np.zeros((2, 2, 2, 2))
    rho[..., 0], rho[0, 1, 0, 0], rho[0, 0, 1, 0], rho[0, 1, 1, 0], rho[0, 0, 0, 0] = 0.35, 0.3, 0.3, 0.3, 1.0
    x = Signal.normal((8, 2, 2, 128), rho=rho)

    def norm(x):
        axes = (0, 1, 2)
        return FORMS[form](x, x.mean(axes, keepdims=True), jax.lax.rsqrt(x.var(axes, keepdims=True) + 1e-3))

    (law,) = laws_of(jax.make_jaxpr(norm)(jax.ShapeDtypeStruct(x.shape, x.dtype)), [x])
    # The mean over the 31 pairs of an element and another of its channel is that of 32 numbers that sum to zero, and
    # pairs differ by .05 of what the rows do not share, which is .655 on average.
    pairs = {0: 28 / 31, 1: 3 / 31}
    rows, neighbours = law.axis_correlation(0), law.axis_correlation(1)
    assert pairs[0] * rows + pairs[1] * neighbours == pytest.approx(-1 / 31, abs=0.004)
    assert rows - neighbours == pytest.approx(0.05 / 0.655, abs=0.01)
    assert law.second_moment == pytest.approx(1.0, abs=0.005)


def test_sums_of_functions_of_a_sum_with_a_known_array_are_of_the_same_rows():
    """A norm by E y^2 - (E y)^2 behind positions, of tokens half of which are nearly nothing."""
    known = np.arange(96 * 32).reshape(96, 32)  # beyond the places whose functions are told apart, see `_families`
    table = ((known % 32 >= 16) + 1e-6 * known).astype(np.float32)

    def norm(x):
        y = jnp.concatenate([x[:48], 1e-2 * x[48:]]) + table
        mean = y.mean(-1, keepdims=True)
        spread = jnp.maximum((y * y).mean(-1, keepdims=True) - mean * mean, 0.0)
        return (y - mean) * jax.lax.rsqrt(spread + 1e-6)

    x = Signal.normal((96, 32))
    (law,) = laws_of(jax.make_jaxpr(norm)(jax.ShapeDtypeStruct(x.shape, x.dtype)), [x])
    assert law.mean == pytest.approx(0, abs=0.01)
    assert law.second_moment == pytest.approx(1, rel=0.01)


BESIDE_ITSELF = {
    "a norm": lambda y, table: jax.nn.gelu(y + table) + (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True),
    "its mean": lambda y, table: jax.nn.gelu(y + table) * y.mean(-1, keepdims=True),
    "its extreme": lambda y, table: y + table - y.max(-1, keepdims=True),
}


@pytest.mark.parametrize("name", BESIDE_ITSELF)
def test_functions_of_a_sum_with_a_known_array_beside_sums_over_the_other_summand(name):
    """What was drawn for rows of the one knows nothing of the array's places."""
    table = np.random.default_rng(0).normal(size=(96, 32)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(400, 96, 32)).astype(np.float32)
    (law,) = laws_of(
        jax.make_jaxpr(lambda y: BESIDE_ITSELF[name](y, table))(jax.ShapeDtypeStruct((96, 32), np.float32)),
        [Signal.normal((96, 32))],
    )
    with jax.numpy_rank_promotion("allow"):
        real = np.asarray(jax.vmap(lambda y: BESIDE_ITSELF[name](y, table))(x))
    assert law.second_moment == pytest.approx(np.mean(real**2), rel=0.1)


NOTHING_LEFT = {
    "(y + 1) - y - 1": lambda y: (y + 1) - y - 1,
    "a norm of equal rows": lambda y: multiplied(y, y.mean(0)[None], jax.lax.rsqrt(y.var(0) + 1e-3)[None]),
    "y y - y y": lambda y: y * y - y * y,
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING_LEFT)
def test_what_cancels_leaves_no_signal_and_a_finding(name):
    def net(weights, x):
        return NOTHING_LEFT[name](jnp.broadcast_to(x.mean(0, keepdims=True), x.shape) @ weights["a"]) @ weights["b"]

    def init(key, _):
        return {"a": jax.random.normal(key, (64, 64)), "b": jax.random.normal(key, (64, 32))}

    report = qrjax.analyze((init, net), jax.ShapeDtypeStruct((8, 64), np.float32))
    assert report.weights[-1].gain < 1
    assert any(finding.startswith("vanishing") for finding in report.findings)


def pooled(x):
    return jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


MAXIMA = {"pooling": pooled, "of rows": lambda x: x.max(1), "least of rows": lambda x: x.min(1)}


@pytest.mark.parametrize("common", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", MAXIMA)
def test_maxima_of_alike_elements_are_more_alike_than_these(name, common):
    """Images and rows whose elements all share a part of their variance, but for those of other channels."""
    shape = (8, 16, 16, 64)
    rho = np.zeros((2, 2, 2, 2))
    rho[..., 0], rho[0, 0, 0, 0] = common, 1.0
    x = Signal.normal(shape, rho=rho)
    (law,) = laws_of(jax.make_jaxpr(MAXIMA[name])(jax.ShapeDtypeStruct(shape, np.float32)), [x])
    generator = np.random.Generator(np.random.PCG64(3))
    draws = 1 << 14
    shared = np.sqrt(common) * generator.standard_normal((draws, 1, 1))
    windows = shared + np.sqrt(1 - common) * generator.standard_normal((draws, 2, 4 if name == "pooling" else 16))
    best = windows.min(2) if "least" in name else np.maximum(windows.max(2), 0.0 if name == "pooling" else -np.inf)
    expected = np.corrcoef(best.T)[0, 1]
    # Within 5 sigma, and a hundredth for the sample of rows.
    within = 5 * (1 - expected**2) / np.sqrt(draws) + 0.015
    assert law.axis_correlation(0) == pytest.approx(expected, abs=within)
    assert law.axis_correlation(1) == pytest.approx(expected, abs=within)
    assert law.axis_correlation(law.ndim - 1) == 0


@pytest.mark.parametrize(
    "take", [lambda z: jnp.split(z, 4, -1), lambda z: [z[:, 16 * i : 16 * i + 16] for i in range(4)]]
)
def test_gates_side_by_side_have_each_its_own_bias(take):
    biases = np.repeat(np.float32([0.0, 1.0, -2.0, 0.0]), 16)
    program = jax.make_jaxpr(lambda x: take(x + biases[None]))(jax.ShapeDtypeStruct((8, 64), np.float32))
    laws = laws_of(program, [Signal.normal((8, 64), variance=0.01)])
    assert [law.mean for law in laws] == pytest.approx([0.0, 1.0, -2.0, 0.0], abs=1e-9)
    assert [law.variance for law in laws] == pytest.approx([0.01] * 4)
