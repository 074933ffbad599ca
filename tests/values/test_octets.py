"""Floats of 8 bits: whatever their ends and special values, draws are rounded, finite and inside their bounds."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import qrjax
from qrjax._values._distributions import Normal, TruncatedNormal, Uniform, check_dtype, values
from qrjax._values._floats import neighbour

# Without infinity, without a zero of either sign, with one bit of fraction more; e4m3fn and e5m2 are the processors'.
DTYPES = (
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e4m3b11fnuz",
)  # fmt: skip
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
WORDS = np.concatenate([[0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.random.default_rng(0).integers(0, 2**32, 4000)])


def finite(dtype):
    every = np.arange(256, dtype=np.uint8).view(dtype).astype(float)
    return np.unique(every[np.isfinite(every)])


@pytest.mark.turns(3)
@pytest.mark.some(4)
@each_dtype
@pytest.mark.parametrize(
    ("law", "location", "scale"),
    [
        (Uniform(), 0.5, 0.5), (Uniform(), 0.0, 0.125), (Uniform(), 0.0, 1e3), (Normal(), 0.0, 0.1),
        (Normal(), 0.0, 1e4), (TruncatedNormal(), 0.0, 1.0), (TruncatedNormal(0.0, np.inf), 1.0, 0.5),
    ],
)  # fmt: skip
def test_draws_are_those_of_float32_rounded_inside_the_bounds(dtype, law, location, scale):
    words = jnp.asarray(WORDS.astype(np.uint32))
    reach = {1e4: 2e4, 1e3: 1e3}.get(scale, 0)
    if reach > finite(dtype)[-1]:
        with pytest.raises(ValueError, match=rf"the values reach {reach:g}, beyond the .* of {dtype}; use a smaller"):
            values(law, words, location, scale, jnp.dtype(dtype))
        return
    wide, narrow = (np.asarray(values(law, words, location, scale, jnp.dtype(d))) for d in ("float32", dtype))
    assert narrow.dtype == dtype
    every, lower, upper = finite(dtype), *(location + scale * bound for bound in law.bounds)
    ends = [float(np.asarray(np.clip(bound, every[0], every[-1])).astype(dtype)) for bound in (lower, upper)]
    # The least and the largest of the 256 that lie within, also where the bound is rounded first.
    least = min(v for v in every if v > lower and (v > ends[0] or lower < every[0]))
    most = max(v for v in every if v < upper and (v < ends[1] or upper > every[-1]))
    expected = np.clip(wide.astype(float), least, most).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(narrow.astype(float), expected.astype(float))


@each_dtype
def test_neighbours_are_those_of_the_table(dtype):
    every = finite(dtype)
    for low, high in itertools.pairwise(every):
        assert neighbour(low, np.inf, dtype) == high
        assert neighbour(high, -np.inf, dtype) == low
    assert neighbour(np.inf, -np.inf, dtype) == every[-1] == neighbour(1e30, -np.inf, dtype)
    assert neighbour(-np.inf, np.inf, dtype) == every[0]
    assert neighbour(every[-1], np.inf, dtype) == np.inf  # none is left


@pytest.mark.some(2)
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_every_way_to_draw_takes_them(dtype):
    key = jax.random.key(0)
    for init in (qrjax.he_normal_qr(), qrjax.orthogonal_hash(dtype=dtype), qrjax.he_uniform_hash(zero_mean=True)):
        whole = np.asarray(init(key, (16, 8), dtype))
        assert whole.dtype == dtype
        assert np.isfinite(whole.astype(float)).all()
        np.testing.assert_array_equal(np.asarray(init.at(key, (16, 8), (3, ...), dtype)), whole[3])
    points = np.asarray(qrjax.sobol.points(2, np.arange(512), dtype)).astype(float)
    assert points.min() > 0
    assert points.max() < 1
    drawn = np.asarray(qrjax.random.truncated_normal(64, dtype=dtype, skip=0)).astype(float)
    assert (abs(drawn) < 2).all()


@pytest.mark.parametrize("dtype", ["float8_e8m0fnu", "float4_e2m1fn", "int4", "int8"])
def test_others_of_few_bits_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"`dtype` must be a floating .*float8_\*.* dtype, got {dtype}"):
        check_dtype(getattr(ml_dtypes, dtype, dtype))
