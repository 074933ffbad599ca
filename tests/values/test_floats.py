"""From draws to floats: rounding, strict openness in every dtype, and the same bits in every mode."""

import contextlib
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from wrongs import wrong

import qrjax
from qrjax._values._distributions import Normal, TruncatedNormal, Uniform, check_dtype, values
from qrjax._values._floats import neighbour, unit_bounds, unit_exponent

LAST = 2**32 - 1
LAWS = {"uniform": Uniform(), "normal": Normal(), "truncated": TruncatedNormal(), "positive": TruncatedNormal(0.0, 3.0)}
DTYPES = ("float32", "bfloat16", "float16", "float64")
LOW = ("bfloat16", "float16")
# Both ends, the middle, every power of two from either side, and 400 others.
EDGES = [sign * (1 << k) + end for k in range(32) for sign, end in ((1, 0), (1, -1), (-1, LAST), (-1, LAST + 1))]
WORDS = np.unique([*(e & LAST for e in EDGES), *np.random.default_rng(0).integers(0, 2**32, 400)]).astype(np.uint32)
MILLION = np.concatenate([WORDS, np.random.default_rng(1).integers(0, 2**32, 10**6, np.uint32)])

each_law = pytest.mark.parametrize("name", LAWS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def wide(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def floats(name, dtype, location=0.0, scale=1.0, words=WORDS):
    """The package's values, in float64 on the host."""
    with wide(dtype):
        found = values(LAWS[name], jnp.asarray(words), location, scale, jnp.dtype(dtype))
        assert found.dtype == jnp.dtype(dtype)
        return np.asarray(found).astype(np.float64)


def standardized(name, words=WORDS):
    """The draws themselves, exactly."""
    draw = LAWS[name].draw(jnp.asarray(words), False)
    return np.where(draw.negative, -1, 1) * np.asarray(draw.magnitude).astype(float) / 2.0**draw.fraction


def rounded(x, dtype):
    with np.errstate(over="ignore"):
        return x.astype(np.float32).astype(dtype).astype(float)


def finite_inside(name, dtype, location, scale):
    """The least and the largest finite value of `dtype` strictly between the bounds, by stepping."""
    largest = float(ml_dtypes.finfo(dtype).max)
    low, high = (np.clip(location + scale * bound, -math.inf, math.inf) for bound in LAWS[name].bounds)
    with np.errstate(over="ignore"):
        low, high = np.asarray(low).astype(dtype), np.asarray(high).astype(dtype)
        above, below = np.nextafter(low, np.asarray(math.inf, dtype)), np.nextafter(high, np.asarray(-math.inf, dtype))
    return max(float(above), -largest), min(float(below), largest)


SHIFTS = st.just(0.0) | st.tuples(st.sampled_from([-1, 1]), st.floats(-3, 3)).map(lambda x: x[0] * 10.0 ** x[1])
# Decades of scales: float16 has nothing else between its smallest and its largest value.
DECADES = {"float16": (-6, 6), "bfloat16": (-30, 30), "float32": (-30, 30), "float64": (-30, 30)}


# Every law and every dtype twice; the other half of the pairs with the slow tests.
EACH = [
    pytest.param(name, dtype, marks=pytest.mark.slow if (i + k) % 2 else ())
    for i, name in enumerate(LAWS)
    for k, dtype in enumerate(DTYPES)
]


@pytest.mark.few("uniform-float32", "normal-bfloat16", "truncated-float16", "positive-float64")
@pytest.mark.parametrize(("name", "dtype"), EACH)
@given(where=st.floats(0, 1), shift=SHIFTS)
@example(where=0.5, shift=0.0)  # a scale of 1
@example(where=0.5, shift=1.0)  # and bounds at 0
@settings(deadline=None, derandomize=True, max_examples=6)
def test_any_location_and_scale(name, dtype, where, shift):
    first, last = DECADES[dtype]
    scale = 10.0 ** (first + (last - first) * where)
    location = shift * scale
    low, high = finite_inside(name, dtype, location, scale)
    assume(low <= high and not (math.isinf(low) or math.isinf(high)))
    found = floats(name, dtype, location, scale)
    # Strictly inside, and finite.
    assert low <= found.min()
    assert found.max() <= high
    # The product, the multiplier and the offset are rounded to units: by 1, 1/2 and 1/2; then to floats.
    wanted = np.clip(location + scale * standardized(name), low, high)
    unit = 2.0 ** unit_exponent(location, scale, LAWS[name].extent)
    limits = ml_dtypes.finfo(dtype)
    relative = float(limits.eps) / 2 + (0 if dtype == "float64" else 2.0**-24)
    allowed = 2 * unit + relative * np.abs(wanted) + float(limits.smallest_subnormal)
    assert not wrong(np.abs(found - wanted) <= allowed, found=found, wanted=wanted, allowed=allowed)
    if dtype in LOW:  # the float32 draw, rounded and kept inside
        single = rounded(floats(name, "float32", location, scale), dtype)
        np.testing.assert_array_equal(found, np.clip(single, low, high))


@pytest.mark.parametrize("scale", [np.nextafter(1, 0), 1 - 1e-12, 0.5 - 1e-11, np.nextafter(2**-7, 0), 2.0**20 - 1e-6])
@pytest.mark.parametrize("name", ["normal", "truncated", "uniform"])
def test_scales_just_below_a_power_of_two(name, scale):
    # The multiplier scale * 2**k rounds up to 2**32 here, which is no word.
    found = floats(name, "float32", 0.0, float(scale))
    np.testing.assert_allclose(found, scale * standardized(name), rtol=2**-23, atol=scale * 2**-27)


@pytest.mark.few("uniform-float16", "truncated-float32", "normal-bfloat16")
@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_a_million_draws_stay_inside(name, dtype):
    location, scale = (0.5, 0.5) if name == "uniform" else (0.0, 1.0)
    found = floats(name, dtype, location, scale, MILLION)
    low, high = finite_inside(name, dtype, location, scale)
    assert np.isfinite(found).all()
    assert low <= found.min()
    assert found.max() <= high
    if name == "uniform":
        assert found.min() > 0
        assert found.max() < 1
    if name == "normal":
        # Never the largest float: the words end before the tails do.
        assert np.abs(found).max() < 6.4


@pytest.mark.some(3)
@pytest.mark.parametrize("dtype", LOW)
@each_law
def test_low_precision_is_the_float32_draw_rounded(name, dtype):
    found, single = floats(name, dtype, words=MILLION), floats(name, "float32", words=MILLION)
    np.testing.assert_array_equal(found, np.clip(rounded(single, dtype), *finite_inside(name, dtype, 0.0, 1.0)))


def test_normals_beyond_the_largest_float16_are_it():
    found = floats("normal", "float16", 0.0, 50_000.0)
    assert np.abs(found).max() == 65504


@each_law
def test_float64_has_the_draws_resolution(name):
    found = floats(name, "float64")
    step = 2.0 ** unit_exponent(0.0, 1.0, LAWS[name].extent)
    np.testing.assert_allclose(found, standardized(name), rtol=0, atol=2 * step)
    assert len(np.unique(found)) > len(np.unique(floats(name, "float32")))


def test_exact_points():
    """Plain points in float32: u = bits / 2**32 where it has 24 bits, and 0 moved inside."""
    words = np.array([0, 1 << 31, 3 << 30, 1 << 9, 0xFFFFFF00, LAST], np.uint32)
    found = values(Uniform(), jnp.asarray(words), 0.5, 0.5, jnp.dtype("float32"), True)
    np.testing.assert_array_equal(found[1:5], words[1:5] / np.float32(2**32))
    assert 0 < float(found[0]) <= 2.0**-30
    assert float(found[5]) == 1 - 2.0**-24


@pytest.mark.few("bfloat16", "float64")
@each_dtype
def test_same_bits_in_every_mode(dtype):
    # 0.1 is no power of two; the caller's own arithmetic must not be merged into the last multiplication.
    def draw(words):
        return values(LAWS["normal"], words, 0.1, 0.3, jnp.dtype(dtype))

    def larger(words):
        found = draw(words)
        return found, found * jnp.asarray(0.7, found.dtype) + jnp.asarray(0.1, found.dtype)

    with wide(dtype):
        words = jnp.asarray(WORDS)
        expected = draw(words)
        for other in (jax.jit(draw)(words), jax.jit(larger)(words)[0], jax.jit(jax.vmap(draw))(words)):
            np.testing.assert_array_equal(other, expected)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(draw(jnp.asarray(WORDS)), expected)


@pytest.mark.parametrize(
    ("bound", "toward", "dtype", "wanted"),
    [
        (0.0, math.inf, "float32", 2.0**-149),
        (1.0, -math.inf, "float32", 1 - 2.0**-24),
        (1.0, -math.inf, "bfloat16", 1 - 2.0**-8),
        (1.0, -math.inf, "float16", 1 - 2.0**-11),
        (1.0, -math.inf, "float64", 1 - 2.0**-53),
        (math.inf, -math.inf, "float16", 65504),
        (-math.inf, math.inf, "float16", -65504),
        (1e30, -math.inf, "float16", 65504),  # rounds to infinity
        (1.0001, -math.inf, "bfloat16", 1 - 2.0**-8),  # rounds to 1, which the caller compares with
    ],
)
def test_neighbour(bound, toward, dtype, wanted):
    assert neighbour(bound, toward, np.dtype(dtype)) == wanted


@given(decade=st.floats(-38, 38), shift=SHIFTS, extent=st.sampled_from([1.0, 2.0, 8.0, 10.0]))
@settings(deadline=None, derandomize=True)
def test_unit_exponent_is_least(decade, shift, extent):
    scale, location = 10.0**decade, shift * 10.0**decade
    exponent = unit_exponent(location, scale, extent)
    reach = (abs(location) + scale * extent) / 2.0**exponent
    assert reach < 2**31
    assert reach >= 2**30 or exponent == -126


def test_unit_bounds():
    assert unit_bounds((0.0, 1.0), -30, np.dtype("float32")) == (1, 2**30 - 2**6)
    assert unit_bounds((-math.inf, math.inf), -28, np.dtype("float32")) == (1 - 2**31, 2**31 - 1)


@pytest.mark.parametrize(
    ("dtype", "x64", "wanted"),
    [(None, False, "float32"), (None, True, "float64"), (float, False, "float32"), ("float64", False, "float32"),
     ("float64", True, "float64"), (jnp.bfloat16, False, "bfloat16"), ("float16", True, "float16"),
     ("complex128", False, "complex64"), (complex, True, "complex128")],
)  # fmt: skip
def test_check_dtype(dtype, x64, wanted):
    with jax.enable_x64(x64):
        assert check_dtype(dtype) == jnp.dtype(wanted)


@pytest.mark.parametrize("dtype", ["int32", "bool", "uint8", "nonsense", "float8_e8m0fnu", 3])
def test_check_dtype_refuses(dtype):
    with pytest.raises(ValueError, match=r"`dtype` must be a floating .* or complex dtype, got"):
        check_dtype(dtype)


def test_check_dtype_refuses_complex_where_there_is_none():
    with pytest.raises(ValueError, match=r"`dtype` must be a floating \(.*float8_\*\) dtype, got complex64"):
        check_dtype("complex64", allow_complex=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float32"])
def test_no_compiler_may_leave_out_a_rounding(dtype):
    """As a GPU's does where a conversion back follows: tests/scale/test_gpu_compiler.py shows it."""
    init, key = qrjax.he_normal_hash(), jax.random.key(0)
    text = jax.jit(lambda key: init(key, (4, 8), dtype).astype(jnp.float32)).lower(key).as_text()
    assert ("optimization_barrier" in text) == (dtype != "float32")
