"""The Signal algebra against closed forms, quadrature by SciPy, and Monte Carlo."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import integrate, special

from qrjax._rules._functions import SIMPLE
from qrjax._signals._combine import combine
from qrjax._signals._profiles import KINDS, normalized
from qrjax._signals._reduce import extreme, summed
from qrjax._signals._signal import Signal

MEANS = (-1000.0, -30.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 30.0, 1000.0)
VARIANCES = (1e-10, 1e-4, 1e-2, 1.0, 10.0, 1e4, 1e10)
GRID = list(itertools.product(MEANS, VARIANCES))
# Issue 3. Kinked functions: the trapezoid rule with step h = 1/32 errs by at most h^2 / 12 * (jump of the slope) *
# (density at the kink) = 8.2e-5 * 0.4 = 3.3e-5 of the standard deviation, in the mean and, times |kink|, in the square.
KINKED = 1e-4
# Smooth functions: the rule converges faster than any power of h while f(mean + std * z) changes slowly over a step.
SMOOTH = 1e-6


# As the walk meets them: sums that know that they are linear.
ADD, SUBTRACT = SIMPLE["add"], SIMPLE["sub"]


def normal(mean=0.0, variance=1.0, shape=(4, 4)):
    return Signal.normal(shape, mean, variance)


def combined(function, *signals):
    return combine(function, list(signals), signals[0].shape, np.float32)


def positive_part(mean, variance):
    """E[relu(x)] and E[relu(x)^2]."""
    std = math.sqrt(variance)
    above, density = special.ndtr(mean / std), math.exp(-(mean**2) / (2 * variance)) / math.sqrt(2 * math.pi)
    return mean * above + std * density, (mean**2 + variance) * above + mean * std * density


def leaky(mean, variance, slope):
    (up, up2), (down, down2) = positive_part(mean, variance), positive_part(-mean, variance)
    return up - slope * down, up2 + slope**2 * down2


# name: the function, and (mean, variance) -> E[f], E[f^2]
KINKS = {
    "relu": (lambda x: np.maximum(x, 0), positive_part),
    "leaky relu": (lambda x: np.where(x > 0, x, 0.2 * x), lambda m, v: leaky(m, v, 0.2)),
    "negative slope": (lambda x: np.where(x > 0, x, -0.5 * x), lambda m, v: leaky(m, v, -0.5)),
    "abs": (np.abs, lambda m, v: (leaky(m, v, -1.0)[0], m * m + v)),
}


@pytest.mark.parametrize("name", KINKS)
def test_functions_with_a_kink(name):
    function, moments = KINKS[name]
    for mean, variance in GRID:
        found, (first, second) = normal(mean, variance).map(function), moments(mean, variance)
        std = math.sqrt(variance)
        assert abs(found.mean - first) <= KINKED * std + 1e-14 * abs(mean), (mean, variance)
        within = KINKED * std * (std + abs(mean)) + 1e-14 * mean**2
        assert abs(found.second_moment - second) <= within, (mean, variance)


def test_the_case_that_the_original_loses():
    found = normal(10.0, 0.01).map(lambda x: np.maximum(x, 0))
    assert found.mean == pytest.approx(10.0, rel=1e-12)
    assert found.second_moment == pytest.approx(100.01, rel=1e-12)


def test_linear_functions():
    for mean, variance in GRID:
        found = normal(mean, variance).map(lambda x: 3 * x - 2)
        # Exact up to rounding, which a variance far below mean^2 feels most.
        first = pytest.approx(3 * mean - 2, rel=1e-13, abs=1e-12 * math.sqrt(variance))
        assert found.mean == first, (mean, variance)
        within = 1e-9 + 1e-15 * abs(mean) / math.sqrt(variance)
        assert found.variance == pytest.approx(9 * variance, rel=within), (mean, variance)


SMOOTHS = {
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "erf": special.erf,
    "gelu": lambda x: x * special.ndtr(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "swish": lambda x: x * special.expit(x),
}


def by_quadrature(function, mean, variance):
    """E[f] and E[f^2] in double precision, with care for the bend at 0."""
    std = math.sqrt(variance)
    bends = [(place - mean) / std for place in (-30, -8, -2, 0, 2, 8, 30)]

    def moment(power):
        def density(z):
            return function(mean + std * z) ** power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        points = [-12, *sorted(b for b in bends if -12 < b < 12), 12]
        parts = [
            integrate.quad(density, a, b, epsabs=0, epsrel=1e-11, limit=200)[0] for a, b in itertools.pairwise(points)
        ]
        return math.fsum(parts)

    return moment(1), moment(2)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")  # where the integrand is 0 but for rounding
@pytest.mark.parametrize("name", SMOOTHS)
def test_smooth_functions(name):
    for mean, variance in GRID:
        found = normal(mean, variance).map(SMOOTHS[name])
        first, second = by_quadrature(SMOOTHS[name], mean, variance)
        # Of the output's own size; where that is next to nothing, of what the input's spread could make it.
        scale = max(math.sqrt(second), 1e-3 * min(1.0, math.sqrt(variance)))
        assert abs(found.mean - first) <= SMOOTH * scale, (mean, variance)
        assert abs(found.second_moment - second) <= SMOOTH * scale**2, (mean, variance)


def test_erf_in_closed_form():
    for variance in (1e-4, 0.1, 1.0, 30.0):
        found = normal(0.0, variance).map(special.erf)
        exact = 2 / math.pi * math.asin(2 * variance / (1 + 2 * variance))
        assert found.second_moment == pytest.approx(exact, rel=SMOOTH)
        shifted = normal(0.7, variance).map(special.erf)
        assert shifted.mean == pytest.approx(math.erf(0.7 / math.sqrt(1 + 2 * variance)), rel=SMOOTH)


# -- sums and products --------------------------------------------------------------------------------------------

PAIRS = list(itertools.product([(0.0, 1.0), (3.0, 0.25), (-100.0, 4.0), (0.5, 1e4)], repeat=2))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_independent_sums_and_products(first, second):
    (m, v), (n, w) = first, second
    x, y = normal(m, v), normal(n, w)
    total, product = combined(ADD, x, y), combined(np.multiply, x, y)
    spread = math.sqrt(v + w)
    # Quadratures of polynomials with a rapidly falling weight: nothing but rounding and the cut at 8 deviations.
    assert abs(total.mean - (m + n)) <= SMOOTH * spread
    assert total.variance == pytest.approx(v + w, rel=KINKED)
    assert abs(product.mean - m * n) <= KINKED * math.sqrt((m * m + v) * (n * n + w))
    assert product.second_moment == pytest.approx((m * m + v) * (n * n + w), rel=KINKED)


@pytest.mark.parametrize("variance", [0.01, 1.0, 100.0])
def test_sums_and_products_of_one_sign(variance):
    # relu(x) + y and relu(x) * relu(y): no longer normal, so on the product grid.
    x, y = (normal(0.0, v).map(lambda a: np.maximum(a, 0)) for v in (1.0, variance))
    first, second = positive_part(0.0, 1.0)
    other, others = positive_part(0.0, variance)
    total, product = combined(ADD, x, y), combined(np.multiply, x, y)
    assert total.mean == pytest.approx(first + other, rel=KINKED)
    assert total.second_moment == pytest.approx(second + others + 2 * first * other, rel=KINKED)
    assert product.mean == pytest.approx(first * other, rel=KINKED)
    assert product.second_moment == pytest.approx(second * others, rel=KINKED)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (3.0, 0.25), (-100.0, 4.0), (0.5, 1e4)])
def test_dependent_sums_and_products(mean, variance):
    x = normal(mean, variance)
    twice, none, square = combined(ADD, x, x), combined(SUBTRACT, x, x), combined(np.multiply, x, x)
    assert twice.mean == pytest.approx(2 * mean)
    assert twice.variance == pytest.approx(4 * variance)
    assert (none.mean, none.variance) == (0.0, 0.0)
    assert square.mean == pytest.approx(mean**2 + variance)
    assert square.variance == pytest.approx(2 * variance**2 + 4 * mean**2 * variance, rel=1e-6)
    parts = combined(ADD, x.map(lambda a: np.maximum(a, 0)), x.map(lambda a: np.minimum(a, 0)))
    assert (parts.mean, parts.variance) == pytest.approx((mean, variance), rel=1e-9, abs=1e-12)


def test_a_sum_remembers_its_terms():
    # x + y - x is y, and (x + y) + (x - y) is 2 x: residual branches that cancel.
    x, y = normal(), normal(0.0, 4.0)
    total = combined(ADD, x, y)
    assert combined(SUBTRACT, total, x).variance == pytest.approx(4.0, rel=1e-6)
    assert combined(ADD, total, x).variance == pytest.approx(8.0, rel=1e-6)


def test_three_sources():
    # 8192 points of a lattice: at the very least as good as so many random points, 1 / sqrt(8192) = 0.011.
    x, y, z = normal(1.0), normal(-1.0, 2.0), normal(0.0, 0.5)
    found = combined(lambda a, b, c: a * b + c, x, y, z)
    assert abs(found.mean + 1.0) <= 0.011 * math.sqrt(found.variance)
    assert found.variance == pytest.approx(2 * 3 - 1 + 0.5, rel=2e-2)


@pytest.mark.parametrize(("m", "v", "n", "w"), [(0, 1, 0, 1), (1, 1, 0, 4), (-2, 0.5, 0, 1)])
def test_the_larger_of_two(m, v, n, w):
    # Clark 1961. A kink across the product grid of step 1/6: h^2 / 12 * density = 1e-3 of the deviation.
    found = combined(np.maximum, normal(m, v), normal(n, w))
    a = math.sqrt(v + w)
    ratio = (m - n) / a
    above, density = special.ndtr(ratio), math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    first = m * above + n * (1 - above) + a * density
    second = (m * m + v) * above + (n * n + w) * (1 - above) + (m + n) * a * density
    assert abs(found.mean - first) <= 1e-3 * a
    assert abs(found.second_moment - second) <= 1e-3 * a * a


# -- correlations -------------------------------------------------------------------------------------------------

# name: the function of a standard normal, and E[f(Z) f(Z')] for their correlation
ARC_COSINES = {
    "linear": (lambda x: x, lambda r: r),
    "relu": (
        lambda x: np.maximum(x, 0),
        lambda r: (math.sqrt(1 - r * r) + (math.pi - math.acos(r)) * r) / (2 * math.pi),
    ),
    "abs": (np.abs, lambda r: 2 / math.pi * (math.sqrt(1 - r * r) + r * math.asin(r))),
    "square": (np.square, lambda r: 1 + 2 * r * r),
    "erf": (special.erf, lambda r: 2 / math.pi * math.asin(2 * r / 3)),
    "cosine": (np.cos, lambda r: math.exp(-1) * math.cosh(r)),
}


@pytest.mark.parametrize("rho", [-0.9, -0.5, 0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", ARC_COSINES)
def test_cross_moments_along_an_axis(name, rho):
    function, exact = ARC_COSINES[name]
    found = Signal.normal((8,), rho=np.array([1.0, rho])).map(function)
    # 31 Hermite orders; a kink leaves about 1 / (pi * 31^1.5) = 2e-3 of the variance to the last, times rho^32.
    assert found.moments[1] == pytest.approx(exact(rho), abs=2e-3 * abs(rho) ** 16 + 2 * KINKED)


# -- reductions, by Monte Carlo -----------------------------------------------------------------------------------

DRAWS = 4000
SIGMAS = 5  # of the sample mean's own error


def correlated(n, rho):
    """Rows of n normals with this common correlation."""
    generator = np.random.Generator(np.random.PCG64(int(1000 * rho) + n))
    common, own = generator.standard_normal((DRAWS, 1)), generator.standard_normal((DRAWS, n))
    return math.sqrt(rho) * common + math.sqrt(1 - rho) * own


def near(found, sample, within=KINKED):
    """Within the sample's own error, and what a kink costs; of a size that rare events do not shrink."""
    size = math.sqrt(found.second_moment + (sample**2).mean()) + 1e-2
    for moment, values, scale in ((found.mean, sample, size), (found.second_moment, sample**2, size**2)):
        assert abs(moment - values.mean()) <= SIGMAS * values.std() / math.sqrt(DRAWS) + within * scale


FUNCTIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "shifted square": lambda x: x * x - 0.5,
    "exp": lambda x: np.exp(0.5 * x),
}


@pytest.mark.parametrize("n", [2, 9, 64, 300])
@pytest.mark.parametrize("rho", [0.0, 0.4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_reductions(name, rho, n):
    function, rows = FUNCTIONS[name], FUNCTIONS[name](correlated(n, rho))
    x = Signal.normal((16, n), rho=np.array([[1.0, rho], [0.0, 0.0]])).map(function)
    near(summed(x, (1,)), rows.sum(1))
    # Extremes of correlated elements go by a Gaussian copula of their own, exact for monotone functions alone.
    within = 0.05 if name == "shifted square" and rho > 0 else 1e-3
    near(extreme(x, (1,)), rows.max(1), within)
    if (rows.min(1) > 0).mean() not in (0.0, 1.0) and (rows.min(1) > 0).mean() < 0.05:
        return  # a smallest relu that is hardly ever above 0: the sample knows less than the walk
    near(extreme(x, (1,), largest=False), rows.min(1), within)


def test_the_sum_of_a_whole_axis_in_closed_form():
    rho = np.array([[1.0, 0.3], [0.1, 0.05]])
    x = Signal.normal((5, 7), 2.0, 4.0, rho=rho)
    for axes, pairs in (((1,), 7 + 42 * 0.3), ((0,), 5 + 20 * 0.1), ((0, 1), 35 + 210 * 0.3 + 140 * 0.1 + 840 * 0.05)):
        found = summed(x, axes)
        n = math.prod(x.shape[a] for a in axes)
        assert found.mean == pytest.approx(2.0 * n)
        assert found.variance == pytest.approx(4.0 * pairs, rel=1e-6)


BENT = {
    "tanh": np.tanh,
    "gelu": lambda x: x * special.ndtr(x),
    "swish": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(x, 0.0),
}


@pytest.mark.parametrize("name", BENT)
def test_functions_of_places_of_unlike_strength(name):
    """Of a few kinds of places exact; of many by a power law, which is as near as the comment on `KINDS` says."""
    for kinds, allowed in ((KINDS, {0.5: 1e-6, 0.25: 1e-6}), (4 * KINDS, {0.5: 0.1, 0.25: 0.35})):
        profile = normalized(np.repeat(np.linspace(0.24, 1.76, kinds), 2))
        x = dataclasses.replace(Signal.normal((3, 2 * kinds)), profiles={1: profile})
        y = combine(BENT[name], [x], x.shape, np.float32)
        whole = np.mean([Signal.normal((), 0.0, each).map(BENT[name]).second_moment for each in profile])
        for share, octaves in allowed.items():
            place = int(np.abs(profile - share).argmin())
            exact = Signal.normal((), 0.0, profile[place]).map(BENT[name]).second_moment
            assert abs(np.log2(y.profiles[1][place] * whole / exact)) < octaves
