"""Curves of seeds: means, bands, which axis, and who diverged."""

import numpy as np
import pytest

import qrjax
from qrjax._demo._picture import loss_curves
from qrjax._demo._training import History

RANDOM = np.random.default_rng(0)
FAST = np.exp(-np.linspace(0, 5, 40)) * RANDOM.uniform(0.8, 1.2, (20, 40))
SLOW = np.exp(-np.linspace(0, 1, 40)) * RANDOM.uniform(0.8, 1.2, (12, 40))


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def edges(band):
    """Lower and upper ends of a band, by its outline: once along each."""
    outline = band.get_paths()[0].vertices
    x = np.unique(outline[:, 0])
    rows = [outline[outline[:, 0] == at, 1] for at in x]
    return np.array([row.min() for row in rows]), np.array([row.max() for row in rows])


def test_lines_are_means_and_bands_ranges():
    axes = qrjax.plot.losses({"fast": FAST, "slow": SLOW})
    for line, band, seeds in zip(axes.lines, axes.collections, (FAST, SLOW), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 41))
        np.testing.assert_allclose(line.get_ydata(), seeds.mean(0))
        low, high = edges(band)
        np.testing.assert_allclose(low, seeds.min(0))
        np.testing.assert_allclose(high, seeds.max(0))
    assert words(axes) == ["fast", "slow"]
    assert axes.get_title() == "Mean and range of 12 to 20 seeds"


def test_bands_of_deviations():
    axes = qrjax.plot.losses({"slow": SLOW}, band="deviation")
    low, high = edges(axes.collections[0])
    np.testing.assert_allclose(low, SLOW.mean(0) - SLOW.std(0, ddof=1))
    np.testing.assert_allclose(high, SLOW.mean(0) + SLOW.std(0, ddof=1))
    assert axes.get_title() == "Mean and standard deviation of 12 seeds"


def test_a_deviation_that_reaches_zero_ends_at_the_smallest_seed_where_the_axis_is_logarithmic():
    seeds = np.array([[1.0, 0.01], [1.0, 0.02], [1.1, 9.0]])
    low = edges(qrjax.plot.losses({"a": seeds}, band="deviation").collections[0])[0]
    assert low == pytest.approx([seeds[:, 0].mean() - seeds[:, 0].std(ddof=1), 0.01])
    low = edges(qrjax.plot.losses({"a": seeds}, band="deviation", yscale="linear").collections[0])[0]
    assert low[1] < 0


@pytest.mark.parametrize(
    ("factor", "shift", "scale"), [(1, 0, "log"), (-1, 0, "linear"), (1, -0.01, "linear"), (1, 0.5, "linear")]
)
def test_the_axis_is_logarithmic_for_positive_values_of_many_sizes(factor, shift, scale):
    assert qrjax.plot.losses({"a": factor * FAST + shift}).get_yscale() == scale
    assert qrjax.plot.losses({"a": SLOW}, yscale="log").get_yscale() == "log"
    assert qrjax.plot.losses({"a": FAST}, yscale="linear").get_yscale() == "linear"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_diverged_seeds_are_left_out_and_counted(value):
    seeds = FAST.copy()
    seeds[[3, 7], 30:] = value
    axes = qrjax.plot.losses({"some": seeds, "none": FAST})
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.delete(FAST, [3, 7], 0).mean(0))
    np.testing.assert_allclose(edges(axes.collections[0])[1], np.delete(FAST, [3, 7], 0).max(0))
    assert words(axes) == ["some (2 of 20 seeds diverged)", "none"]
    assert axes.get_yscale() == "log"


def test_one_missing_number_does_not_lose_a_seed():
    seeds = np.linspace(3.0, 1.0, 8) + np.arange(5)[:, None]
    broken = np.where((np.arange(5) == 4)[:, None] & (np.arange(8) == 2), np.nan, seeds)
    axes = qrjax.plot.losses({"a": broken})
    assert words(axes) == ["a (1 of 5 seeds has gaps)"]
    mean = axes.lines[0].get_ydata()
    assert np.delete(mean, 2) == pytest.approx(np.delete(seeds.mean(0), 2))
    assert mean[2] == pytest.approx(seeds[:4, 2].mean())


def test_a_diverged_seed_is_shown_as_far_as_it_comes():
    seeds = np.linspace(3.0, 1.0, 8) + np.arange(3)[:, None] / 10
    seeds[1, 4:] = [1e6, 1e30, np.inf, np.nan]
    axes = qrjax.plot.losses({"a": seeds}, yscale="linear")
    (line,) = (line for line in axes.lines if line.get_marker() == "x")
    assert np.isnan(line.get_ydata()[6:]).all()
    assert list(line.get_markevery()) == [5]  # at its last number
    assert axes.get_ylim()[1] < 5  # the others decide the axis


def test_all_seeds_diverged():
    axes = qrjax.plot.losses({"a": np.full((3, 5), np.nan)})
    assert words(axes) == ["a (3 of 3 seeds diverged)"]
    assert not axes.collections
    axes.figure.canvas.draw()


def test_one_seed_has_no_band():
    axes = qrjax.plot.losses({"a": FAST[:1]}, band="deviation")
    assert not axes.collections
    assert axes.get_title() == "One seed"


def test_x_and_labels():
    axes = qrjax.plot.losses({"a": FAST}, x=np.arange(40) / 4, xlabel="passes", ylabel="loss, nats")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("passes", "loss, nats")
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(40) / 4)


def test_steps_are_whole_on_the_axis():
    axes = qrjax.plot.losses({"a": SLOW[:, :3]})
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_lines_differ_in_color_and_dash_and_where_few_steps_or_many_names_are_in_marker():
    few = qrjax.plot.losses(dict.fromkeys("abcde", FAST)).lines
    assert len({line.get_color() for line in few}) == len({line.get_marker() for line in few}) == 5
    assert len({str(line._unscaled_dash_pattern) for line in few}) == 5
    assert {line.get_marker() for line in qrjax.plot.losses(dict.fromkeys("abc", FAST)).lines} == {"None"}
    short = qrjax.plot.losses(dict.fromkeys("abc", FAST[:, :10])).lines
    assert len({line.get_marker() for line in short} - {"None"}) == 3


def test_bad_input():
    with pytest.raises(TypeError, match=r'`curves` must map names to arrays, got an array of .*"he_normal_qr\(\)": an'):
        qrjax.plot.losses(FAST)
    with pytest.raises(ValueError, match="`curves` is empty; pass at least one name"):
        qrjax.plot.losses({})
    for wrong in (FAST[0], FAST[None], FAST[:0], FAST[:, :0]):
        with pytest.raises(ValueError, match=r"`curves`\['a'\] must have the shape \(seeds, steps\).*values\[None\]"):
            qrjax.plot.losses({"a": wrong})
    with pytest.raises(ValueError, match="`curves` must all have the same number of steps, got 40 in 'a', 30 in 'b'"):
        qrjax.plot.losses({"a": FAST, "b": FAST[:, :30]})
    with pytest.raises(TypeError, match=r"`curves`\['a'\] must be an array of real numbers, got"):
        qrjax.plot.losses({"a": [[1.0], [1.0, 2.0]]})
    with pytest.raises(ValueError, match=r"`x` must have the shape \(40,\), a number for every step, got \(3,\)"):
        qrjax.plot.losses({"a": FAST}, x=[1, 2, 3])
    for x in (np.zeros(40), np.full(40, np.nan), -np.arange(40)):
        with pytest.raises(ValueError, match=r"`x` must be finite and increase, got .*; sort the steps first"):
            qrjax.plot.losses({"a": FAST}, x=x)
    with pytest.raises(TypeError, match="`x` must be an array of real numbers, got 'epochs'"):
        qrjax.plot.losses({"a": FAST}, x="epochs")
    with pytest.raises(ValueError, match="`band` must be one of 'range', 'deviation', got 'quartiles'"):
        qrjax.plot.losses({"a": FAST}, band="quartiles")
    with pytest.raises(ValueError, match="`yscale` must be one of None, 'linear', 'log', got 'symlog'"):
        qrjax.plot.losses({"a": FAST}, yscale="symlog")


def test_the_demos_picture_averages_each_epoch_in_three_runs_of_minibatches():
    losses = RANDOM.uniform(1, 2, (4, 2, 45))
    names = ("Flax default", "he_normal_qr()", "he_normal_hash()")
    figure = loss_curves([History(name, losses + n, losses[..., 0], 1.0) for n, name in enumerate(names)])
    (axes,) = figure.axes
    runs = losses.reshape(4, 2, 3, 15).mean(-1).reshape(4, 6)
    for n, line in enumerate(axes.lines):
        np.testing.assert_allclose(line.get_xdata(), [1 / 6, 3 / 6, 5 / 6, 7 / 6, 9 / 6, 11 / 6])
        np.testing.assert_allclose(line.get_ydata(), runs.mean(0) + n)
        low, high = edges(axes.collections[n])
        np.testing.assert_allclose((low, high), (runs.min(0) + n, runs.max(0) + n))
    assert words(axes) == list(names)
    assert (axes.get_yscale(), axes.get_xlim()) == ("log", (0, 2))
    assert axes.get_title(loc="left") == "Training a small CNN on handwritten digits: mean and range of 4 seeds"
    assert axes.get_title() == ""
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "passes over the training images (epochs)",
        "training loss (cross-entropy, nats per image)",
    )


def test_the_demos_picture_of_one_seed():
    losses = RANDOM.uniform(1, 2, (1, 1, 45))
    figure = loss_curves([History("a", losses, losses[..., 0], 1.0)])
    assert figure.axes[0].get_title(loc="left").endswith("one seed")
