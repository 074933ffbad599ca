"""The picture of what training changed."""

import math

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import qrjax
from qrjax._plot._changes import CELLS, averaged

matplotlib.use("agg")
import matplotlib.pyplot as plt

BEGIN = {"first": {"bias": jnp.zeros(6), "kernel": jnp.ones((4, 6))}, "second": {"kernel": jnp.ones((3, 3, 2, 5))}}


def found(threshold=0.0, **moved):
    now = jax.tree.map(lambda w: w, BEGIN)
    for name, by in moved.items():
        now[name]["kernel"] = now[name]["kernel"] + by
    return qrjax.changes(BEGIN, now, threshold=threshold)


def test_bars_are_shares_and_sizes():
    half = jnp.asarray(np.tile([0.5, 0.0], (4, 3)), jnp.float32)
    shares, sizes, heat = qrjax.plot.changes(found(first=half))
    assert [label.get_text() for label in shares.get_yticklabels()] == ["first/bias", "first/kernel", "second/kernel"]
    assert [round(bar.get_width()) for bar in shares.containers[0]] == [0, 50, 0]
    assert [round(bar.get_width()) for bar in shares.containers[1]] == [100, 50, 100]
    assert {text.get_text() for text in shares.get_legend().get_texts()} == {"changed", "sleeping"}
    (bar,) = sizes.containers[0]
    assert bar.get_x() + bar.get_width() == pytest.approx(0.5 / math.sqrt(2))
    assert [text.get_text() for text in sizes.texts] == [" no change", " no change"]
    assert heat.get_title() == "|Δ| of first/kernel, 4 x 6"
    assert "12 of 120 weights (10.0 %)" in shares.figure.get_suptitle()


def test_heat_map_has_a_column_for_each_output_and_leaves_sleepers_grey():
    by = jnp.zeros((3, 3, 2, 5)).at[2, 1, 0, 3].set(-0.25).at[0, 0, 0, 0].set(0.01)
    heat = qrjax.plot.changes(found(0.1, second=by), kernel="second/kernel")[2]
    cells = heat.images[0].get_array()
    assert cells.shape == (18, 5)
    assert np.argwhere(~cells.mask).tolist() == [[2 * (3 * 2 + 1), 3]]
    assert cells[14, 3] == 0.25
    sleeping = qrjax.plot.changes(found(0.1, second=by))[0].containers[1][0]
    assert matplotlib.colors.same_color(heat.get_facecolor(), sleeping.get_facecolor())
    assert [t.get_text() for t in heat.get_xticklabels()] == ["0", "1", "2", "3", "4"]


def test_the_kernel_that_moved_most_is_shown_by_default():
    assert "second/kernel" in qrjax.plot.changes(found(first=0.1, second=0.2))[2].get_title()
    assert "first/kernel" in qrjax.plot.changes(found(first=0.3, second=0.2))[2].get_title()


def test_nothing_changed_and_everything_broken_are_drawn_too():
    qrjax.plot.changes(found())[0].figure.canvas.draw()
    broken = qrjax.plot.changes(found(first=jnp.nan))
    broken[0].figure.canvas.draw()
    assert "NaN or infinite" in {text.get_text() for text in broken[0].get_legend().get_texts()}


@pytest.mark.parametrize("shape", [(3, 5), (CELLS, CELLS + 1), (1000, 7), (777, 2049)])
def test_averages_are_those_of_blocks(shape):
    values = np.random.default_rng(0).random(shape)
    cells = averaged(values)
    assert cells.shape == tuple(min(n, CELLS) for n in shape)
    edges = [[(i * n) // m for i in range(m)] + [n] for n, m in zip(shape, cells.shape, strict=True)]
    row, column = cells.shape[0] // 3, cells.shape[1] // 2
    block = values[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]]
    assert cells[row, column] == pytest.approx(block.mean())


def test_given_axes_are_used():
    _, panels = plt.subplots(1, 3)
    assert list(qrjax.plot.changes(found(first=1.0), ax=panels)) == list(panels)


def test_bad_input():
    with pytest.raises(TypeError, match=r"`found` must be what qrjax\.changes\(record, params\) returns, got 3"):
        qrjax.plot.changes(3)
    with pytest.raises(KeyError, match="no variable has the path 'third'"):
        qrjax.plot.changes(found(), kernel="third")
    with pytest.raises(ValueError, match=r"`kernel` 'first/bias' has the shape \(6,\); a heat map needs two axes"):
        qrjax.plot.changes(found(), kernel="first/bias")
    with pytest.raises(ValueError, match="no variable of two axes or more"):
        qrjax.plot.changes(qrjax.changes({"b": jnp.zeros(3)}, {"b": jnp.ones(3)}))
    with pytest.raises(TypeError, match="`ax` must be three of matplotlib's Axes"):
        qrjax.plot.changes(found(), ax=plt.subplots(1, 2)[1])
