"""Singular values side by side."""

import jax
import numpy as np
import pytest

import qrjax
from qrjax._plot._spectrum import ROUNDING

RANDOM = np.random.default_rng(0)


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_lines_are_singular_values_over_their_root_mean_square():
    kernels = {"dense": RANDOM.normal(size=(20, 12)), "convolution": RANDOM.normal(size=(3, 3, 2, 40))}
    axes = qrjax.plot.spectrum(kernels)
    for line, (name, kernel) in zip(axes.lines, kernels.items(), strict=True):
        matrix = kernel.reshape(-1, kernel.shape[-1])
        values = np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix if name == "dense" else matrix @ matrix.T))[::-1]
        np.testing.assert_allclose(line.get_ydata(), values / np.sqrt((values**2).mean()))
        np.testing.assert_allclose(line.get_xdata(), [(i + 0.5) / len(values) for i in range(len(values))])
    assert axes.get_yscale() == "log"
    assert axes.get_xlim() == (0, 1)


def test_the_legend_gives_the_effective_rank():
    kernels = {"random": RANDOM.normal(size=(30, 20)), "rank one": np.ones((8, 8))}
    rank = qrjax.effective_rank(kernels["random"])
    assert words(qrjax.plot.spectrum(kernels)) == [
        f"random: effective rank {rank:.1f} of 20",
        "rank one: effective rank 1.0 of 8",
    ]


def test_neither_scale_nor_size_matter():
    kernel = qrjax.orthogonal_qr(scale=5.0)(jax.random.key(0), (40, 24))
    np.testing.assert_allclose(qrjax.plot.spectrum({"orthogonal": kernel}).lines[0].get_ydata(), 1, rtol=1e-5)


def test_rounding_is_left_out():
    axes = qrjax.plot.spectrum({"a": np.diag([1.0, 1e-3, ROUNDING / 10, 0.0])})
    values = axes.lines[0].get_ydata()
    assert values / values[0] == pytest.approx([1, 1e-3])
    assert words(axes) == ["a: effective rank 1.0 of 4"]
    axes.figure.canvas.draw()


def test_a_collapsed_layout_is_told_from_one_that_is_not():
    with pytest.warns(qrjax.RankCollapseWarning, match="effective rank of a few"):
        sequence = qrjax.glorot_uniform_qr(layout="sequence")(jax.random.key(0), (64, 64))
    outputs = qrjax.glorot_uniform_qr()(jax.random.key(0), (64, 64))
    low, high = (line.get_ydata() for line in qrjax.plot.spectrum({"a": sequence, "b": outputs}).lines)
    assert low[16] < 0.2 < 1 < high[16]


def test_lines_differ_in_color_line_and_marker():
    lines = qrjax.plot.spectrum({name: RANDOM.normal(size=(9, 9)) for name in "abcdefg"}).lines
    for look in (lambda x: x.get_color(), lambda x: str(x._unscaled_dash_pattern), lambda x: x.get_marker()):
        assert len({look(line) for line in lines}) == 7


def test_more_names_than_colors_still_differ():
    lines = qrjax.plot.spectrum({str(n): np.eye(3) for n in range(20)}).lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 20


@pytest.mark.parametrize(
    ("matrices", "error", "message"),
    [
        ({}, ValueError, '`matrices` is empty; pass at least one name, for example {"kernel": w}'),
        (np.eye(3), TypeError, r"`matrices` must map names to arrays, got an array of .*; for example"),
        ({1: np.eye(3)}, TypeError, "`matrices` must map names to arrays, got a dict with the keys 1; for"),
        ({"a": np.eye(3), "b": np.ones(3)}, ValueError, r"`matrices`\['b'\] must have two axes or more, got .*\(3,\)"),
        ({"a": np.ones((3, 0))}, ValueError, r"`matrices`\['a'\] holds no weights, got the shape \(3, 0\)"),
        ({"a": np.full((2, 2), np.nan)}, ValueError, r"`matrices`\['a'\] must be finite, got 4 NaN or infinite of 4"),
        ({"a": np.zeros((2, 2))}, ValueError, r"`matrices`\['a'\] holds only zeros, .*; leave it out"),
        ({"a": "b"}, TypeError, r"`matrices`\['a'\] must be an array of real numbers, got 'b'"),
    ],
)
def test_bad_input(matrices, error, message):
    with pytest.raises(error, match=message):
        qrjax.plot.spectrum(matrices)
