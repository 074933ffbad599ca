"""Weights as an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._plot._weights import CELLS, COLORS


def lightness(color):
    """CIE lightness of sRGB, 0 to 100."""
    linear = np.where(np.array(color) <= 0.04045, np.array(color) / 12.92, ((np.array(color) + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def test_a_column_is_an_output_and_a_row_one_of_its_inputs():
    kernel = np.arange(3 * 3 * 2 * 5.0).reshape(3, 3, 2, 5) - 7
    axes = qrjax.plot.weights(kernel)
    shown = axes.images[0].get_array()
    assert shown.shape == (18, 5)
    assert shown[2 * (3 * 2 + 1) + 1, 3] == kernel[2, 1, 1, 3]
    assert axes.get_title() == "Weights of a 3 x 3 x 2 x 5 kernel"


def test_colors_are_symmetric_about_zero_and_labelled():
    axes = qrjax.plot.weights(np.array([[0.5, -2.0], [1.0, 0.0]]))
    assert axes.images[0].get_clim() == (-2.0, 2.0)
    assert [other.get_ylabel() for other in axes.figure.axes] == ["input of an output", "weight"]


def test_grey_shows_the_sign_as_well():
    colors = qrjax.plot.weights(np.ones((2, 2))).images[0].cmap(np.linspace(0, 1, 101))[:, :3]
    steps = np.diff([lightness(color) for color in colors])
    assert steps.min() > 0
    assert np.ptp(colors[50]) < 0.01  # zero has no hue
    assert len(COLORS) % 2 == 1


@pytest.mark.parametrize(
    ("shape", "title"),
    [
        ((CELLS, CELLS), "Weights of a 128 x 128 kernel"),
        ((256, 128), "Weights of a 256 x 128 kernel: first 128 of 256 inputs"),
        ((64, 1000), "Weights of a 64 x 1000 kernel: first 128 of 1,000 outputs"),
        ((3, 3, 64, 129), "Weights of a 3 x 3 x 64 x 129 kernel: first 128 of 576 inputs and first 128 of 129 outputs"),
    ],
)
def test_of_big_kernels_the_first_weights_are_shown_and_the_title_says_so(shape, title):
    kernel = np.random.default_rng(0).normal(size=shape)
    axes = qrjax.plot.weights(kernel)
    assert axes.get_title().replace("\n", " ") == title
    np.testing.assert_array_equal(axes.images[0].get_array(), kernel.reshape(-1, shape[-1])[:CELLS, :CELLS])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_of_an_initializer(dtype):
    kernel = qrjax.he_normal_qr()(jax.random.key(0), (16, 8), jnp.dtype(dtype))
    shown = qrjax.plot.weights(kernel).images[0].get_array()
    np.testing.assert_array_equal(shown, np.asarray(kernel, np.float64))


def test_constant_zeros_are_an_image_too():
    axes = qrjax.plot.weights(np.zeros((2, 3)))
    axes.figure.canvas.draw()
    assert axes.images[0].get_clim() == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(3), ValueError, r"`weights` must have two axes or more, got the shape \(3,\)"),
        (np.ones((0, 3)), ValueError, r"`weights` holds no weights, got the shape \(0, 3\); give every axis a length"),
        ([[1.0, np.nan], [np.inf, 0.0]], ValueError, r"`weights` must be finite, got 2 NaN or infinite of 4; numpy"),
        (np.ones((2, 2), complex), TypeError, r"`weights` must be an array of real numbers, got an array of"),
        ("kernel", TypeError, r"`weights` must be an array of real numbers, got 'kernel'"),
        ([[1.0], [1.0, 2.0]], TypeError, r"`weights` must be an array of real numbers, got a list of 2 items"),
        (None, TypeError, r"`weights` must be an array of real numbers, got None"),
        (jax.random.key(0), TypeError, r"`weights` must be an array of real numbers, got a JAX key"),
    ],
)
def test_bad_input(weights, error, message):
    with pytest.raises(error, match=message):
        qrjax.plot.weights(weights)
