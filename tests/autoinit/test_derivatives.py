"""Derivatives of elementwise primitives beside JAX's own, and sums of terms beside samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import qrjax
from qrjax._adjoint._derivatives import BY_OPERAND, FLAT, SAME, SUMS, derivative, places
from qrjax._adjoint._moments import moments
from qrjax._adjoint._terms import Base, Term
from qrjax._rules._elementwise import NAMES
from qrjax._rules._functions import BY_JAX
from qrjax._signals._signal import Signal

# Complex numbers are left to JAX's own derivative.
COMPLEX = {"real", "imag", "conj", "complex"}
# Written in `derivative` itself.
OF_PARAMETERS = {"integer_pow", "select_n"}
GENERATOR = np.random.default_rng(7)
REAL, POSITIVE, INSIDE = (GENERATOR.uniform(low, high, 64) for low, high in ((-3, 3), (0.1, 3), (-0.95, 0.95)))
OTHER = GENERATOR.uniform(-3, 3, 64)
DOMAINS = {
    "log": [POSITIVE], "log1p": [POSITIVE], "sqrt": [POSITIVE], "rsqrt": [POSITIVE], "pow": [POSITIVE, OTHER],
    "asin": [INSIDE], "acos": [INSIDE], "atanh": [INSIDE], "erf_inv": [INSIDE], "acosh": [1 + POSITIVE],
    "cbrt": [POSITIVE], "lgamma": [POSITIVE], "digamma": [POSITIVE], "igamma": [POSITIVE, POSITIVE[::-1]],
    "igammac": [POSITIVE, POSITIVE[::-1]], "clamp": [-np.ones(64), REAL, np.ones(64)],
}  # fmt: skip
BINARY = {"add", "sub", "mul", "div", "rem", "pow", "max", "min", "atan2", "igamma", "igammac"}
COMPARED = sorted({*BY_OPERAND, *(set(SUMS) - {"add_any"}), "lgamma", "digamma", "bessel_i0e", "bessel_i1e", "igammac"})
# Long to compile.
SERIES = {"igammac", "bessel_i0e", "bessel_i1e", "digamma", "lgamma"}


def evaluated(name):
    return lambda *arrays: getattr(lax, name)(*arrays)


@pytest.mark.some(3)
@pytest.mark.parametrize("name", [n if n not in SERIES else pytest.param(n, marks=pytest.mark.slow) for n in COMPARED])
def test_derivatives(name):
    arrays = DOMAINS.get(name, [REAL, OTHER][: 2 if name in BINARY else 1])
    typed = [jnp.asarray(a, jnp.float32) for a in arrays]
    for place in range(len(arrays)):
        found = derivative(name, {}, len(arrays), place, evaluated(name))
        by_jax = jax.vmap(jax.grad(evaluated(name), place))(*typed)
        if found is None:
            assert name == "clamp"
            continue
        if callable(found):
            found = found(*(arrays[i] for i in places(name, len(arrays), place)))
        np.testing.assert_allclose(np.broadcast_to(found, by_jax.shape), by_jax, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("power", [-2, -1, 2, 3, 7])
def test_integer_powers(power):
    found = derivative("integer_pow", {"y": power}, 1, 0, None)(POSITIVE)
    by_jax = jax.vmap(jax.grad(lambda x: lax.integer_pow(x, power)))(jnp.asarray(POSITIVE, jnp.float32))
    np.testing.assert_allclose(found, by_jax, rtol=1e-4)


@pytest.mark.parametrize("cases", [2, 3])
def test_choices(cases):
    which = np.arange(64) % cases
    chosen = [derivative("select_n", {}, cases + 1, place, None) for place in range(cases + 1)]
    assert chosen[0] is None
    for case in range(cases):
        np.testing.assert_array_equal(chosen[1 + case](which), (which == case).astype(float))


def test_every_elementwise_primitive_has_a_derivative():
    known = FLAT | SAME | set(SUMS) | set(BY_OPERAND) | BY_JAX | COMPLEX | OF_PARAMETERS
    assert not NAMES - known
    assert not (set(BY_OPERAND) | set(SUMS)) & (FLAT | SAME)


SPECIAL = {
    "lgamma": lax.lgamma,
    "bessel": lax.bessel_i0e,
    "polygamma": lambda x: lax.polygamma(jnp.ones_like(x), 1 + x * x),
    "zeta": lambda x: jax.scipy.special.zeta(2 + x * x, jnp.ones_like(x)),
    "betainc by its last": lambda x: jax.scipy.special.betainc(jnp.ones_like(x), jnp.ones_like(x), nn.sigmoid(x)),
    "betainc by its first": lambda x: jax.scipy.special.betainc(1 + x * x, jnp.ones_like(x), nn.sigmoid(x)),
    "igamma": lambda x: lax.igamma(1 + x * x, jnp.ones_like(x)),
}
# JAX has no derivative of these.
WITHOUT = {"zeta", "betainc by its first"}


@pytest.mark.slow
@pytest.mark.whole_tables("betainc by its first")  # compiled for seconds; zeta has none either
@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name):
    """Where JAX has no derivative, the report says so instead of failing."""
    module = (lambda key, _: {"w": jax.random.normal(key, (64, 64))}, lambda p, x: SPECIAL[name](x @ p["w"]))
    report = qrjax.analyze(module, jax.ShapeDtypeStruct((8, 64), jnp.float32), gradients=True)
    assert report.weights[0].gradient > 0
    assert any("gradient approximate" in note for note in report.weights[0].notes) == (name in WITHOUT)


# -- sums of terms -------------------------------------------------------------------------------------------------

ROWS, WIDTH = 20_000, 16


def normals(mean=0.0):
    return Signal.normal((64, WIDTH), mean, 1.0)


def sampled(function):
    """E[g^2] of a function of a forward array x and a base b, both normal."""
    rng = np.random.default_rng(3)
    x, b = rng.standard_normal((2, ROWS, WIDTH))
    return float((function(x, b) ** 2).mean())


def base():
    return Base(Signal.normal((64, WIDTH), 0.0, 1.0))


def plain(b, outer):
    return Term(b, (0, 1), outer)


def over_row(b, outer, inner=None):
    return Term(b, (0, None), outer, inner)


ONES = Signal.constant(1.0, (64, WIDTH))
# What is lost of a second moment by taking rows of a width for endless ones.
FINITE = 0.05


def shifts(b, _):
    return [plain(b, ONES), over_row(b, Signal.constant(-1 / WIDTH, (64, WIDTH)))]


def norms(b, x):
    """Of x / |x| times its width's root: b - mean(b) - x mean(b x)."""
    y = x.map(lambda v: -v / WIDTH)
    return [*shifts(b, x), over_row(b, y, x)]


def gates(b, x):
    """Of swish: b s(x) + b x s'(x)."""
    s = x.map(lambda v: 1 / (1 + np.exp(-v)))
    return [plain(b, s), plain(b, x.map(lambda v: v / (2 * np.cosh(v / 2)) ** 2))]


SUMS_OF_TERMS = {
    "mean": (shifts, lambda _, b: b - b.mean(1, keepdims=True)),
    "norm": (norms, lambda x, b: b - b.mean(1, keepdims=True) - x * (b * x).mean(1, keepdims=True)),
    "swish": (gates, lambda x, b: b / (1 + np.exp(-x)) + b * x / (2 * np.cosh(x / 2)) ** 2),
}


@pytest.mark.parametrize("name", SUMS_OF_TERMS)
def test_sums_of_terms(name):
    terms, function = SUMS_OF_TERMS[name]
    x, b = normals(), base()
    found = moments(terms(b, x), (64, WIDTH))
    assert found.flat[0] == pytest.approx(sampled(function), rel=FINITE)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "spread"), [(16, 0.5), (16, 2.0), (64, 1.0)])
def test_softmax(width, spread):
    """p (b - sum of p b), through a layer that hands on a derivative of second moment 1."""
    rng = np.random.default_rng(5)
    x, g = spread * rng.standard_normal((4000, width)), rng.standard_normal((4000, width))
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    sample = float(((p * (g - (p * g).sum(1, keepdims=True))) ** 2).mean())
    module = (lambda *_: {"w": jnp.eye(width)}, lambda q, x: jax.nn.softmax(x @ q["w"]))
    rotation = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    inputs = rng.standard_normal((512, width), np.float32)
    found = qrjax.measure(module, {"w": spread * jnp.asarray(rotation)}, inputs, gradients=True)[0].gradient
    assert found == pytest.approx(sample, rel=2 * FINITE)
