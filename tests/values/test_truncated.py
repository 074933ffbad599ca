"""Normals between any bounds: accuracy, strict openness, moments; the distribution function in integers."""

import contextlib
import decimal
import functools
import math
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from wrongs import wrong

from qrjax._values import _truncated
from qrjax._values._distributions import TruncatedNormal, values
from qrjax._values._quantiles import octaves_of_pair
from qrjax._values._truncated import check_interval, normal_cdf, truncated_normal_between
from qrjax._words._pairs import Pair

LAST, INF = 2**32 - 1, math.inf
INTERVALS = [
    (-2, 2), (-1, 1), (-0.5, 2), (-3, 1), (-20, 3), (-9, 9), (-INF, INF), (0, INF), (-INF, 0), (2, INF), (-INF, -3),
    (1, 3), (-4, -2), (4, 5), (5, 7), (-7, -5), (5.5, 6.5), (0, 0.5), (-1e-3, 1e-3), (1, 1.001), (1.9999, 2),
    (2, 2 + 1e-6), (-1e-8, 1e-8),
]  # fmt: skip
FAR = [(5, INF), (6, INF), (-INF, -6)]
DTYPES = ("float32", "bfloat16", "float16", "float64")
each_interval = pytest.mark.parametrize(("lower", "upper"), [*INTERVALS, *FAR])


@functools.cache
def lattice():
    """Sorted words: every 49,999th, 2**12 at both ends, and a logarithmic sweep from both."""
    sweep, ends = np.geomspace(1, LAST, 10_000).astype(np.int64), np.arange(2**12)
    parts = [np.arange(0, 2**32, 49_999), ends, LAST - ends, sweep, LAST - sweep]
    return np.unique(np.concatenate(parts)).astype(np.uint32)


@functools.cache
def draw(lower, upper):
    """The values on the lattice, exactly."""
    return floats(truncated_normal_between(jnp.asarray(lattice()), float(lower), float(upper)))


def floats(drawn):
    return np.where(drawn.negative, -1.0, 1.0) * np.asarray(drawn.magnitude).astype(float) / 2**drawn.fraction


def quantile(lower, upper, bits):
    """In float64, from the tail that has less probability, so that it keeps its digits."""
    if lower + upper > 0:
        return -quantile(-upper, -lower, LAST - bits)
    u = (bits + 0.5) / 2**32
    mass = special.ndtr(upper) - special.ndtr(lower)
    below, above = special.ndtr(lower) + u * mass, special.ndtr(-upper) + (1 - u) * mass
    return np.where(below < 0.5, special.ndtri(np.minimum(below, 0.6)), -special.ndtri(np.minimum(above, 0.6)))


def contract(z):
    return np.where(np.abs(z) <= 2.5, 1e-6, 2e-6 * np.abs(z))


@pytest.mark.parametrize(("lower", "upper"), INTERVALS)
def test_accuracy(lower, upper):
    wanted = quantile(lower, upper, lattice().astype(float))
    error = np.abs(draw(lower, upper) - wanted)
    assert not wrong(error <= contract(wanted), error=error, value=wanted)
    assert error.max() < 4e-7  # measured


@pytest.mark.parametrize(("lower", "upper"), FAR)
def test_accuracy_of_far_one_sided_tails(lower, upper):
    """Within the contract but for the last 2**13 words, and for those, of a point less than one word away.

    64 bits of probability leave the last words few digits: 8 words of (5, inf) and 4,000 of (6, inf) miss
    the contract, by up to 4e-5 and 1e-2 of their value.
    """
    bits = lattice()[1:-1].astype(float)
    found = draw(lower, upper)[1:-1]
    before, wanted, after = (quantile(lower, upper, bits + step) for step in (-0.9, 0, 0.9))
    assert not wrong(found >= before - contract(wanted), found=found, wanted=wanted, word=bits)
    assert not wrong(found <= after + contract(wanted), found=found, wanted=wanted, word=bits)
    inner = (bits > 2**13) & (bits < 2**32 - 2**13)
    near = np.abs(found - wanted) <= contract(wanted)
    assert not wrong(near | ~inner, found=found, wanted=wanted, word=bits)


@each_interval
def test_order(lower, upper):
    values = draw(lower, upper)
    assert not wrong(values[1:] >= values[:-1], value=values[1:], before=values[:-1], word=lattice()[1:])


@each_interval
def test_mirrored_intervals_mirror(lower, upper):
    mirrored = floats(truncated_normal_between(jnp.asarray(~lattice()), -float(upper), -float(lower)))
    # An interval that is its own mirror image is not evaluated from the other side: one unit.
    unit = 2**-28 if lower == -upper else 0
    np.testing.assert_allclose(draw(lower, upper), -mirrored, rtol=0, atol=unit)


@pytest.mark.few("5-7*", "-7--5-bfloat16", "5-inf*", "-inf--6-bfloat16", "0-inf*", "-9-9-float64")
@pytest.mark.parametrize(
    ("lower", "upper", "dtype"),
    [
        pytest.param(lower, upper, dtype, marks=pytest.mark.slow if (i + k) % 2 else ())
        for i, (lower, upper) in enumerate(
            [(5, 7), (-7, -5), (5, INF), (-INF, -6), (0, INF), (-1, 1), (1, 1.1), (-9, 9)]
        )
        for k, dtype in enumerate(DTYPES)
    ],
)
def test_strictly_inside(lower, upper, dtype):
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        law = TruncatedNormal(float(lower), float(upper))
        found = np.asarray(values(law, jnp.asarray(lattice()), 0.0, 1.0, jnp.dtype(dtype))).astype(float)
    # The caller may compare with the bound rounded to the type; 1.1 rounds up in some and down in others.
    low, high = (float(np.asarray(bound).astype(dtype)) for bound in (lower, upper))
    assert max(lower, low) < found.min()
    assert found.max() < min(upper, high)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("lower", "upper"), [(-2, 2), (-0.5, 2), (1, 3), (-7, -5), (0, INF), (4, 5), (-20, 3)])
def test_moments_are_scipys(lower, upper):
    """A midpoint rule of 2**16 words; the part it misses of a half-line's tail is below 1e-4 of the variance."""
    bits = (np.arange(2**16) * 2**16 + 2**15).astype(np.uint32)
    z = floats(truncated_normal_between(jnp.asarray(bits), float(lower), float(upper)))
    mean, variance = stats.truncnorm(lower, upper).stats("mv")
    assert z.mean() == pytest.approx(mean, abs=2e-6)
    assert z.var() == pytest.approx(variance, rel=1e-4)


def test_the_default_interval_agrees_with_its_own_polynomials():
    z = floats(TruncatedNormal().draw(jnp.asarray(lattice()), False))
    np.testing.assert_allclose(draw(-2, 2), z, rtol=0, atol=2.5e-7)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (1, 1, r"`lower` must be less than `upper`, got lower=1 and upper=1"),
        (2, -2, r"`lower` must be less than `upper`, got lower=2 and upper=-2"),
        (INF, -INF, r"`lower` must be less than `upper`, got lower=inf and upper=-inf"),
        (INF, INF, r"`lower` must be less than `upper`"),
        (math.nan, 1, r"`lower` must be less than `upper`, got lower=nan and upper=1"),
        (8, 9, r"`lower` and `upper` must enclose a normal probability of at least 2\*\*-30, got 6.2e-16 for lower=8"),
        (
            -INF,
            -6.1,
            r"`lower` and `upper` must enclose .*, got 5.3e-10 for lower=-inf and upper=-6.1; move the bounds",
        ),
        (0, 1e-9, r"`lower` and `upper` must enclose .*, got 4.0e-10 for lower=0 and upper=1e-09"),
        (50, INF, r"`lower` and `upper` must enclose .*, got 0.0e\+00"),
    ],
)
def test_refused_intervals(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        check_interval(lower, upper)


@each_interval
def test_accepted_intervals(lower, upper):
    check_interval(lower, upper)


def test_the_constant_recomputed():
    with decimal.localcontext(prec=100):
        value = 1 / (2 * pi()).sqrt()
        assert int(value * 2**256) == _truncated.INVERSE_SQRT_TWO_PI


def pi():
    """Machin: pi = 16 atan(1/5) - 4 atan(1/239)."""

    def arctangent_of_inverse(n):
        return sum(Decimal((-1) ** k) / ((2 * k + 1) * Decimal(n) ** (2 * k + 1)) for k in range(90))

    return 16 * arctangent_of_inverse(5) - 4 * arctangent_of_inverse(239)


@pytest.mark.parametrize("x", [0.0, 1e-9, 0.1, 1.0, -2.0, math.pi, -5.5, 8.99])
def test_normal_cdf_in_decimals(x):
    """By another series: Phi(x) = 1/2 + phi(x) (x + x**3 / 3 + x**5 / 15 + ...), whose terms have one sign."""
    with decimal.localcontext(prec=100):
        exact = Decimal(x)
        term, total, n = exact, Decimal(0), 1
        while abs(term) > Decimal(10) ** -95:
            total, n = total + term, n + 2
            term *= exact**2 / n
        wanted = Decimal("0.5") + total * (-(exact**2) / 2).exp() / (2 * pi()).sqrt()
        # Hundreds of terms, each rounded down by a unit of 2**-256 times at most 9**9.
        assert abs(Decimal(normal_cdf(x)) / 2**256 - wanted) < Decimal(10) ** -60


@given(x=st.floats(-8.99, 8.99))
@settings(deadline=None, derandomize=True)
def test_normal_cdf_is_scipys(x):
    assert normal_cdf(x) / 2**256 == pytest.approx(special.ndtr(x), rel=1e-13)


def test_normal_cdf_beyond_nine():
    assert normal_cdf(-INF) == normal_cdf(-1e300) == normal_cdf(-9.0)
    assert normal_cdf(INF) == normal_cdf(9.0)
    assert normal_cdf(-9.0) < 2 ** (256 - 62)


@given(q=st.integers(0, 63).flatmap(lambda k: st.integers(2**k, 2 ** (k + 1) - 1)))
@settings(deadline=None, derandomize=True)
def test_octaves_of_pair(q):
    found = octaves_of_pair(Pair(jnp.uint32(q >> 32), jnp.uint32(q & LAST)))
    assert int(found) / 2**26 == pytest.approx(64 - math.log2(q), abs=2**-24)
