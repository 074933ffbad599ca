"""The picture of a run: each layer's distance from its start against the steps."""

import math

import matplotlib
import numpy as np
import pytest

import qrjax
from qrjax._plot._movement import TOTAL, layers

matplotlib.use("agg")

START = {
    "first": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)},
    "blocks": [{"kernel": np.ones((2, 2), np.float32)} for _ in range(9)],
    "head": np.ones(2, np.float32),
}


def changed(**by):
    now = {name: part for name, part in START.items() if name not in by}
    now |= {
        name: {k: w + np.float32(b) for (k, w), b in zip(START[name].items(), move, strict=True)}
        for name, move in by.items()
    }
    return qrjax.changes(START, now)


def test_a_layer_is_its_variables_together_weight_by_weight():
    found = layers(changed(first=(0.5, 2.0)))
    assert list(found) == [*(f"blocks/{i}" for i in range(9)), "first", "head", TOTAL]
    squares = 12 * 0.25 + 3 * 4.0
    assert found["first"] == pytest.approx(math.sqrt(squares / 15))
    assert found[TOTAL] == pytest.approx(math.sqrt(squares / (15 + 36 + 2)))
    assert found["blocks/3"] == found["head"] == 0


def test_lines_are_in_the_order_of_steps_and_begin_where_a_layer_moved():
    axes = qrjax.plot.movement({20: changed(first=(0.5, 0.5)), 3: changed(), 10: changed(first=(0.25, 0.25))})
    lines = {line.get_label(): line for line in axes.lines}
    assert lines[TOTAL].get_xdata().tolist() == [3, 10, 20]
    first = next(line for line in axes.lines if np.nanmax(line.get_ydata(), initial=0) == 0.5)
    np.testing.assert_array_equal(first.get_ydata(), [np.nan, 0.25, 0.5])
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 12
    assert len(axes.get_legend().get_texts()) == 4  # three of the eleven layers, and all weights


def test_nothing_moved():
    axes = qrjax.plot.movement({1: changed()})
    axes.figure.canvas.draw()
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(
    ("found", "kind", "message"),
    [
        ({}, ValueError, "`found` must have one step or more, got none"),
        ([1], TypeError, r"`found` must map steps to what qrjax\.changes\(record, params\) returns, got \[1\]"),
        ({1: 2}, TypeError, "`found` must map steps to what"),
        ({"last": changed()}, TypeError, "`found` must have numbers for its steps, got 'last'"),
        (
            {1: changed(), 2: qrjax.changes({"a": np.ones(2)}, {"a": np.ones(2)})},
            ValueError,
            "`found` must have the same variables at every step",
        ),
    ],
)
def test_refused(found, kind, message):
    with pytest.raises(kind, match=message):
        qrjax.plot.movement(found)
