"""What layers do to gradients, scales and pairs of inputs: closed forms, and networks that were drawn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax


def octaves(factors):
    """Over 100 layers."""
    return 100 * np.log2(factors)


@pytest.mark.few("tanh")
@pytest.mark.parametrize(
    ("function", "gradient", "scale"),
    [
        pytest.param(jnp.tanh, [23.6, 0.5, 0.0, 0.0], [-111.7, -15.7, -4.3, -1.1], id="tanh"),
        pytest.param(jax.nn.gelu, [10.0, 4.3, 1.3, 0.4], [19.4, 12.2, 3.9, 1.1], id="gelu"),
        pytest.param(jax.nn.silu, [9.3, 2.0, 0.5, 0.1], [23.0, 5.7, 1.6, 0.4], id="swish"),
    ],
)
def test_tanh_gelu_and_swish_lose_their_gradients_growth_at_small_targets(function, gradient, scale):
    """The values of a computation by Gauss-Hermite sums of the functions' derivatives, written out by hand."""
    found = qrjax.stability(function, targets=[1.0, 2.0**-4, 2.0**-6, 2.0**-8])
    np.testing.assert_allclose(octaves(found.gradient), gradient, atol=0.06)
    np.testing.assert_allclose(octaves(found.scale), scale, atol=0.06)


@pytest.mark.few("leaky_relu")
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_homogeneous_functions_keep_gradients_and_scales_whatever_the_target(name):
    function = jnp.abs if name == "abs" else getattr(jax.nn, name)
    found = qrjax.stability(function, targets=[1e-3, 1.0, 50.0])
    np.testing.assert_allclose(found.gradient, 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.scale, 1.0, rtol=1e-9)


def test_inputs_of_relu_layers_merge_as_its_kernel_says():
    """Cho and Saul 2009, Kernel methods for deep learning, equation 6 of degree 1."""
    found = qrjax.stability(jax.nn.relu, targets=[0.5])
    c = 0.0
    for layers in range(1, 101):
        c = (math.sqrt(1 - c**2) + (PI - math.acos(c)) * c) / PI
        if layers in (1, 2, 5, 20, 100):
            assert 1 - found.correlation(layers)[0] == pytest.approx(1 - c, rel=0.03)
    assert found.limit[0] == pytest.approx(1.0, abs=1e-4)


PI = math.pi


def test_inputs_of_erf_layers_come_apart_as_its_kernel_says():
    """Williams 1997, equation 11; an odd function leaves what is unrelated unrelated."""
    target = 4.0
    found = qrjax.stability(jax.scipy.special.erf, targets=[target])
    c = 0.999
    for _ in range(3):
        c = math.asin(2 * target * c / (1 + 2 * target)) / math.asin(2 * target / (1 + 2 * target))
    assert found.correlation(3, start=0.999)[0] == pytest.approx(c, abs=1e-3)
    assert found.correlation(7)[0] == pytest.approx(0.0, abs=1e-9)
    # Above 1 two inputs never become one: their map leaves the correlation 1 (Poole et al. 2016).
    assert found.gradient[0] > 1
    assert found.limit[0] < 0.9


def test_a_networks_own_gradient_grows_as_foreseen():
    """Twelve layers of 512 units, drawn here; the gradient by JAX."""
    width, layers, target = 512, 12, 2.0
    gain = qrjax.gain(jnp.tanh, target=target)
    keys = jax.random.split(jax.random.key(1), layers)
    weights = [jax.random.normal(key, (width, width)) * gain / math.sqrt(width) for key in keys]

    def network(x):
        for w in weights:
            x = jnp.tanh(x) @ w
        return x

    x = math.sqrt(target) * jax.random.normal(jax.random.key(2), (64, width))
    _, pull = jax.vjp(network, x)
    (gradient,) = pull(jax.random.normal(jax.random.key(3), (64, width)))
    expected = layers * np.log2(qrjax.stability(jnp.tanh, targets=[target]).gradient[0])
    assert np.log2(np.mean(np.square(gradient))) == pytest.approx(expected, abs=0.35)
    assert expected > 3


def test_what_is_printed():
    text = repr(qrjax.stability(jnp.tanh, targets=[1.0, 2.0**-6]))
    assert text.splitlines() == [
        "Stability of tanh: a layer's factors",
        "target   gain  gradient  scale  limit",
        "2^+0     1.593    1.1778  0.461  0.000",
        "2^-6     1.015    1.0003  0.970  0.000",
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: qrjax.stability(jnp.tanh, targets=[]), ValueError, "`targets` must hold one second moment or more"),
        (lambda: qrjax.stability(jnp.tanh, targets=[-1.0]), ValueError, "`targets` is a second moment"),
        (lambda: qrjax.stability(jnp.zeros_like), ValueError, "zero or infinity for inputs of second moment"),
        (lambda: found().correlation(-1), ValueError, "`layers` must be 0 or more, got -1"),
        (lambda: found().correlation(1.5), TypeError, "`layers` must be an integer, got 1.5"),
        (lambda: found().correlation(1, start=2.0), ValueError, "`start` is a correlation, from -1 to 1, got 2.0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def found():
    return qrjax.stability(lambda x: x, targets=[1.0])
