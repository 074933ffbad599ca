"""Points of the unit square and their elementary intervals."""

import itertools

import numpy as np
import pytest

import qrjax
from qrjax._plot._points import counts


def sobol(first, second, n):
    return np.stack([qrjax.sobol.points_range(dim, 0, n) for dim in (first, second)], axis=-1)


def test_points_lie_where_they_are():
    points = sobol(1, 2, 32)
    axes = qrjax.plot.points(points)
    np.testing.assert_array_equal(np.stack(axes.lines[0].get_data(), -1), points.astype(np.float64))
    assert axes.get_aspect() == 1
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    assert axes.get_title() == "32 points of the unit square"
    assert qrjax.plot.points(points[:1]).get_title() == "1 point of the unit square"


def test_labels():
    axes = qrjax.plot.points(sobol(20, 21, 8), labels=("dimension 20", "dimension 21"))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dimension 20", "dimension 21")


def test_the_grid_has_lines_between_intervals():
    lines = qrjax.plot.points(sobol(1, 2, 8), grid=(4, 2)).lines
    vertical = [line.get_xdata()[0] for line in lines if list(line.get_ydata()) == [0, 1]]
    horizontal = [line.get_ydata()[0] for line in lines if list(line.get_xdata()) == [0, 1]]
    assert vertical == [0.25, 0.5, 0.75]
    assert horizontal == [0.5]
    assert len(lines) == 5


@pytest.mark.parametrize("grid", [(16, 16), (1, 256), (256, 1), (32, 8), (2, 128)])
def test_a_net_has_one_point_in_each_interval(grid):
    title = qrjax.plot.points(sobol(1, 2, 256), grid=grid).get_title().replace("\n", " ")
    assert title == f"256 points: 1 in each of {grid[0]} x {grid[1]} elementary intervals"


def test_random_points_are_counted_as_they_fall():
    points = np.random.default_rng(0).random((100, 2))
    inside = [
        sum(1 for x, y in points if i <= 8 * x < i + 1 and j <= 4 * y < j + 1)
        for i, j in itertools.product(range(8), range(4))
    ]
    assert counts(points, (8, 4)).tolist() == inside
    title = qrjax.plot.points(points, grid=(8, 4)).get_title()
    assert title == f"100 points: {min(inside)} to {max(inside)} in each of 8 x 4 elementary intervals"


def test_the_far_corner_belongs_to_the_last_interval():
    assert counts(np.ones((3, 2)), (2, 4)).tolist() == [0] * 7 + [3]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": np.ones((3, 3))}, ValueError, r"`points` must have the shape \(n, 2\), n at least 1, got \(3, 3\)"),
        ({"points": np.ones((0, 2))}, ValueError, r"`points` must have the shape \(n, 2\), n at least 1, got \(0, 2\)"),
        ({"points": [[0.5, 1.5], [0, 0]]}, ValueError, r"`points` must lie in \[0, 1\], got 1 of 2 outside; scale"),
        ({"points": [[0.5, np.nan]]}, ValueError, r"`points` must lie in \[0, 1\], got 1 of 1 outside"),
        ({"points": "corner"}, TypeError, "`points` must be an array of real numbers, got 'corner'"),
        ({"grid": (3, 4)}, ValueError, r"`grid` must be powers of 2 from 1 to 256, got \(3, 4\); for example \(8, 8\)"),
        ({"grid": (512, 1)}, ValueError, "`grid` must be powers of 2 from 1 to 256"),
        ({"grid": (0, 1)}, ValueError, "`grid` must be powers of 2 from 1 to 256"),
        ({"grid": 8}, TypeError, r"`grid` must be two integers, columns and rows, got 8; for example \(8, 8\)"),
        ({"grid": (8, 8, 8)}, TypeError, "`grid` must be two integers"),
        ({"grid": (8.0, 8)}, TypeError, "`grid` must be two integers"),
        ({"labels": "xy"}, TypeError, "`labels` must be two strings, got 'xy'; for example"),
        ({"labels": ("x",)}, TypeError, "`labels` must be two strings"),
        ({"labels": (1, 2)}, TypeError, "`labels` must be two strings"),
        ({"labels": 7}, TypeError, "`labels` must be two strings"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        qrjax.plot.points(**({"points": [[0.5, 0.5]]} | arguments))
