"""`qrjax.random` against SciPy's sequence and quantile functions; its arguments and errors."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from qrjax import random, sobol, splitmix

KEY = jax.random.key(3)
DTYPES = ("float32", "bfloat16", "float16", "float64")
# Each function, its SciPy distribution by the function's own arguments, and two sets of these.
LAWS = {
    "uniform": (random.uniform, lambda a=0, b=1: stats.uniform(a, b - a), [{}, {"minval": -3.0, "maxval": 0.5}]),
    "normal": (random.normal, lambda mean=0, stddev=1: stats.norm(mean, stddev), [{}, {"mean": 2.0, "stddev": 0.1}]),
    "truncated_normal": (
        random.truncated_normal,
        lambda lower=-2, upper=2, mean=0, stddev=1: stats.truncnorm(lower, upper, mean, stddev),
        [{}, {"lower": 0.0, "upper": math.inf, "mean": -1.0, "stddev": 3.0}, {"lower": -1.0, "upper": 0.5}],
    ),
}
CASES = [(name, options) for name, (_, _, sets) in LAWS.items() for options in sets]
each_case = pytest.mark.parametrize(("name", "options"), CASES)
each_law = pytest.mark.parametrize("name", LAWS)


def law(name, options):
    return LAWS[name][1](*options.values())


@functools.cache
def points(dim, skip, count):
    """Points skip, skip + 1, ... of one dimension, from SciPy."""
    return qmc.Sobol(dim, bits=32, scramble=False).random(512)[skip : skip + count, -1]


def tolerance(name, options, wanted):
    """Uniform: 2e-7 of the largest value; else 2e-6 of a standard deviation, and the rounding to float32."""
    if name == "uniform":
        return 2e-7 * max(1, *(abs(bound) for bound in options.values()), 0)
    return 2e-6 * options.get("stddev", 1) + np.abs(wanted) * 2.0**-23


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("name", "options", "dim", "skip"),
    [
        pytest.param(*case, *where, marks=pytest.mark.slow if (i + k) % 2 else ())
        for i, case in enumerate(CASES)
        for k, where in enumerate([(1, 1), (40, 7)])
    ],
)
def test_values_are_scipys(name, options, dim, skip):
    found = np.asarray(LAWS[name][0]((4, 5, 12), *options.values(), dim=dim, skip=skip))
    assert found.shape == (4, 5, 12)
    assert found.dtype == np.float32
    wanted = law(name, options).ppf(points(dim, skip, 240)).reshape(4, 5, 12)
    assert (np.abs(found - wanted) <= tolerance(name, options, wanted)).all()


@pytest.mark.some(2)
@each_case
def test_hash_values_are_scipys(name, options):
    found = np.asarray(LAWS[name][0]((30, 8), *options.values(), key=KEY, source="hash", skip=5))
    words = splitmix.output(splitmix.from_key(KEY), jnp.arange(5, 245, dtype=jnp.uint32)).hi
    wanted = law(name, options).ppf((np.asarray(words) + 0.5) / 2**32).reshape(30, 8)
    assert (np.abs(found - wanted) <= tolerance(name, options, wanted)).all()


@pytest.mark.parametrize("scramble", ["shift", "linear", "owen"])
def test_scrambled_values_are_those_of_the_scrambled_points(scramble):
    options = {"scramble": scramble, "key": KEY, "dim": 4}
    u = (np.asarray(sobol.bits(4, np.arange(60), scramble=scramble, key=KEY)) + 0.5) / 2**32
    drawn = jax.jit(lambda: {name: LAWS[name][0]((60,), **options) for name in LAWS})()
    for name, found in drawn.items():
        np.testing.assert_allclose(found, law(name, {}).ppf(u), rtol=2e-6, atol=2e-6)


def test_the_first_point_is_left_out_where_there_is_no_scramble():
    """The paper's points begin at 1, a scrambled net at 0; a skip that is given is kept."""
    for options, first in (
        ({}, 1),
        ({"key": KEY}, 1),
        ({"source": "hash", "key": KEY}, 1),
        *(({"scramble": name, "key": KEY}, 0) for name in ("shift", "linear", "owen")),
    ):
        default, given, other = (random.uniform(16, **options, **more) for more in ({}, {"skip": first}, {"skip": 2}))
        np.testing.assert_array_equal(default, given)
        assert (np.asarray(default) != other).any()


MEANS = {
    "sum": (20, lambda u: (u - 0.5).sum(axis=0).mean(), 300),
    "product": (3, lambda u: jnp.prod(1 + (u - 0.5) / jnp.arange(1, 4, dtype=u.dtype)[:, None], axis=0).mean(), 30),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_over_a_scrambled_net_needs_its_first_point(name):
    """Variances of the mean of a smooth function: with 1024 points from 0 on, and from 1 on."""
    dims, mean, times = MEANS[name]

    def means(key, skip):
        return mean(jax.vmap(lambda d: random.uniform(1024, dim=d, scramble="owen", key=key, skip=skip))(numbers))

    keys, numbers = jax.random.split(KEY, 32), jnp.arange(1, dims + 1)
    default, left_out = (
        np.var(jax.jit(jax.vmap(lambda key, skip=skip: means(key, skip)))(keys), dtype=float) for skip in (None, 1)
    )
    assert left_out > times * default


@pytest.mark.parametrize("count", [5, np.int64(5)])
def test_an_integer_is_a_shape_of_one_axis(count):
    np.testing.assert_array_equal(random.normal(count), random.normal((5,)))
    assert random.uniform(0).shape == (0,)


@pytest.mark.parametrize("skip", [np.int64(7), np.array(7), jnp.int32(7), jnp.uint32(7)])
def test_a_skip_is_any_integer(skip):
    np.testing.assert_array_equal(random.uniform((3,), skip=skip), random.uniform((3,), skip=7))


@pytest.mark.parametrize("source", ["sobol", "hash"])
def test_a_traced_dimension_and_skip_are_the_static_ones(source):
    options = {"source": source, "key": KEY}

    @jax.jit
    def everything(dim, skip):
        traced = random.normal((3, 16), dim=dim, skip=skip, **options)
        mapped = jax.vmap(lambda d: random.normal((3, 16), dim=d, skip=9, **options))(jnp.stack([dim, dim + 1]))
        return traced, mapped, [random.normal((3, 16), dim=d, skip=9, **options) for d in (7, 8)]

    traced, mapped, static = everything(7, 9)
    np.testing.assert_array_equal(traced, static[0])
    np.testing.assert_array_equal(mapped, static)


@pytest.mark.parametrize("shape", [(64,), (2, 32), (8, 8)])
def test_a_traced_skip_wraps(shape):
    start = 2**32 - 3
    found = jax.jit(lambda skip: random.uniform(shape, skip=skip))(jnp.uint32(start))
    np.testing.assert_array_equal(found.reshape(-1), sobol.points(1, (start + np.arange(64)) % 2**32))


def test_the_last_points():
    start = 2**32 - 32
    found = random.uniform((32,), skip=start)
    np.testing.assert_array_equal(found, sobol.points(1, np.arange(start, 2**32)))
    hashed = random.uniform((32,), skip=start, source="hash", key=KEY)
    last = splitmix.output(splitmix.from_key(KEY), 2**32 - 1).hi
    assert float(hashed[-1]) == pytest.approx((int(last) + 0.5) / 2**32, abs=2e-7)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(name, shape, marks=pytest.mark.slow if (i + k) % 3 else ())
        for i, name in enumerate(LAWS)
        for k, shape in enumerate([(), (0,), (3, 0), (1,), (1, 1), (2, 1, 3)])
    ],
)
def test_shapes(name, shape):
    found = jax.jit(lambda: LAWS[name][0](shape))()
    assert found.shape == shape
    assert found.dtype == jnp.float32
    wanted = law(name, {}).ppf(points(1, 1, math.prod(shape)))
    np.testing.assert_allclose(np.ravel(found), wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=pytest.mark.slow if (i + k) % 2 else ())
        for i, name in enumerate(LAWS)
        for k, dtype in enumerate(DTYPES)
    ],
)
def test_dtypes(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        draw = jax.jit(lambda: [LAWS[name][0]((128,), dtype=kind) for kind in (dtype, "float32")])
        found, single = map(np.asarray, draw())
        assert jax.eval_shape(lambda: LAWS[name][0]((2,))).dtype == ("float64" if dtype == "float64" else "float32")
    assert found.dtype == jnp.dtype(dtype)
    if dtype == "float64":
        np.testing.assert_allclose(found, law(name, {}).ppf(points(1, 1, 128)), rtol=2e-6, atol=1e-6)
    else:
        # None of these values is near a bound, where it would be moved inside.
        np.testing.assert_array_equal(found, single.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_strictly_inside_at_the_corner(dtype):
    with jax.enable_x64(dtype == "float64"):
        uniform, normal, truncated = (float(x[0]) for x in jax.jit(lambda: corners(dtype))())
    assert -1 < uniform < -1 + 2 * float(ml_dtypes.finfo(dtype).eps) + 2.0**-29
    assert -6.4 < normal < -6
    assert -2 < truncated < -1.98


def corners(dtype):
    # Point 0 is 0.
    return [
        random.uniform((4,), -1.0, 1.0, dtype, skip=0),
        random.normal((4,), dtype=dtype, skip=0),
        random.truncated_normal((4,), dtype=dtype, skip=0),
    ]


# The dtype has no finite value strictly between the bounds.
EMPTY = [
    ("uniform", {"minval": 1.0, "maxval": 1.001, "dtype": "bfloat16"}),
    ("uniform", {"minval": 1.0, "maxval": 1 + 1e-7, "dtype": "float32"}),
    ("uniform", {"minval": 1e5, "maxval": 2e5, "dtype": "float16"}),
    ("uniform", {"minval": 0.0, "maxval": 1e-9, "dtype": "float16"}),
    ("truncated_normal", {"mean": 1e5, "dtype": "float16"}),
]


@pytest.mark.parametrize(("name", "options"), EMPTY)
def test_intervals_without_values_are_refused(name, options):
    with pytest.raises(ValueError, match=options["dtype"]):
        LAWS[name][0]((4,), **options)


def drawn_or_refused(message, draw):
    """The values in float64, or None where the arguments are refused with the message."""
    try:
        return np.asarray(draw()).astype(float)
    except ValueError as error:
        if not re.search(message, str(error)):
            raise
        return None


@pytest.mark.parametrize(
    ("minval", "maxval", "dtype"),
    # Below the normal floats, which processors flush to zero; narrower than the units of 2**-30; beyond float32.
    [(0.0, 1e-38, "float32"), (1.0, 1 + 1e-12, "float64"), (-1e300, 1e300, "float32"), (0.0, 2.0**33, "float64")],
)
def test_extreme_intervals_are_respected_or_refused(minval, maxval, dtype):
    with jax.enable_x64(dtype == "float64"):
        found = drawn_or_refused(f"val`|{dtype}", lambda: random.uniform((64,), minval, maxval, dtype, skip=0))
    if found is not None:
        assert minval < found.min()
        assert found.max() < maxval


@pytest.mark.parametrize("stddev", [1e-45, 1e300])
def test_extreme_normals_are_finite_or_refused(stddev):
    found = drawn_or_refused("`stddev`|float32", lambda: random.normal((64,), 0.0, stddev))
    assert found is None or np.isfinite(found).all()


COMMON = [
    ({"shape": 4.0}, TypeError, r"`shape` must be an integer or a sequence of integers, got 4.0"),
    ({"shape": (2.5,)}, TypeError, r"`shape` must be an integer or a sequence of integers, got \(2.5,\)"),
    ({"shape": -4}, ValueError, r"`shape` must hold dimensions in \[0, 2\*\*31\), got -4 at axis 0"),
    ({"shape": (-1,)}, ValueError, r"`shape` must hold dimensions in \[0, 2\*\*31\), got -1 at axis 0"),
    ({"dim": 0}, ValueError, r"`dim` must be in \[1, 21201\], got 0"),
    ({"dim": 21202}, ValueError, r"`dim` must be in \[1, 21201\], got 21202"),
    ({"dim": 1.5}, TypeError, r"`dim` must be an integer, got 1.5 of type float"),
    ({"skip": -1}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got -1 for shape \(2,\)"),
    ({"skip": 2**32 - 1}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got 4294967295 for shape \(2,\)"),
    ({"skip": np.int64(-1)}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got -1 for shape \(2,\)"),
    ({"skip": np.int64(2**33)}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got 8589934592"),
    ({"skip": jnp.int32(-1)}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got -1 for shape \(2,\)"),
    ({"skip": np.array(-3)}, ValueError, r"`skip` must be in \[0, 2\*\*32 - size\], got -3 for shape \(2,\)"),
    ({"skip": 1.0}, TypeError, r"`skip` must be an integer, got 1.0 of type float"),
    ({"skip": jnp.float32(1.5)}, TypeError, r"`skip` must be an integer, got 1.5 of dtype float32"),
    ({"skip": jnp.arange(2)}, TypeError, r"`skip` must be an integer, got an array of dtype int32 and shape \(2,\)"),
    ({"source": "halton"}, ValueError, r"`source` must be one of 'sobol', 'hash', got 'halton'"),
    ({"scramble": "faure"}, ValueError, r"`scramble` must be one of None, 'shift', 'linear', 'owen', got 'faure'"),
    ({"scramble": "owen"}, ValueError, r"`key` must be given for scramble='owen'; make one with jax.random.key\(0\)"),
    ({"source": "hash"}, ValueError, r"`key` must be given for source='hash'; make one with jax.random.key\(0\)"),
    ({"key": 3}, TypeError, r"`key` must be a JAX key, got 3 of type int"),
    ({"dtype": "int32"}, ValueError, r"`dtype` must be a floating .* dtype, got int32"),
    ({"dtype": "complex64"}, ValueError, r"`dtype` must be a floating .* dtype, got complex64"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), COMMON)
@each_law
def test_refused_arguments(name, options, error, message):
    with pytest.raises(error, match=message):
        LAWS[name][0](**{"shape": (2,), **options})


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("uniform", (1.0, 1.0), ValueError, r"`minval` must be less than `maxval`, got minval=1.0 and maxval=1.0"),
        ("uniform", (2, 1), ValueError, r"`minval` must be less than `maxval`, got minval=2 and maxval=1"),
        ("uniform", (-math.inf, 1), ValueError, r"`minval` must be finite, got -inf"),
        ("uniform", (0, math.nan), ValueError, r"`maxval` must be finite, got nan"),
        ("uniform", ("0", 1), TypeError, r"`minval` must be a real number, got '0' of type str"),
        ("normal", (math.inf,), ValueError, r"`mean` must be finite, got inf"),
        ("normal", (0, 0), ValueError, r"`stddev` must be positive, got 0"),
        ("normal", (0, -1.5), ValueError, r"`stddev` must be positive, got -1.5"),
        ("normal", (0, 1j), TypeError, r"`stddev` must be a real number, got 1j of type complex"),
        ("truncated_normal", (1, 1), ValueError, r"`lower` must be less than `upper`, got lower=1.0 and upper=1.0"),
        ("truncated_normal", (math.nan, 1), ValueError, r"`lower` must not be NaN"),
        ("truncated_normal", (8, 9), ValueError, r"`lower` and `upper` must enclose a normal probability of at least"),
        ("truncated_normal", (-2, 2, 0, 0), ValueError, r"`stddev` must be positive, got 0"),
    ],
)
def test_refused_parameters(name, options, error, message):
    with pytest.raises(error, match=message):
        LAWS[name][0]((2,), *options)


@pytest.mark.parametrize(
    ("name", "argument"), [("uniform", "minval"), ("normal", "stddev"), ("truncated_normal", "upper")]
)
def test_parameters_must_be_static(name, argument):
    with pytest.raises(TypeError, match=rf"`{argument}` must be static, got a traced value"):
        jax.jit(lambda x: LAWS[name][0]((2,), **{argument: x}))(1.0)
