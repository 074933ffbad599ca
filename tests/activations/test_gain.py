"""The gain of an activation, against closed forms, PyTorch's names and a plain sum of many draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._activations._function import Activation

PI = math.pi


def erf_moment(target):
    """E[erf(x)^2] of a normal x (Williams 1997, Computing with infinite networks, equation 11)."""
    return 2 / PI * math.asin(2 * target / (1 + 2 * target))


def relu6_moment(target):
    """E[min(max(x, 0), 6)^2]."""
    edge = 6 / math.sqrt(target)
    inside = math.erf(edge / math.sqrt(2)) / 2 - edge * math.exp(-(edge**2) / 2) / math.sqrt(2 * PI)
    return target * inside + 36 * math.erfc(edge / math.sqrt(2)) / 2


CLOSED = {
    "identity": (lambda x: x, lambda q: q),
    "relu": (jax.nn.relu, lambda q: q / 2),
    "leaky_relu": (jax.nn.leaky_relu, lambda q: q * (1 + 0.01**2) / 2),
    "erf": (jax.scipy.special.erf, erf_moment),
    "sine": (jnp.sin, lambda q: (1 - math.exp(-2 * q)) / 2),
    "square": (jnp.square, lambda q: 3 * q**2),
    "exponential": (jnp.exp, lambda q: math.exp(2 * q)),
    "sign, a step": (jnp.sign, lambda _: 1.0),
    "relu6, two kinks": (jax.nn.relu6, relu6_moment),
    "a step beside": (lambda x: (x > 0.3).astype(x.dtype), lambda q: math.erfc(0.3 / math.sqrt(2 * q)) / 2),
}


@pytest.mark.some(3)
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    function, moment = CLOSED[name]
    for target in (1.0, 0.05, 4.0):
        assert qrjax.gain(function, target=target) == pytest.approx(math.sqrt(target / moment(target)), rel=1e-9)


def test_numpy_functions_and_jax_functions_are_alike():
    for plain, traced in ((np.tanh, jnp.tanh), (np.arctan, jnp.arctan)):
        assert qrjax.gain(plain) == pytest.approx(qrjax.gain(traced), rel=1e-12)
        ours = Activation(plain).expectations(1.0, lambda value, slope, _: np.stack([value**2, slope**2]))
        theirs = Activation(traced).expectations(1.0, lambda value, slope, _: np.stack([value**2, slope**2]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_what_pytorch_knows_by_name():
    """`calculate_gain`: 1 for linear layers, sqrt(2) for relu, leaky_relu's formula, .75 for selu by tradition."""
    assert qrjax.gain(lambda x: x) == pytest.approx(1.0)
    assert qrjax.gain(jax.nn.relu) == pytest.approx(math.sqrt(2.0))
    slope = 0.2
    leaky = qrjax.gain(lambda x: jax.nn.leaky_relu(x, slope))
    assert leaky == pytest.approx(math.sqrt(2 / (1 + slope**2)))
    # selu was made so that its gain is 1 (Klambauer et al. 2017).
    assert qrjax.gain(jax.nn.selu) == pytest.approx(1.0, abs=1e-6)
    assert qrjax.gain(jnp.tanh) == pytest.approx(1.5925374, abs=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_function_that_rounds(dtype):
    """Its steps are everywhere, and no halving of panels comes to an end; each value is off by up to half an eps."""
    close = float(jnp.finfo(dtype).eps)
    assert qrjax.gain(lambda x: jnp.tanh(x.astype(dtype))) == pytest.approx(qrjax.gain(jnp.tanh), rel=close)


def test_layers_keep_their_second_moment():
    """Ten layers of weights drawn with the gain, drawn by NumPy."""
    random = np.random.default_rng(0)
    target, width = 0.25, 600
    gain = qrjax.gain(jax.nn.silu, target=target)
    x = math.sqrt(target) * random.normal(size=(width, width))
    for _ in range(4):
        x = x / (1 + np.exp(-x)) @ random.normal(size=(width, width)) * gain / math.sqrt(width)
    assert np.mean(x**2) == pytest.approx(target, rel=0.1)


def test_numbers_of_all_kinds():
    for target in (2, 2.0, np.float32(2), np.array(2.0), jnp.float32(2)):
        assert qrjax.gain(jnp.tanh, target=target) == qrjax.gain(jnp.tanh, target=2.0)


@pytest.mark.parametrize(
    ("activation", "target", "error", "message"),
    [
        ("relu", 1.0, TypeError, "`activation` must be a function of an array, such as jax.nn.gelu, got 'relu'"),
        (None, 1.0, TypeError, "`activation` must be a function of an array"),
        (jax.nn.softmax, 1.0, ValueError, "softmax must act on each element by itself"),
        (jnp.sum, 1.0, ValueError, r"must return an array of its argument's shape, got \(\) for \(14,\)"),
        (jnp.log, 1.0, ValueError, "log gives NaN or infinities between -3 and 3.5"),
        (jnp.zeros_like, 1.0, ValueError, "has the second moment 0.0 for inputs of second moment 1.0"),
        (lambda x: jnp.exp(100 * x), 1.0, ValueError, "has the second moment inf"),
        (lambda x: jnp.sin(1e7 * x), 1.0, ValueError, "too rough for its moments to be found: it bends everywhere"),
        (jnp.tanh, 0.0, ValueError, "`target` is a second moment, so it must be positive and finite, got 0.0"),
        (jnp.tanh, "1", TypeError, "`target` must be a number, the second moment of layers' outputs, got '1'"),
        (jnp.tanh, np.ones(2), TypeError, "`target` must be a number"),
    ],
)
def test_bad_input(activation, target, error, message):
    with pytest.raises(error, match=message):
        qrjax.gain(activation, target=target)
