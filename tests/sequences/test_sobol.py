"""Sobol' points against SciPy, against a NumPy Gray-code loop, and `qrjax.sobol`'s arguments."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from scipy.stats import qmc

from qrjax import sobol
from qrjax._sequences._directions import directions, static_directions
from qrjax._sequences._sobol import line_bits, point_bits, raster_bits

LAST = 2**32 - 1
SAMPLE = (1, 2, 3, 12, 1111, 21201)
# Powers of two, small and large odd factors, no factor of two at all; LAST - 6 wraps.
WIDTHS, STARTS = (1, 16, 24, 48, 100, 144, 1024), (0, 1, 5, 16, LAST - 6)
DTYPES = ("float32", "bfloat16", "float16", "float64")
KEY = jax.random.key(0)
# Those between differ from these in the scramble alone, which test_scrambles.py tests.
each_scramble = pytest.mark.parametrize(
    "scramble", [None, "owen", *(pytest.param(name, marks=pytest.mark.slow) for name in ("shift", "linear"))]
)


def gray_code(dim, index):
    """Point `index` of a dimension: the XOR of the direction numbers at the bits of its Gray code."""
    index = np.asarray(index, np.uint32)
    code = index ^ index >> 1
    terms = [np.where(code >> np.uint32(b) & 1, v, np.uint32(0)) for b, v in enumerate(static_directions(dim))]
    return functools.reduce(np.bitwise_xor, terms)


def scipys(count, dims=sobol.DIMENSIONS):
    """SciPy's first points of the first dimensions as integers, shape (count, dims); count a power of two."""
    return (qmc.Sobol(dims, bits=32, scramble=False).random(count) * 2**32).astype(np.uint32)


@pytest.mark.parametrize("dim", SAMPLE)
def test_points_are_scipys(dim):
    expected = scipys(256, dim)[:, -1]
    np.testing.assert_array_equal(sobol.bits(dim, np.arange(256)), expected)
    np.testing.assert_array_equal(sobol.bits_range(dim, 0, 256), expected)


@pytest.mark.slow
def test_points_of_all_dimensions_are_scipys():
    index = np.array([0, 1, 2, 3, 7, 100, 1023])
    found = jax.jit(jax.vmap(lambda dim: sobol.bits(dim, index)))(jnp.arange(1, sobol.DIMENSIONS + 1))
    np.testing.assert_array_equal(found, scipys(1024)[index].T)


@pytest.mark.parametrize("dim", SAMPLE)
def test_any_index_is_the_gray_code_points(dim):
    edges = [0, 1, 2**16, 2**31 - 1, 2**31, LAST - 1, LAST]
    index = np.array([*edges, *np.random.default_rng(dim).integers(0, LAST, 256 - len(edges))])
    np.testing.assert_array_equal(sobol.bits(dim, index), gray_code(dim, index))


@pytest.mark.few("owen")
@each_scramble
def test_a_traced_dimension_is_the_static_one(scramble):
    dims, index = (1, 2, 21201), np.arange(9, 49)
    draw = functools.partial(sobol.bits, index=index, scramble=scramble, key=KEY)
    along = functools.partial(sobol.bits_range, start=9, count=40, scramble=scramble, key=KEY)

    @jax.jit  # one program for all three, or their compilation would take most of this file's time
    def everything(traced):
        return [draw(dim) for dim in dims], jax.vmap(draw)(traced), along(traced[1])

    static, mapped, line = everything(jnp.array(dims))
    np.testing.assert_array_equal(mapped, static)
    np.testing.assert_array_equal(line, static[1])


@pytest.mark.parametrize("scale", [1, 2, 16, 1024])
@pytest.mark.parametrize("dim", [1, 2, 300])
def test_point_bits_with_a_bound_and_a_scale(dim, scale):
    largest = 1000
    index = np.array([0, 1, 2, 511, 512, 513, largest], np.uint32)
    found = jax.jit(point_bits, static_argnums=(2, 3))(directions(dim), index, largest, scale)
    np.testing.assert_array_equal(found, gray_code(dim, index * np.uint32(scale)))


@pytest.mark.few("1", "100")
@pytest.mark.parametrize(
    "width", [pytest.param(w, marks=pytest.mark.slow if w in (24, 48, 144) else ()) for w in WIDTHS]
)
def test_a_raster_is_its_points(width):
    @jax.jit  # one program: the starts as constants, and traced
    def everything(v, starts):
        rows, columns = jnp.arange(12, dtype=jnp.uint32).reshape(3, 4, 1), jnp.arange(width, dtype=jnp.uint32)
        draw = functools.partial(raster_bits, v, rows, columns[None, None], (3, 4, width))
        return [draw(start) for start in STARTS], jax.lax.map(draw, starts)

    static, traced = everything(directions(7), np.array(STARTS, np.uint32))
    for k, start in enumerate(STARTS):
        expected = gray_code(7, (start + np.arange(12 * width)) % 2**32).reshape(3, 4, width)
        np.testing.assert_array_equal(static[k], expected, err_msg=f"start {start}, static")
        np.testing.assert_array_equal(traced[k], expected, err_msg=f"start {start}, traced")


@pytest.mark.few("0", "3", "4096")
@pytest.mark.parametrize("count", [0, 1, 3, 100, 4096])
def test_a_line_is_its_points(count):
    starts = (0, 5, LAST - 6)

    @jax.jit
    def everything(v, begins):
        return [line_bits(v, count, start) for start in starts], jax.lax.map(lambda b: line_bits(v, count, b), begins)

    static, traced = everything(directions(7), np.array(starts, np.uint32))
    for k, start in enumerate(starts):
        expected = gray_code(7, (start + np.arange(count)) % 2**32)
        np.testing.assert_array_equal(static[k], expected, err_msg=f"start {start}, static")
        np.testing.assert_array_equal(traced[k], expected, err_msg=f"start {start}, traced")


def test_part_of_a_raster_is_that_part():
    # A sharded program evaluates its own rows and columns only.
    rows, columns = np.arange(3, 7, dtype=np.uint32)[:, None], np.arange(8, 48, dtype=np.uint32)[None]
    found = jax.jit(lambda v, i, j: raster_bits(v, i, j, (12, 48), 5))(directions(7), rows, columns)
    np.testing.assert_array_equal(found, gray_code(7, 5 + rows * 48 + columns))


@pytest.mark.few("1-float32", "2-bfloat16", "21201-float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 2, 21201])
def test_points_are_the_bits_rounded(dim, dtype):
    index = np.array([1, 2, 3, 1000, LAST - 1, LAST])
    with jax.enable_x64(dtype == "float64"):
        draw = jax.jit(lambda: [sobol.points(dim, index, kind) for kind in (dtype, "float32")])
        found, single = map(np.asarray, draw())
    assert found.dtype == jnp.dtype(dtype)
    limits = ml_dtypes.finfo(dtype)
    inside = functools.partial(np.clip, a_min=float(limits.smallest_subnormal), a_max=1 - float(limits.epsneg))
    # Values are whole steps of 2**-30, those between rounded toward 1/2; then half a unit in the last place.
    tolerance = 3 / 2**32 + (0 if dtype == "float64" else limits.epsneg / 2)
    plain = inside(gray_code(dim, index) / 2**32)
    said = f"{dtype} points of dimension {dim} at {index}, against the Gray code's sums in NumPy"
    np.testing.assert_allclose(found.astype(float), plain, rtol=0, atol=tolerance, err_msg=said)
    if dtype in ("bfloat16", "float16"):
        rounded = inside(single.astype(dtype).astype(float))
        np.testing.assert_array_equal(found.astype(float), rounded, f"{dtype} points, against float32's rounded")


@pytest.mark.few("float32-owen", "bfloat16-None", "float16-owen", "float64-None")
@pytest.mark.parametrize("scramble", [None, "owen"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_points_are_strictly_inside(dtype, scramble):
    # In dimension 1 the first 2**16 indices and the last include the words nearest 0 and 2**32:
    # the radical inverse of 1010...10, whose Gray code is all ones, is 2**32 - 1.
    index = np.array([*range(2**16), 0xAAAAAAAA, LAST - 1, LAST], np.uint32)
    with jax.enable_x64(dtype == "float64"):
        found = np.asarray(jax.jit(lambda i: sobol.points(1, i, dtype, scramble=scramble, key=KEY))(index))
    assert found.min() > 0
    assert found.max() < 1


@pytest.mark.few("owen")
@each_scramble
def test_ranges_are_runs_of_points(scramble):
    own = {"scramble": scramble, "key": KEY}

    @jax.jit
    def everything(index):
        found = sobol.points_range(5, 3, 1000, **own), sobol.bits_range(5, LAST - 999, 1000, **own)
        return found, (sobol.points(5, index + 3, **own), sobol.bits(5, index - 1000, **own))

    for found, expected in zip(*everything(jnp.arange(1000, dtype=jnp.uint32)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_shapes_and_default_dtype():
    assert sobol.bits(1, 5).shape == ()
    assert sobol.bits(1, np.zeros((0, 3), int)).shape == (0, 3)
    assert sobol.points(1, 5).dtype == jnp.float32
    assert sobol.points_range(1, 0, 0).shape == (0,)
    with jax.enable_x64(True):
        assert sobol.points(1, 5).dtype == jnp.float64
        np.testing.assert_array_equal(sobol.bits(12, np.arange(64)), gray_code(12, np.arange(64)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dim": 0}, ValueError, r"`dim` must be in \[1, 21201\], got 0"),
        ({"dim": 21202}, ValueError, r"`dim` must be in \[1, 21201\], got 21202"),
        ({"dim": True}, ValueError, r"`dim` must be in \[1, 21201\], got True"),
        ({"dim": 1.5}, TypeError, r"`dim` must be an integer, got 1.5 of type float"),
        ({"index": -1}, ValueError, r"`index` must be in \[0, 2\*\*32\), got -1"),
        ({"index": 2**32}, ValueError, r"`index` must be in \[0, 2\*\*32\), got 4294967296"),
        ({"index": [0, -3]}, ValueError, r"`index` must be in \[0, 2\*\*32\), got -3"),
        ({"index": np.array([5, 2**40])}, ValueError, r"`index` must be in \[0, 2\*\*32\), got 1099511627776"),
        ({"index": 1.0}, TypeError, r"`index` must be an integer or an array of integers, got"),
        ({"index": jnp.ones(2)}, TypeError, r"`index` must be an integer or an array of integers, got"),
        ({"scramble": "faure"}, ValueError, r"`scramble` must be one of None, 'shift', 'linear', 'owen', got 'faure'"),
        ({"scramble": "owen"}, ValueError, r"`key` must be given for scramble='owen'; make one with"),
        ({"scramble": "owen", "key": 3}, TypeError, r"`key` must be a JAX key, got 3 of type int"),
    ],
)
def test_refused_arguments(arguments, error, message):
    for function in (sobol.bits, sobol.points):
        with pytest.raises(error, match=message):
            function(**{"dim": 1, "index": 0, **arguments})


@pytest.mark.parametrize(
    ("start", "count", "error", "message"),
    [
        (LAST, 2, ValueError, r"`start` must be in \[0, 2\*\*32 - count\], got 4294967295 with count=2"),
        (-1, 2, ValueError, r"`start` must be in \[0, 2\*\*32 - count\], got -1"),
        (0, -1, ValueError, r"`count` must be a non-negative integer, got -1"),
        (0, 1.0, ValueError, r"`count` must be a non-negative integer, got 1.0"),
        (0.5, 1, TypeError, r"`start` must be an integer, got 0.5"),
        (jnp.int32(-1), 2, ValueError, r"`start` must be in \[0, 2\*\*32 - count\], got -1"),
        (np.int64(LAST), 2, ValueError, r"`start` must be in \[0, 2\*\*32 - count\], got 4294967295 with count=2"),
    ],
)
def test_refused_ranges(start, count, error, message):
    for function in (sobol.bits_range, sobol.points_range):
        with pytest.raises(error, match=message):
            function(1, start, count)


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool", "nonsense", "float8_e8m0fnu"])
def test_refused_dtypes(dtype):
    with pytest.raises(ValueError, match=r"`dtype` must be a floating .* dtype, got"):
        sobol.points(1, 0, dtype)
