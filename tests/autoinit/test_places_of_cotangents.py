"""Predicted gradients through convolutions, masks and sums of many arrays, beside closed forms and real draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from pairs import pair

import qrjax
from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._moments import possible

IMAGES = jax.random.normal(jax.random.key(0), (4, 4, 4, 32))
LAYERS = 4


def convolved(x, kernel, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def chain(p, x):
    for i in range(LAYERS):
        x = convolved(x, p[f"w{i}"])
    return x


def test_derivatives_are_stronger_inside_an_image_than_by_its_border():
    module = pair(chain, **{f"w{i}": (3, 3, 32, 32) for i in range(LAYERS)})
    rows = qrjax.analyze(module, IMAGES, gradients=True).weights
    # An output's place is seen through the taps that lie in the image: of four places two, three, three and two.
    taps = np.abs(np.subtract.outer(range(4), range(4))) <= 1
    places = np.ones(4)
    for row, after in zip(rows[-2::-1], rows[:0:-1], strict=True):
        before = places.mean()
        places = taps @ places
        expected = after.gradient * 32 * after.gain**2 * (places.mean() / before) ** 2
        assert row.gradient == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_channels_filtered_by_themselves_have_derivatives_of_their_own():
    def apply(p, x):
        return convolved(convolved(convolved(x, p["a"]), p["b"]), p["c"], groups=64)

    module = pair(apply, a=(1, 1, 32, 32), b=(1, 1, 32, 64), c=(3, 3, 1, 64))
    # Kernels that sum to nothing over their outputs would leave nothing of a derivative that these share.
    variables = qrjax.autoinit(module, IMAGES)
    for row in qrjax.measure(module, variables, IMAGES, gradients=True).weights:
        assert abs(row.gradient_octaves) < 0.3


@pytest.mark.slow
def test_sums_of_kernels_over_outputs_that_share_a_derivative():
    def apply(p, x):
        return convolved(jnp.tanh(convolved(x, p["a"])), p["b"]).sum(3)

    module = pair(apply, a=(3, 3, 32, 64), b=(3, 3, 64, 128))
    row = qrjax.measure(module, qrjax.autoinit(module, IMAGES), IMAGES, gradients=True).weights[0]
    independent = qrjax.analyze(module, IMAGES, gradients=True, weights="module").weights[0]
    assert row.measured_gradient < 0.1 * independent.gradient
    assert row.gradient < 0.1 * independent.gradient


def test_a_mask_before_a_swish_leaves_its_two_terms_together():
    def apply(p, x):
        gate = jnp.where(x @ p["gate"] > 0.5, 1.0, 0.0)
        return jax.nn.swish(x @ p["w"]) * gate

    x = IMAGES.reshape(64, 32)
    rows = {row.weight: row for row in qrjax.analyze(pair(apply, gate=(32, 64), w=(32, 64)), x, gradients=True).weights}
    z = np.random.default_rng(0).normal(size=1_000_000)
    slope = 1 / (1 + np.exp(-z)) * (1 + z / (1 + np.exp(z)))
    assert rows["w"].gradient == pytest.approx((slope**2).mean() * (z > 0.5).mean(), rel=0.02)


@pytest.mark.parametrize(("function", "factor"), [(lambda y: y, 2), (lambda y: y.mean(1), (2 / 12) ** 2)])
def test_an_array_and_the_same_in_reverse(function, factor):
    """Of independent derivatives at all places two add up, and of one that is the same at all twice that one."""
    x = jax.random.normal(jax.random.key(0), (8, 12, 32))
    module = pair(lambda p, x: function((y := x @ p["w"]) + y[:, ::-1]) @ p["v"], w=(32, 64), v=(64, 16))
    first, last = qrjax.analyze(module, x, gradients=True).weights
    assert first.gradient == pytest.approx(factor * 16 * last.gain**2, rel=1e-3)


def test_sums_of_many_terms_know_what_they_are_sums_of():
    parts = [Cotangent.noise((8, 16), 1.0).times(0.9**i) for i in range(9)]
    total = functools.reduce(Cotangent.plus, parts)
    energy = sum(0.9 ** (2 * i) for i in range(9))
    assert total.second_moment == pytest.approx(energy)
    assert total.plus(total.times(0.5)).second_moment == pytest.approx(1.5**2 * energy)
    assert total.settled.plus(parts[0]).second_moment == pytest.approx(energy + 2 + 1)


def test_what_a_mean_takes_away_leaves_sums_that_are_zero():
    # Places of one example have much in common, of two examples nothing: sums over both are zero once a mean is away.
    table = np.array([[1.0, 0.6], [0.0, 0.0]])
    taken = table - (table[0, 0] + 23 * table[0, 1]) / (64 * 24)
    assert possible(taken, (64, 24)) == pytest.approx(taken, abs=1e-12)


def test_sums_of_the_same_arrays_are_no_sums_of_others():
    first, second = (Cotangent.noise((8, 16), 1.0) for _ in range(2))
    total = first.plus(second.times(0.5)).settled
    assert total.second_moment == pytest.approx(1.25)
    assert total.plus(first).second_moment == pytest.approx(2**2 + 0.5**2)
