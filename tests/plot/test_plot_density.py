"""The histogram against the declared density: bars, band, curve, and the sum of it in a number."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import qrjax
from qrjax._plot._binomial import central_interval
from qrjax._plot._density import scatter
from qrjax._plot._laws import densities, probabilities
from qrjax._values._distributions import Normal, TruncatedNormal, Uniform

KEY = jax.random.key(3)
LAWS = {
    "uniform": (Uniform(), scipy.stats.uniform(-1, 2)),
    "normal": (Normal(), scipy.stats.norm()),
    "truncated": (TruncatedNormal(), scipy.stats.truncnorm(-2, 2)),
    "one-sided": (TruncatedNormal(0.5, math.inf), scipy.stats.truncnorm(0.5, math.inf)),
    "upper tail": (TruncatedNormal(4.0, 5.0), scipy.stats.truncnorm(4.0, 5.0)),
}
BUILDERS = {
    "uniform": (qrjax.glorot_uniform_qr(), (32, 16)),
    "random_uniform": (qrjax.random_uniform_qr(0.25, 0.75), (32, 16)),
    "normal": (qrjax.normal_qr(0.5), (1000,)),
    "random_normal": (qrjax.random_normal_hash(3.0, 0.5), (8, 8, 8)),
    "truncated": (qrjax.he_normal_hash(), (3, 3, 4, 16)),
    "truncated_between": (qrjax.truncated_normal_qr(1.0, None, -1.0, 3.0), (500,)),
    "stream": (qrjax.he_uniform_hash().stream("query"), (40, 20)),
    "zero_mean": (qrjax.he_uniform_hash(zero_mean=True), (9, 64)),
    "half": (qrjax.he_normal_qr(dtype=jnp.bfloat16), (64, 64)),
}


def lines(axes):
    """The outlines by what the legend calls them: weights, lower and upper end of the band."""
    outlines = [patch for patch in axes.patches if type(patch).__name__ == "StepPatch"]
    return [outline.get_data().values for outline in outlines]


@pytest.mark.some(3)
@pytest.mark.few("uniform", "normal", "truncated_between", "stream", "half")
@pytest.mark.parametrize("name", BUILDERS)
def test_bars_are_numpys_histogram(name):
    init, shape = BUILDERS[name]
    axes = qrjax.plot.density(init, KEY, shape, bins=17)
    bars = axes.containers[0]
    edges = np.array([bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()])
    weights = np.asarray(init(KEY, shape), np.float64).ravel()
    expected = np.histogram(weights, np.linspace(edges[0], edges[-1], 18), density=True)[0]
    assert [bar.get_height() for bar in bars] == pytest.approx(expected.tolist())
    assert lines(axes)[0] == pytest.approx(expected.tolist())
    assert edges[0] <= weights.min()
    assert weights.max() <= edges[-1] * (1 + 1e-12)


@pytest.mark.some(3)
@pytest.mark.parametrize("name", BUILDERS)
def test_the_curve_is_a_density_of_the_declared_moments(name):
    init, shape = BUILDERS[name]
    x, y = qrjax.plot.density(init, KEY, shape).lines[0].get_data()
    specification = init.specification(shape, np.dtype("float32"))
    mass = np.trapezoid(y, x)
    assert mass == pytest.approx(1, abs=0.01)  # a normal's tails lie beyond the last weight
    assert np.trapezoid(x * y, x) / mass == pytest.approx(specification.mean, abs=0.02 * specification.stddev)


def test_bounded_laws_are_drawn_from_bound_to_bound():
    bars = qrjax.plot.density(qrjax.random_uniform_qr(0.25, 0.75), KEY, (4, 4)).containers[0]
    assert (bars[0].get_x(), bars[-1].get_x() + bars[-1].get_width()) == pytest.approx((0.25, 0.75))


@pytest.mark.parametrize("name", LAWS)
def test_laws_are_scipys(name):
    law, reference = LAWS[name]
    x = np.linspace(-5.5, 5.5, 111) + 0.003
    np.testing.assert_allclose(densities(law, x), reference.pdf(x), rtol=1e-9, atol=1e-300)
    # SciPy's differences of a CDF lose digits in the upper tail; its survival function does not.
    expected = -np.diff(reference.sf(x)) if name == "upper tail" else np.diff(reference.cdf(x))
    np.testing.assert_allclose(probabilities(law, x), expected, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("probability", [0.0, 1e-9, 1e-4, 0.025, 0.5, 0.975, 1.0])
@pytest.mark.parametrize("n", [1, 20, 1000, 300_000])
def test_the_band_is_the_binomial_interval(n, probability):
    expected = scipy.stats.binom(n, probability).ppf([0.025, 0.975])
    assert central_interval(n, probability, 0.95) == (max(0, expected[0]), expected[1])


def test_independent_counts_lie_in_the_band_as_often_as_it_says():
    weights = np.random.default_rng(0).integers(0, 40, size=(400, 2000))
    counts = np.stack([np.bincount(row, minlength=40) for row in weights])
    low, high = central_interval(2000, 1 / 40, 0.95)
    share = ((counts >= low) & (counts <= high)).mean()
    # 16,000 counts, nearly independent; a band of whole numbers holds 95 % or some more.
    assert 0.95 - 5 * math.sqrt(0.05 * 0.95 / 16_000) < share < 0.97


def test_the_band_is_around_the_expected_counts():
    axes = qrjax.plot.density(qrjax.glorot_uniform_qr(), KEY, (64, 32), bins=16)
    _, low, high = lines(axes)
    bounds = np.array(central_interval(2048, 1 / 16, 0.95)) / 2048
    width = axes.containers[0][0].get_width()
    assert (low[3] * width, high[3] * width) == pytest.approx(tuple(bounds))


def test_scatter_of_independent_counts_is_about_one_and_of_expected_ones_zero():
    chances = np.array([0.1, 0.2, 0.3, 0.4])
    assert scatter(1000 * chances, chances, 1000) == pytest.approx(0)
    counts = np.random.default_rng(0).multinomial(1000, chances, size=2000)
    mean_square = np.mean([scatter(row, chances, 1000) ** 2 for row in counts])
    # Squares over their expectation: 2000 trials of a standard deviation below 1.
    assert mean_square == pytest.approx(1, abs=5 / math.sqrt(2000))
    assert scatter(np.array([7]), np.array([1.0]), 7) == 0


@pytest.mark.few("he_normal")
@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "normal"])
def test_quasirandom_weights_fill_more_evenly_than_hashed_ones(name):
    def spread(source):
        axes = qrjax.plot.density(getattr(qrjax, f"{name}_{source}")(), KEY, (256, 128))
        text = axes.get_legend().get_texts()[0].get_text()
        return float(text.split("scatter ")[1].split()[0])

    assert spread("qr") < 0.5
    assert 0.6 < spread("hash") < 1.4


def test_legend_and_title_say_what_is_what():
    axes = qrjax.plot.density(qrjax.he_normal_qr(), KEY, (256, 128))
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words[0].startswith("weights: their counts scatter 0.")
    assert words[1:] == [
        "95 % of counts lie between these by chance (independent weights)",
        "declared: truncated normal, standard deviation 0.0884",
    ]
    assert len({str(line.get_linestyle()) + line.get_edgecolor().__repr__() for line in axes.patches[-3:-1]}) == 2
    assert qrjax.plot.density(qrjax.normal_hash(), KEY, (300,)).get_title() == "300 weights of normal_hash(stddev=0.01)"
    assert qrjax.plot.density(qrjax.normal_hash(), KEY, ()).get_title() == "1 weight of normal_hash(stddev=0.01)"


def test_the_legend_covers_no_bar():
    axes = qrjax.plot.density(qrjax.glorot_uniform_qr(), KEY, (64, 32))
    axes.figure.canvas.draw()
    top = axes.transData.transform((0, max(lines(axes)[2])))[1]
    assert axes.get_legend().get_window_extent().y0 > top


def test_a_law_without_bounds_on_one_side():
    axes = qrjax.plot.density(qrjax.truncated_normal_qr(1.0, None, 0.0, math.inf), KEY, (64, 64))
    assert axes.containers[0][0].get_x() == 0
    axes.figure.canvas.draw()


@pytest.mark.parametrize("init", [qrjax.orthogonal_qr(), qrjax.delta_orthogonal_hash()], ids=str)
def test_orthogonal_declares_no_density(init):
    message = r"`init` (delta_)?orthogonal_.* declares no density of single weights.*; qrjax.plot.spectrum shows that"
    with pytest.raises(TypeError, match=message):
        qrjax.plot.density(init, KEY, (3, 4, 4))


def test_bad_input():
    init = qrjax.he_normal_qr()
    with pytest.raises(
        TypeError, match=r"`init` must be an initializer of qrjax, .* for example qrjax.he_normal_qr\(\)"
    ):
        qrjax.plot.density(jax.nn.initializers.he_normal(), KEY, (4, 4))
    with pytest.raises(TypeError, match=r"`bins` must be an integer, got 2\.5 of type float; for example 40"):
        qrjax.plot.density(init, KEY, (4, 4), bins=2.5)
    for bins in (0, 1001):
        with pytest.raises(ValueError, match=f"`bins` must be from 1 to 1000, got {bins}; for example 40"):
            qrjax.plot.density(init, KEY, (4, 4), bins=bins)
    with pytest.raises(ValueError, match=r"`init` he_normal_qr\(.*\) draws complex weights, which lie on no line"):
        qrjax.plot.density(qrjax.he_normal_qr(dtype=jnp.complex64), KEY, (4, 4))
    with pytest.raises(ValueError, match=r"`shape` \(0,\) holds no weights; give every axis a length above 0"):
        qrjax.plot.density(qrjax.normal_qr(), KEY, (0,))
    with pytest.raises(TypeError, match=r"`shape` must be an integer or a sequence of integers, got 4\.5"):
        qrjax.plot.density(init, KEY, 4.5)
    with pytest.raises(TypeError, match="key"):
        qrjax.plot.density(init, "key", (4, 4))


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qrjax.plot.density(qrjax.normal_qr(), KEY, (2, 2)).figure.canvas.draw()
