"""Boxes of seeds by epoch."""

import numpy as np
import pytest

import qrjax
from qrjax._plot._boxes import BOXES, GROUPS

RANDOM = np.random.default_rng(0)


def results(names, epochs, seeds=20):
    return {f"init {n}": RANDOM.normal(90 + n, 1, (seeds, epochs)) for n in range(names)}


def corners(axes):
    """Left, right, lower and upper end of every box, name by name."""
    found = []
    for box in axes.patches:
        x, y = box.get_path().vertices.T
        found.append((x.min(), x.max(), y.min(), y.max()))
    return np.array(found)


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_boxes_reach_from_quartile_to_quartile_side_by_side():
    given = results(3, 4)
    axes = qrjax.plot.boxes(given)
    boxes = corners(axes).reshape(3, 4, 4)
    for table, own in zip(given.values(), boxes, strict=True):
        np.testing.assert_allclose(own[:, 2], np.percentile(table, 25, axis=0))
        np.testing.assert_allclose(own[:, 3], np.percentile(table, 75, axis=0))
    left, right = boxes[..., 0], boxes[..., 1]
    assert (right[:-1] < left[1:]).all()  # within a group
    assert (right[-1, :-1] < left[0, 1:]).all()  # from group to group
    np.testing.assert_allclose((left[0] + right[-1]) / 2, np.arange(4), atol=1e-12)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "3", "4"]


def test_medians_whiskers_and_outliers():
    seeds = np.array([[1.0, 2, 3, 4, 5, 6, 7, 30]]).T
    lines = [np.array(line.get_data()) for line in qrjax.plot.boxes({"a": seeds}).lines]
    low, high = np.percentile(seeds, [25, 75])
    ys = [line[1].tolist() for line in lines]
    assert [4.5, 4.5] in ys  # the median
    assert [low, 1.0] in ys
    assert [high, 7.0] in ys  # the last seed within 1.5 times the height
    assert [30.0] in ys


@pytest.mark.few("1-1", "1-6", "2-3", "10-4", "13-2", "13-5", "100-1", "100-6")
@pytest.mark.parametrize("names", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("epochs", [1, 2, 10, 13, 100])
def test_as_many_epochs_as_are_legible_the_first_and_the_last_among_them(names, epochs):
    axes = qrjax.plot.boxes(results(names, epochs, seeds=3))
    shown = [int(t.get_text()) for t in axes.get_xticklabels()]
    assert len(axes.patches) == names * len(shown)
    assert len(shown) == min(epochs, GROUPS, BOXES // names)
    assert (shown[0], shown[-1]) == (1, epochs)
    assert len(set(np.diff(shown).tolist())) <= 2
    after = "each epoch" if len(shown) == epochs else f"{len(shown)} of {epochs} epochs"
    assert axes.get_title() == f"Quartiles of 3 seeds after {after}"


def test_chosen_epochs():
    given = results(2, 10)
    axes = qrjax.plot.boxes(given, epochs=[10, 5])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["5", "10"]
    np.testing.assert_allclose(corners(axes)[0, 2], np.percentile(given["init 0"][:, 4], 25))
    assert len(qrjax.plot.boxes(given, epochs=range(1, 11)).patches) == 20


def test_boxes_differ_in_color_and_hatch_and_the_legend_shows_both():
    axes = qrjax.plot.boxes(results(6, 2))
    handles = axes.get_legend().get_patches()
    assert len({patch.get_edgecolor() for patch in handles}) == len({patch.get_hatch() for patch in handles}) == 6
    for name, handle in enumerate(handles):
        box = axes.patches[2 * name]
        assert (box.get_edgecolor(), box.get_hatch()) == (handle.get_edgecolor(), handle.get_hatch())
    assert words(axes) == [f"init {n}" for n in range(6)]


def test_diverged_seeds_are_left_out_and_counted():
    seeds = RANDOM.normal(size=(20, 3))
    broken = seeds.copy()
    broken[4, 1:], broken[9, 2] = np.nan, np.inf
    axes = qrjax.plot.boxes({"some": broken, "none": seeds})
    assert words(axes) == ["some (2 of 20 seeds diverged)", "none"]
    np.testing.assert_allclose(corners(axes)[1, 2], np.percentile(np.delete(seeds[:, 1], 4), 25))
    np.testing.assert_allclose(corners(axes)[2, 2], np.percentile(np.delete(seeds[:, 2], [4, 9]), 25))


def test_all_seeds_diverged():
    axes = qrjax.plot.boxes({"a": np.full((3, 2), np.nan), "b": np.ones((3, 2))})
    assert words(axes)[0] == "a (3 of 3 seeds diverged)"
    axes.figure.canvas.draw()


@pytest.mark.few("6")
@pytest.mark.parametrize("names", [2, 6])
def test_the_legend_covers_no_box(names):
    axes = qrjax.plot.boxes(results(names, 10))
    axes.figure.canvas.draw()
    lowest = min(line.get_ydata().min() for line in axes.lines if len(line.get_ydata()) and line.get_xdata()[0] % 0.5)
    assert axes.get_legend().get_window_extent().y1 < axes.transData.transform((0, lowest))[1]


def test_seeds_are_counted():
    tables = {"a": np.ones((3, 2)), "b": np.ones((5, 2))}
    assert qrjax.plot.boxes(tables).get_title() == "Quartiles of 3 to 5 seeds after each epoch"
    assert qrjax.plot.boxes({"a": np.ones((1, 2))}).get_title() == "Quartiles of 1 seed after each epoch"


def test_bad_input():
    with pytest.raises(TypeError, match=r"`results` must map names to arrays, got \[1\]"):
        qrjax.plot.boxes([1])
    with pytest.raises(ValueError, match="`results` is empty; pass at least one name"):
        qrjax.plot.boxes({})
    with pytest.raises(ValueError, match=r"`results`\['a'\] must have the shape \(seeds, epochs\), .* got \(3,\)"):
        qrjax.plot.boxes({"a": np.ones(3)})
    with pytest.raises(ValueError, match="`results` must all have the same number of epochs, got 2 in 'a', 3 in 'b'"):
        qrjax.plot.boxes({"a": np.ones((3, 2)), "b": np.ones((3, 3))})
    with pytest.raises(TypeError, match=r"`epochs` must be integers, got \[1.5\]; for example \[1, 5, 10\]"):
        qrjax.plot.boxes({"a": np.ones((3, 2))}, epochs=[1.5])
    with pytest.raises(TypeError, match="`epochs` must be integers, got 3"):
        qrjax.plot.boxes({"a": np.ones((3, 2))}, epochs=3)
    with pytest.raises(ValueError, match="`epochs` is empty; None chooses"):
        qrjax.plot.boxes({"a": np.ones((3, 2))}, epochs=[])
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"`epochs` must be from 1 to 2, the columns of `results`, got {wrong}"):
            qrjax.plot.boxes({"a": np.ones((3, 2))}, epochs=[1, wrong])
