"""Complex draws against NumPy's formulas, their moments, and their bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from wrongs import wrong

from qrjax._values import _complex
from qrjax._values._distributions import (
    COMPLEX_TRUNCATED_STDDEV,
    Normal,
    TruncatedNormal,
    Uniform,
    complex_values,
)

LAST = 2**32 - 1
LAWS = {"uniform": Uniform(), "normal": Normal(), "truncated": TruncatedNormal()}
COUNT = 2**18
MASS = 1 - math.exp(-4)
SQUARES = {"uniform": 1.3e-8, "truncated": 1e-7}  # largest errors of |z|**2, as measured

each_law = pytest.mark.parametrize("name", LAWS)


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, (2, count), np.uint32)


def words_with_edges():
    """Every pair of edge words, and random ones."""
    edges = sorted({e % 2**32 for k in range(0, 33, 2) for e in (2**k - 1, 2**k, 2**k + 1, -(2**k))})
    return np.concatenate([np.stack(np.meshgrid(edges, edges)).reshape(2, -1), random_words(2**16)], axis=1).astype(
        np.uint32
    )


def parts(name, words):
    """The draws, exactly, as complex128."""
    real, imaginary = LAWS[name].complex_draw(*map(jnp.asarray, words))
    return to_float(real) + 1j * to_float(imaginary)


def to_float(draw):
    return np.where(draw.negative, -1.0, 1.0) * np.asarray(draw.magnitude).astype(float) / 2.0**draw.fraction


def reference(name, words):
    """modulus * exp(2 pi i u), with the modulus by its inverse distribution function."""
    u, angle = (w.astype(float) + 0.5 for w in words)
    modulus = {"uniform": np.sqrt(u / 2**32), "truncated": np.sqrt(-np.log1p(-MASS * u / 2**32))}[name]
    return modulus * np.exp(2j * np.pi * angle / 2**32)


@pytest.mark.parametrize("name", ["uniform", "truncated"])
def test_reference_formulas(name):
    words = words_with_edges()
    found, wanted = parts(name, words), reference(name, words)
    # The squared modulus has an absolute error, so that moduli near 0 are coarse: 1e-4 with their direction exact.
    assert np.abs(np.abs(found) ** 2 - np.abs(wanted) ** 2).max() < SQUARES[name]
    turned = found * np.conj(wanted) / np.abs(wanted)
    assert np.abs(turned.imag).max() < 3e-9
    large = np.abs(wanted) > 0.1
    assert np.abs(found - wanted)[large].max() < 2e-7


@pytest.mark.few("normal", "truncated")
@each_law
def test_second_moment(name):
    """E|z|**2 = complex_stddev**2 within 5 sigma."""
    square = np.abs(parts(name, random_words(COUNT))) ** 2
    assert abs(square.mean() - LAWS[name].complex_stddev ** 2) < 5 * square.std() / math.sqrt(COUNT)


def test_second_moments_in_closed_form():
    assert Uniform().complex_stddev ** 2 == pytest.approx(1 / 2, rel=1e-15)
    assert Normal().complex_stddev ** 2 == pytest.approx(2, rel=1e-15)
    # |z|**2 is exponential, truncated at 4: its mean is 1 - 4 exp(-4) / (1 - exp(-4)).
    assert pytest.approx(1 - 4 * math.exp(-4) / MASS, rel=1e-15) == COMPLEX_TRUNCATED_STDDEV**2


@each_law
def test_phases_are_uniform_and_means_zero(name):
    z = parts(name, random_words(COUNT, 1))
    assert stats.chisquare(np.histogram(np.angle(z), 64, (-np.pi, np.pi))[0]).pvalue > 1e-6
    for part in (z.real, z.imag):
        assert abs(part.mean()) < 5 * part.std() / math.sqrt(COUNT)
    product = z.real * z.imag
    assert abs(product.mean()) < 5 * product.std() / math.sqrt(COUNT)


@pytest.mark.parametrize("name", ["uniform", "truncated"])
def test_quadrants_are_rotations(name):
    # A quarter turn of the angle is a multiplication by i, to the bit.
    modulus, angle = words_with_edges()
    np.testing.assert_array_equal(parts(name, (modulus, angle + np.uint32(2**30))), 1j * parts(name, (modulus, angle)))


def test_parts_of_a_normal_are_two_normals():
    words = random_words(1000)
    z = parts("normal", words)
    for part, bits in ((z.real, words[0]), (z.imag, words[1])):
        np.testing.assert_array_equal(part, to_float(Normal().draw(jnp.asarray(bits), False)))


@pytest.mark.few("uniform-0.3-complex128", "normal-1e+20-complex64", "truncated*")
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (1.0, "complex64"), (0.3, "complex128"), (1e20, "complex64"), (1e-20, "complex128"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1.0, "complex128"), (0.3, "complex64"), (1e20, "complex128"), (1e-20, "complex64"))
        ),
    ],
)  # fmt: skip
@each_law
def test_values_scale_and_stay_bounded(name, scale, dtype):
    words = words_with_edges()
    with jax.enable_x64(dtype == "complex128"):
        found = complex_values(LAWS[name], *map(jnp.asarray, words), scale, jnp.dtype(dtype))
        assert found.dtype == jnp.dtype(dtype)
        found = np.asarray(found).astype(complex)
    wanted = scale * parts(name, words)
    # Two units of 2**-31 of the largest part, and half a unit in the last place of each part.
    part = 2 * scale * max(LAWS[name].extent, 1) * 2.0**-30 + np.abs(wanted) * (2.0**-24 if dtype == "complex64" else 0)
    allowed = math.sqrt(2) * part
    assert not wrong(np.abs(found - wanted) <= allowed, found=found, wanted=wanted, allowed=allowed)
    if name != "normal":
        bound = {"uniform": 1, "truncated": 2}[name] * scale
        assert np.abs(found).max() <= bound * (1 + 2.0**-24)


def test_square_root():
    powers, sweep = 2 ** np.arange(32), np.geomspace(1, LAST, 10**5)
    x = np.unique(np.concatenate([powers, sweep, LAST - powers])).astype(np.uint32)
    found = np.asarray(_complex.square_root(jnp.asarray(x))) / 2**32
    # 2 k is taken as 2 k + 1.
    np.testing.assert_allclose(found, np.sqrt((x | 1) / 2**32), rtol=1.5e-8, atol=2**-32)


def test_constants():
    # Rounded down or to nearest.
    assert pytest.approx(2**32 / math.sqrt(2), abs=1) == _complex.INVERSE_SQRT_TWO
    assert pytest.approx(2**32 * math.log(2), abs=1) == _complex.LOG_TWO
    assert pytest.approx(2**32 * MASS, abs=1) == _complex.MASS_WITHIN_TWO


@pytest.mark.few("normal")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "truncated" else ()) for n in LAWS])
def test_same_bits_in_every_mode(name):
    def draw(bits, angle):
        return complex_values(LAWS[name], bits, angle, 0.3, jnp.dtype("complex64"))

    words = tuple(map(jnp.asarray, random_words(500)))
    expected = draw(*words)
    for other in (jax.jit(draw)(*words), jax.jit(jax.vmap(draw))(*words)):
        np.testing.assert_array_equal(other, expected)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(draw(*words), expected)
