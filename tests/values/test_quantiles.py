"""Integer quantile functions against SciPy in float64: accuracy, order, symmetry; and their recipe."""

import contextlib
import functools
import importlib.util
import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from wrongs import wrong

from qrjax._values import _coefficients, _quantiles
from qrjax._values._distributions import Normal, TruncatedNormal, Uniform

LAST = 2**32 - 1
RECIPE = pathlib.Path(__file__).parents[1] / "recipes" / "fit_quantiles.py"
LAWS = {"uniform": Uniform(), "normal": Normal(), "truncated": TruncatedNormal()}
FRACTION = {"uniform": 32, "normal": 28, "truncated": 30}
# What was measured on the lattice, rounded up; the contract allows 1e-6, and relative 2e-6 beyond 2.5.
MEASURED = {"uniform": 0.0, "normal": 2.8e-7, "truncated": 8e-8}
# The largest value lies between these.
EXTREMES = {"uniform": (1 - 2.0**-30, 1.0), "normal": (6.22, 6.34), "truncated": (2 - 1e-7, 2.0)}
TRUNCATED_DENSITY = np.exp(-2) / np.sqrt(2 * np.pi) / special.erf(np.sqrt(2))  # d, at either end

each_law = pytest.mark.parametrize("name", LAWS)
each_step = pytest.mark.parametrize("step", [19_997, pytest.param(997, marks=pytest.mark.slow)])
each_convention = pytest.mark.parametrize("exact", [False, True])


@functools.cache
def lattice(step=19_997):
    """Sorted words: every `step`-th, up to 2**18 at both ends and in the middle, and a logarithmic sweep."""
    sweep = np.geomspace(1, LAST, 100_000).astype(np.int64)
    ends = np.arange(min(2**18, 2**30 // step))
    parts = [np.arange(0, 2**32, step), ends, LAST - ends, 2**31 - len(ends) // 2 + ends, sweep, LAST - sweep]
    return np.unique(np.concatenate(parts)).astype(np.uint32)


@functools.cache
def drawer(name, exact):
    """Words to (negative, magnitude), compiled once for each shape."""
    return jax.jit(lambda bits: LAWS[name].draw(bits, exact)[:2])


def draw(name, bits, exact):
    """The values of words as float64, which holds them exactly."""
    negative, magnitude = map(np.asarray, drawer(name, exact)(bits))
    return np.where(negative, -1.0, 1.0) * magnitude.astype(float) / 2.0 ** FRACTION[name]


@functools.cache
def on_lattice(name, exact, step=19_997):
    return draw(name, lattice(step), exact)


def quantile(name, bits, exact):
    """In float64, from the smaller of u and 1 - u, so that no tail loses digits."""
    u = np.maximum(bits, 1) / 2**32 if exact else (bits + 0.5) / 2**32
    p = np.minimum(u, 1 - u)
    inverse = {
        "uniform": lambda: 2 * p - 1,
        "normal": lambda: special.ndtri(p),
        "truncated": lambda: special.ndtri(special.ndtr(-2.0) + p * (1 - 2 * special.ndtr(-2.0))),
    }[name]()
    return np.where(u < 0.5, inverse, -inverse)


@each_step
@each_convention
@each_law
def test_accuracy(name, exact, step):
    wanted = quantile(name, lattice(step).astype(float), exact)
    error = np.abs(on_lattice(name, exact, step) - wanted)
    contract = np.where(np.abs(wanted) <= 2.5, 1e-6, 2e-6 * np.abs(wanted))
    assert not wrong(error <= contract, error=error, allowed=contract, value=wanted)
    assert error.max() <= MEASURED[name]


@each_step
@each_convention
@each_law
def test_order(name, exact, step):
    """Not one of the values is below its predecessor's, among neighbours and over the whole lattice.

    Pieces meet to within their fit's error of 1e-7, so that this is luck that a new fit may not have.
    """
    values = on_lattice(name, exact, step)
    assert not wrong(values[1:] >= values[:-1], value=values[1:], before=values[:-1], word=lattice(step)[1:])


def piece_ends():
    """The words on both sides of which another polynomial is used, by v**2 and by the octaves of 1 - v."""
    v = [np.sqrt(t) for t in (1 / 2, 3 / 4, 7 / 8, 15 / 16)] + [1 - 2.0**-k for k in (4, 8, 16)]
    return [round((1 + sign * x) * 2**31) for x in v for sign in (-1, 1)]


@each_convention
@each_law
def test_order_around_the_pieces(name, exact):
    for end in piece_ends():
        window = np.arange(end - 2**14, end + 2**14)
        window = window[(window >= 0) & (window <= LAST)][-(2**14) :].astype(np.uint32)
        values = draw(name, window, exact)
        assert not wrong(values[1:] >= values[:-1], value=values[1:], before=values[:-1], word=window[1:])


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ["normal", "truncated"])
def test_order_of_a_quarter_of_all_words(name):
    """By symmetry, magnitudes must not grow over the words below 2**31: of four blocks one, all places in turn."""
    size = 2**23

    @jax.jit
    def violations(start):
        magnitude = LAWS[name].draw(start + jnp.arange(size + 1, dtype=jnp.uint32), False).magnitude
        return (magnitude[1:] > magnitude[:-1]).sum()

    starts = [start for k, start in enumerate(range(0, 2**31, size)) if k % 4 == k // 4 % 4]
    assert [start for start in starts if int(violations(jnp.uint32(start)))] == []


@pytest.mark.few("uniform", "truncated")
@each_law
def test_symmetry(name):
    # The words ~u and u stand for 1 - u and u, or, as plain points, -u and u do.
    np.testing.assert_array_equal(on_lattice(name, False), -draw(name, ~lattice(), False))
    points = lattice()[1:]
    np.testing.assert_array_equal(on_lattice(name, True)[1:], -draw(name, np.uint32(0) - points, True))


@each_convention
@each_law
def test_extremes(name, exact):
    least, most = draw(name, np.array([0, LAST], np.uint32), exact)
    low, high = EXTREMES[name]
    assert -high < least < -low, f"{name} of the word 0"
    assert low < most < high, f"{name} of the largest word"


@each_law
def test_plain_points_include_the_middle_but_not_zero(name):
    moved, one, middle = draw(name, np.array([0, 1, 2**31], np.uint32), True)
    assert moved == one
    assert middle == 0


@each_convention
def test_uniform_is_exact(exact):
    bits = lattice().astype(np.int64)
    wanted = 2 * np.maximum(bits, 1) - 2**32 if exact else 2 * bits + 1 - 2**32
    np.testing.assert_array_equal(on_lattice("uniform", exact) * 2**32, wanted)


@pytest.mark.parametrize(
    ("name", "second", "fourth"),
    [
        ("uniform", 1 / 3, 1 / 5),
        ("normal", 1, 3),
        # By parts: E[z**2] = 1 - 2 a d and E[z**4] = 3 E[z**2] - 2 a**3 d at a = 2.
        ("truncated", 1 - 4 * TRUNCATED_DENSITY, 3 - 28 * TRUNCATED_DENSITY),
    ],
)
def test_moments(name, second, fourth):
    assert LAWS[name].stddev == pytest.approx(np.sqrt(second), rel=1e-15)
    # A midpoint rule over 2**20 words; beyond it the normal has 1.3e-6 of its second moment, 2.3e-5 of the fourth.
    z = draw(name, (np.arange(2**20) * 2**12 + 2**11).astype(np.uint32), False)
    assert abs(z.mean()) < 1e-7
    assert (z**2).mean() == pytest.approx(second, rel=2e-6)
    assert (z**4).mean() == pytest.approx(fourth, rel=3e-5)


@pytest.mark.few("uniform", "truncated")
@each_law
def test_same_bits_in_every_mode(name):
    bits = jnp.asarray(lattice()[::50_000])
    eager = LAWS[name].draw(bits, False)
    with jax.enable_x64(True):
        wide = LAWS[name].draw(jnp.asarray(lattice()[::50_000]), False)
    mapped = jax.vmap(lambda b: LAWS[name].draw(b, False)[:2])(bits)
    for other in (drawer(name, False)(bits), mapped, wide[:2]):
        assert other[1].dtype == jnp.uint32
        np.testing.assert_array_equal(other[0], eager.negative)
        np.testing.assert_array_equal(other[1], eager.magnitude)


def test_logarithm():
    """-log2 of a mantissa to 2**-24, which the tails turn into errors of z below 2e-8 (dz/dy is at most 0.31)."""
    mantissa = np.unique(np.geomspace(2**31, LAST, 100_000).astype(np.uint32))
    found = np.asarray(_quantiles.log2_of_mantissa(jnp.asarray(mantissa))) / 2**26
    np.testing.assert_allclose(found, 32 - np.log2(mantissa), rtol=0, atol=2**-24)


@functools.cache
def refitted():
    """What the recipe prints now, as a namespace."""
    spec = importlib.util.spec_from_file_location("fit_quantiles", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        recipe.main()
    namespace = {}
    exec(text.getvalue(), namespace)
    return namespace


TABLES = [name for name in vars(_coefficients) if name.isupper()]


def test_the_recipe_makes_all_tables():
    assert [name for name in refitted() if name.isupper()] == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_the_recipe_reproduces_the_table(name):
    # As polynomials: another SciPy may round its least squares otherwise.
    committed, found = (np.atleast_2d(getattr(_coefficients, name)), np.atleast_2d(refitted()[name]))
    assert committed.shape == found.shape
    if name == "NORMAL_TAIL_TOP":  # values, not a polynomial
        np.testing.assert_allclose(found, committed, rtol=1e-8)
        return
    x = np.linspace(0, 1, 101)
    for row, again in zip(committed.astype(float), found.astype(float), strict=True):
        np.testing.assert_allclose(np.polyval(again, x), np.polyval(row, x), rtol=1e-8)
