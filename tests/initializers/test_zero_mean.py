"""Hash kernels whose filters have zero mean: pairs w, -w, the right variance, no trace, and the gain they need."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from members import MEMBERS
from test_layouts import effective_rank, log_output_variance

import qrjax
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._specification import Specification, source_to_dict

KEY = jax.random.key(17)
ZERO_MEAN = [m for m in MEMBERS if m.zero_mean]
PAIRED = qrjax.he_normal_hash(zero_mean=True)
UNIFORM = qrjax.random_uniform_hash(-1.0, 1.0, zero_mean=True)
SHAPES = [(2, 6), (9, 6), (3, 3, 5, 7), (4, 3, 8)]


def filters(weights):
    """One filter a column, the outputs being the last axis."""
    return np.asarray(weights).reshape(-1, np.shape(weights)[-1])


def assert_pairs(columns):
    """Each value is there as often as its negative, and where their number is odd, one 0 more."""
    for column in columns.T:
        np.testing.assert_array_equal(np.sort(column), np.sort(-column))
        assert np.count_nonzero(column == 0) == len(column) % 2


DTYPES = ("float32", "bfloat16", "float16", "float64")
# Two builders with every dtype and every shape; the full product is slow.
TURNS = {"he_normal": 0, "random_uniform": 1}
PAIRS = [
    pytest.param(
        m, dtype, shape, id=f"{m.name} {dtype} {shape}",
        marks=() if TURNS.get(m.stem) == (k - i) % 4 else pytest.mark.slow,
    )
    for m in ZERO_MEAN
    for i, dtype in enumerate(DTYPES)
    for k, shape in enumerate(SHAPES)
]  # fmt: skip


@pytest.mark.turns(5)
@pytest.mark.parametrize(("m", "dtype", "shape"), PAIRS)
def test_filters_are_made_of_pairs(m, dtype, shape):
    with jax.enable_x64(dtype == "float64"):
        assert_pairs(filters(np.asarray(m.initializer(KEY, shape, dtype)).astype(np.float64)))


LAWS = ("truncated_normal", "normal", "uniform")


@pytest.mark.some(3)
@pytest.mark.parametrize(("law", "shape"), [*zip(LAWS, [(3, 3, 5, 7), (8, 5), (9, 4)], strict=True)])
def test_complex_filters_are_made_of_pairs(law, shape):
    weights = filters(qrjax.variance_scaling_hash(2.0, "fan_in", law, zero_mean=True)(KEY, shape, jnp.complex64))
    assert_pairs(weights)
    assert_pairs(weights.real)
    energy = np.abs(
        filters(qrjax.variance_scaling_hash(1.0, "fan_in", law, zero_mean=True)(KEY, (25, 4000), "complex64"))
    )
    # A hundred thousand weights, in pairs, each |w|**2 with a relative standard deviation of at most 1: 4 sigma.
    assert 25 * (energy.astype(np.float64) ** 2).mean() == pytest.approx(1.0, rel=4 / math.sqrt(50_000))


def test_bounds_other_than_the_default_are_paired_exactly():
    init = qrjax.truncated_normal_hash(1.0, None, -0.7, 0.7, zero_mean=True)
    assert_pairs(filters(init(KEY, (501, 40))))
    assert_pairs(filters(qrjax.truncated_normal_hash(1.0, None, -math.inf, math.inf, zero_mean=True)(KEY, (50, 40))))


def test_a_filter_spans_every_axis_but_outputs_and_batches():
    init = qrjax.glorot_normal_hash(in_axis=1, out_axis=(0, 3), batch_axis=2, zero_mean=True)
    weights = np.moveaxis(np.asarray(init(KEY, (4, 5, 3, 2, 7))), (0, 3, 2), (2, 3, 4))
    assert_pairs(weights.reshape(35, -1))
    index = (slice(None, None, 3), [0, 4], 2, 1, 5)
    whole = np.asarray(init(KEY, (4, 5, 3, 2, 7)))
    np.testing.assert_array_equal(init.at(KEY, (4, 5, 3, 2, 7), index), whole[index])
    everything = qrjax.lecun_normal_hash(in_axis=(0, 1), out_axis=(), zero_mean=True)
    np.testing.assert_array_equal(np.sort(everything(KEY, (3, 3)), None), np.sort(-everything(KEY, (3, 3)), None))


@pytest.mark.some(3)
@pytest.mark.parametrize("n", [2, 3, 5, 9, 27, 256])
def test_values_are_those_of_plain_python(n):
    weights = np.asarray(UNIFORM(KEY, (n, 3, 2)).reshape(3 * n, 2) if n < 5 else UNIFORM(KEY, (n, 2)))
    words = [int(word) for word in jax.random.key_data(KEY)]
    expected = [[plain.zero_mean(words, [j], i, len(weights)) for j in range(2)] for i in range(len(weights))]
    np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("n", [3, 16, 27, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 7, 9))])
def test_every_position_has_the_declared_variance_and_every_other_one_as_its_partner(n):
    count = 40_000
    weights = np.asarray(UNIFORM(KEY, (n, count)), np.float64) * math.sqrt(3)
    covariance = weights @ weights.T / count
    # A product of two standardized uniform values, stretched, has a variance below 2 n / (n - 1): 5 sigma of a mean,
    # and a tenth for small permutations, which do not send every pair everywhere equally often.
    noise = 5 * math.sqrt(2 * n / (n - 1) / count)
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=noise + 0.1 / n)
    others = covariance[~np.eye(n, dtype=bool)]
    np.testing.assert_allclose(others, -1 / (n - 1), atol=noise + 0.15 / n)


@pytest.mark.parametrize(
    ("law", "shape"),
    [
        pytest.param(law, shape, marks=pytest.mark.slow if i != k else ())
        for i, law in enumerate(LAWS)
        for k, shape in enumerate([(3, 3, 37, 300), (101, 1000), (1000, 100)])
    ],
)
def test_the_variance_is_the_declared_one(shape, law):
    init = qrjax.variance_scaling_hash(2.0, "fan_in", law, zero_mean=True)
    columns = filters(np.asarray(init(KEY, shape), np.float64))
    # Squares of normal values have a relative standard deviation of sqrt(2), and half of them are free: 4 sigma.
    assert (columns**2).mean() * len(columns) == pytest.approx(2.0, rel=4 * math.sqrt(4 / columns.size))


def test_members_of_different_filters_are_independent():
    weights = np.asarray(UNIFORM(KEY, (48, 20_000)), np.float64) * math.sqrt(3)
    for lag in (1, 2, 64):
        correlation = (weights[:, lag:] * weights[:, :-lag]).mean(axis=1)
        assert np.abs(correlation).max() < 5 / math.sqrt(20_000 - lag)


@pytest.mark.parametrize("shape", [pytest.param((256, 256), marks=pytest.mark.slow), (1000, 100), (27, 64)])
def test_the_spectrum_is_that_of_independent_weights(shape):
    seeds = range(2)
    found = np.mean([effective_rank(np.asarray(UNIFORM(jax.random.key(s), shape), np.float64)) for s in seeds])
    # Columns that sum to zero span one dimension less.
    independent = [np.random.default_rng(s).uniform(-1, 1, (shape[0] - 1, shape[1])) for s in seeds]
    assert found >= 0.985 * np.mean([effective_rank(m) for m in independent])


def test_the_mean_of_the_inputs_is_lost_and_the_gain_brings_the_signal_back():
    lost, _ = log_output_variance(PAIRED, width=64, seeds=40)
    assert lost == pytest.approx(19 * np.log(1 - 1 / np.pi), abs=0.2)  # 19 layers have ReLU inputs
    gain = qrjax.variance_scaling_hash(2 / (1 - 1 / np.pi), "fan_in", "truncated_normal", zero_mean=True)
    kept, luck = log_output_variance(gain, width=64, seeds=40)
    assert kept + np.log(1 - 1 / np.pi) == pytest.approx(0.0, abs=0.2)  # the first layer's inputs have mean 0
    assert luck < 0.5  # a standard deviation; independent weights have 1.05
    outputs = jnp.ones((1, 300)) @ PAIRED(KEY, (300, 50))
    assert np.abs(outputs).max() < 1e-6


def test_one_weight_of_a_tensor_that_fits_nowhere():
    shape = (2**16, 2**15, 2**20)
    picks = [(0, 0, 0), (-1, -1, -1), (2**15, 7, 2**19)]
    assert len({float(PAIRED.at(KEY, shape, pick)) for pick in picks}) == 3
    sizes = [
        len(str(jax.make_jaxpr(lambda key, s=s: PAIRED.at(key, s, (1, 1)))(KEY)).splitlines())
        for s in ((1_000_000, 10), (10_000_000, 1_000_000))  # below some 65,000 a division is a product
    ]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match=r"`zero_mean` needs from 2 to 2\*\*32 inputs of every output, got 8589934592"):
        PAIRED.at(KEY, (2**17, 2**16, 4), (0, 0, 0))


def test_a_specification_says_so_and_draws_the_same_again():
    for init in (PAIRED, qrjax.he_normal_hash()):
        written = json.dumps(init.specification((9, 4), np.dtype("float32")).to_dict())
        read = Specification.from_dict(json.loads(written))
        again = Initializer(read.distribution, read.scaling, read.source, None, "again")
        np.testing.assert_array_equal(again(KEY, (9, 4)), init(KEY, (9, 4)))
        assert read.stddev == pytest.approx(math.sqrt(2 / 9))
    assert source_to_dict(PAIRED.source) == {"name": "hash", "zero_mean": True}
    assert source_to_dict(qrjax.he_normal_hash().source) == {"name": "hash"}


def test_values_differ_from_those_without_zero_mean():
    assert qrjax.he_normal_hash() != PAIRED
    assert (np.asarray(qrjax.he_normal_hash()(KEY, (64, 64))) != np.asarray(PAIRED(KEY, (64, 64)))).all()


REFUSED = [
    (lambda: qrjax.uniform_hash(zero_mean=True), ValueError, r"symmetric about 0, got uniform_hash\(scale=0.01"),
    (lambda: qrjax.random_uniform_hash(-1.0, 2.0, zero_mean=True), ValueError, "symmetric about 0.*opposite bounds"),
    (lambda: qrjax.random_normal_hash(0.1, zero_mean=True), ValueError, "symmetric about 0, got.*mean=0.1"),
    (lambda: qrjax.truncated_normal_hash(1.0, None, -1.0, 2.0, zero_mean=True), ValueError, "got.*lower=-1.0"),
    (lambda: qrjax.he_normal_hash(zero_mean="yes"), TypeError, "`zero_mean` must be True or False, got 'yes'"),
]


@pytest.mark.parametrize(("build", "kind", "message"), REFUSED)
def test_builders_refuse(build, kind, message):
    with pytest.raises(kind, match=f"`zero_mean` .*{message.removeprefix('`zero_mean` ')}"):
        build()


@pytest.mark.parametrize(("init", "shape"), [(PAIRED, (1, 5)), (UNIFORM, (5,)), (UNIFORM, ()), (UNIFORM, (1, 1, 5))])
def test_a_filter_of_one_weight_is_refused(init, shape):
    with pytest.raises(
        ValueError, match=r"`zero_mean` needs from 2 to 2\*\*32 inputs of every output, got 1 for shape"
    ):
        init(KEY, shape)
    assert UNIFORM(KEY, (1, 0)).shape == (1, 0)
