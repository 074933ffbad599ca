"""The picture of the signal: what is on it, where, and what it refuses."""

import dataclasses
import doctest
import math
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.lines import Line2D

import qrjax
from qrjax._plot._modules import groups, labels, legible
from qrjax._plot._panel import OUTSIDE_ID

matplotlib.use("agg")
import matplotlib.pyplot as plt


def row(path, variance=1.0, mean=0.0, *, gain=0.1, measured=None, op="dot_general"):
    more = {} if measured is None else {"measured_mean": measured[0], "measured_variance": measured[1]}
    return qrjax.Row(path, op, (8, 64), 64.0, gain, 0.0, 1.0, mean, variance, {}, **more)


def report(*rows, target=1.0):
    return qrjax.Report(rows, target=target)


def stack(*variances, **options):
    return report(*[row(f"Dense_{i}", v, **options) for i, v in enumerate(variances)])


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn(axes, color):
    """All points of a color."""
    lines = [line for line in axes.lines if line.get_color() == color and line.get_linestyle() == "None"]
    return sorted((float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True))


def test_predictions_alone():
    variances, means = qrjax.plot.signal(stack(1.0, 0.5, 0.25))
    assert (variances.get_yscale(), means.get_yscale()) == ("log", "linear")
    assert "variance" in variances.get_ylabel()
    assert "mean" in means.get_ylabel()
    assert "execution" in means.get_xlabel()
    assert words(variances) == ["predicted", "target of weights: E[y²] = 1"]
    assert drawn(variances, "#000000") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert "0.25 predicted" in variances.figure.get_suptitle()


def test_measured_and_default_are_drawn_in_their_own_looks():
    found = report(row("a", measured=(0.1, 1.1)), row("b", measured=(0.2, 0.9)), row("", gain=None), target=2.0)
    variances, means = qrjax.plot.signal(found, default=report(row("a", 0.5), row("b", 1e-6)))
    assert words(variances)[:4] == [
        "predicted: weights, modules", "measured on a batch: weights, modules",
        "default initialization, predicted: weights, modules", "target of weights: E[y²] = 2",
    ]  # fmt: skip
    assert drawn(variances, "#0072B2") == [(0, 1.1), (1, 0.9)]
    assert drawn(means, "#0072B2") == [(0, 0.1), (1, 0.2)]
    assert drawn(variances, "#D55E00") == [(0, 0.5), (1, 1e-6)]
    marks = [line.get_marker() for line in variances.get_legend().findobj(Line2D)[:-1]]
    assert marks == [".", "_", "o", "s", "v", "^"]  # of weights and of modules, the dash as well
    assert [2.0, 2.0] in [list(line.get_ydata()) for line in variances.lines]
    low, high = variances.get_ylim()
    assert low < 1e-6
    assert high > 2


def test_a_measured_default_is_shown_measured():
    variances = qrjax.plot.signal(stack(1.0), default=stack(0.5, measured=(0.0, 0.25)))[0]
    assert "default initialization, measured" in words(variances)
    assert drawn(variances, "#D55E00") == [(0, 0.25)]


def test_default_is_matched_by_path_and_repetition():
    found = report(row("a"), row("b"), row("a"))
    default = report(row("extra", 0.1), row("a", 0.2), row("b", 0.3), row("a", 0.4))
    assert drawn(qrjax.plot.signal(found, default=default)[0], "#D55E00") == [(0, 0.2), (1, 0.3), (2, 0.4)]


def test_what_the_axis_cannot_show_is_marked_on_its_edge():
    variances, means = qrjax.plot.signal(stack(1.0, 0.0, math.nan, math.inf, 1e-60, 1e60))
    low, high = variances.get_ylim()
    edge = {}
    for line in variances.lines:
        if line.get_gid() == OUTSIDE_ID:
            edge |= {float(x): (line.get_marker(), float(y)) for x, y in zip(*line.get_data(), strict=True)}
    assert edge == {1: ("v", low), 2: ("x", low), 3: ("^", high), 4: ("v", low), 5: ("^", high)}
    assert {"on the edge: zero, or below", "on the edge: above", "on the edge: not a number"} <= set(words(variances))
    assert 0 < low < high < math.inf
    means.figure.canvas.draw()


def test_large_means_get_a_logarithmic_axis():
    means = qrjax.plot.signal(report(row("a", mean=-1e6), row("b", mean=3.0)))[1]
    assert means.get_yscale() == "symlog"
    assert means.get_ylim()[0] < -1e6
    means.figure.canvas.draw()


def with_gradients(found, norms, half=""):
    rows = [dataclasses.replace(r, **{f"{half}gradient_norm": n, f"{half}gradient": n}) for r, n in zip(found, norms)]  # noqa: B905
    return qrjax.Report(rows)


def test_gradients_take_the_place_of_means():
    predicted = with_gradients(stack(1.0, 1.0, 1.0, measured=(0.0, 1.0)), [4.0, 2.0, 1.0])
    found = with_gradients(predicted, [3.0, None, 0.0], "measured_")
    variances, gradients = qrjax.plot.signal(found, default=stack(1.0, 0.5, 0.25))
    assert (variances.get_yscale(), gradients.get_yscale()) == ("log", "log")
    assert "squared gradient" in gradients.get_ylabel()
    low, high = gradients.get_ylim()
    assert low < 1.0 < 16.0 < high
    lines = [[*line.get_ydata()] for line in gradients.lines if line.get_linestyle() == "-"]
    assert [16.0, 4.0, 1.0] in lines
    # A gradient of zero is on the edge; one that nobody measured is not there, and the default has none.
    assert drawn(gradients, "#0072B2") == [(0, 9.0), (2, low)]
    assert drawn(gradients, "#D55E00") == []
    gradients.figure.canvas.draw()


def test_gradients_of_the_default():
    found = with_gradients(stack(1.0, 1.0), [1.0, 1.0])
    gradients = qrjax.plot.signal(found, default=with_gradients(stack(0.5, 0.5), [1e-3, 1.0]))[1]
    assert drawn(gradients, "#D55E00") == [(0, pytest.approx(1e-6)), (1, 1.0)]


def test_given_axes_are_honoured():
    _, ax = plt.subplots()
    assert qrjax.plot.signal(stack(1.0, 2.0), ax=ax) is ax
    assert ax.get_yscale() == "log"
    figure, pair = plt.subplots(1, 2)
    numbers = plt.get_fignums()
    assert qrjax.plot.signal(stack(1.0, 2.0), ax=pair) == tuple(pair)
    assert plt.get_fignums() == numbers
    assert figure.get_suptitle() == ""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a/x", "a/y", "b/x", "c", ""], ["a", "b", "c", "output"]),
        (["net/a/x", "net/a/y", "net/b", "net/c", "net/d"], ["net/a", "net/b", "net/c", "net/d"]),
        (["E", "S/a[0]", "S/b[0]", "S/a[1]", "S[1]", "H"], ["E", "S[0]", "S[1]", "H"]),
    ],
)
def test_modules_are_named_by_their_parts(rows, expected):
    found = groups([row(path) for path in rows])
    assert [group.name for group in found] == expected
    assert (found[0].start, found[-1].stop) == (0, len(rows))


def test_names_are_thinned_and_shortened():
    found = groups([row(f"Dense_{i}") for i in range(50)])
    named = [group.name for group in legible(found, 6.5)]
    assert named == ["Dense_0", "Dense_7", "Dense_14", "Dense_21", "Dense_28", "Dense_35", "Dense_42", "Dense_49"]
    assert labels(["a" * 30 + "_12[3]"]) == ["…" + "a" * 13 + "_12[3]"]
    assert labels(["net/body/layer_1", "net/body/layer_2", "output"]) == ["layer_1", "layer_2", "output"]
    means = qrjax.plot.signal(stack(*[1.0] * 400))[1]
    means.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in means.get_xticklabels()]
    # Rotated by 45 degrees, names keep clear if their ends are a line's height apart, times the root of 2.
    assert np.diff([box.x1 for box in boxes]).min() > 10
    assert len(boxes) > 10


def test_a_real_report():
    network, x = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(4)]), jax.random.normal(jax.random.key(0), (16, 8))
    found = qrjax.measure(network, qrjax.autoinit(network, x), x)
    default = qrjax.analyze(network, x, weights="module")
    variances, means = qrjax.plot.signal(found, default=default)
    assert [label.get_text() for label in means.get_xticklabels()] == ["layers_0", "layers_2", "output"]
    assert [y for _, y in drawn(variances, "#0072B2")] == pytest.approx([r.measured_variance for r in found])
    variances.figure.canvas.draw()


@pytest.mark.parametrize("wrong", [None, [], jnp.ones(3), "report"])
def test_no_report(wrong):
    with pytest.raises(TypeError, match=r"`report` must be a qrjax.Report, got .*; qrjax.analyze"):
        qrjax.plot.signal(wrong)


def test_other_wrong_arguments():
    with pytest.raises(TypeError, match=r"`default` must be a qrjax.Report, got 3"):
        qrjax.plot.signal(stack(1.0), default=3)
    with pytest.raises(TypeError, match=r"`ax` must be one of matplotlib's Axes or a pair of them, got 'top'"):
        qrjax.plot.signal(stack(1.0), ax="top")
    with pytest.raises(TypeError, match="or a pair of them"):
        qrjax.plot.signal(stack(1.0), ax=plt.subplots(3)[1])
    with pytest.raises(ValueError, match="`report` has no rows to draw; pass"):
        qrjax.plot.signal(report())
    with pytest.raises(ValueError, match=r"same model as `report`.*'other' here, 'Dense_0' there; pass qrjax.analyze"):
        qrjax.plot.signal(stack(1.0), default=report(row("other")))
    with pytest.raises(ValueError, match="`default` has no rows; pass"):
        qrjax.plot.signal(stack(1.0), default=report())


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib, which is not installed: pip install 'qrjax\[plot\]'"):
        qrjax.plot.signal(stack(1.0))


def test_importing_loads_no_matplotlib():
    code = "import sys, qrjax.plot, qrjax._plot._signal; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_docstring_runs():
    for test in doctest.DocTestFinder(recurse=False).find(qrjax.plot.signal, "signal", module=False):
        out = []
        doctest.DocTestRunner(verbose=False).run(test, out=out.append)
        assert not out, "".join(out)
