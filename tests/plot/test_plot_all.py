"""What holds for every picture: which Axes are drawn on, what is refused, that examples run."""

import doctest
import inspect
import sys
from typing import NamedTuple

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import qrjax

matplotlib.use("agg")
import matplotlib.pyplot as plt

SEEDS = np.linspace(3.0, 1.0, 8) + np.array([[0.0], [0.1], [0.3]])


class Member(NamedTuple):
    good: tuple
    bad: tuple
    xlabel: str
    ylabel: str


def moved(step):
    start = {
        "first": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)},
        "head": np.ones(2, np.float32),
    }
    return qrjax.changes(start, jax.tree.map(lambda w: w + np.float32(0.1 * step), start))


KERNEL = np.random.default_rng(0).normal(size=(12, 7))
MEMBERS = {
    "weights": Member((KERNEL,), (KERNEL[0],), "output", "input of an output"),
    "density": Member(
        (qrjax.he_normal_qr(), jax.random.key(0), (16, 8)), (qrjax.he_normal_qr(), jax.random.key(0), (0, 8)),
        "weight", "density, per unit of weight",
    ),
    "spectrum": Member(
        ({"a": KERNEL},), ({},), "index / number of singular values", "singular value / root mean square"
    ),
    "stability": Member(
        (qrjax.stability(jax.numpy.tanh, targets=[0.25, 1.0]),), ([],),
        "second moment of each layer's output", "octaves over 100 layers",
    ),
    "points": Member((np.full((3, 2), 0.5),), (np.full((3, 2), 1.5),), "dimension 1", "dimension 2"),
    "losses": Member(({"a": SEEDS},), ({"a": SEEDS[0]},), "epoch", "loss"),
    "movement": Member(({step: moved(step) for step in (1, 5)},), ({},), "step", "root-mean-square |Δ|"),
    "boxes": Member(({"a": SEEDS},), ({"a": SEEDS[0]},), "epoch", "test accuracy, %"),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", MEMBERS)


def test_every_picture_of_one_panel_is_here():
    assert {*MEMBERS, "changes", "signal"} == set(qrjax.plot.__all__)


@EACH
def test_a_figure_is_made_that_notebooks_show(name):
    before = plt.get_fignums()
    axes = getattr(qrjax.plot, name)(*MEMBERS[name].good)
    assert isinstance(axes, Axes)
    assert len(plt.get_fignums()) == len(before) + 1
    assert axes.figure is plt.gcf()
    axes.figure.canvas.draw()


@EACH
def test_given_axes_are_drawn_on_and_returned(name):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert getattr(qrjax.plot, name)(*MEMBERS[name].good, ax=right) is right
    assert right.has_data()
    assert not left.has_data()


@EACH
def test_both_axes_and_the_picture_are_named(name):
    axes = getattr(qrjax.plot, name)(*MEMBERS[name].good)
    assert (axes.get_xlabel(), axes.get_ylabel()) == MEMBERS[name][2:]
    assert axes.get_title()[0] in axes.get_title()[0].upper()


@EACH
def test_nothing_is_drawn_of_wrong_input(name):
    axes = Figure().add_subplot()
    with pytest.raises(ValueError, match=r"`(weights|shape|matrices|points|curves|results|found)`"):
        getattr(qrjax.plot, name)(*MEMBERS[name].bad, ax=axes)
    assert not axes.has_data()
    assert axes.get_title() == axes.get_xlabel() == ""


@EACH
@pytest.mark.parametrize("wrong", ["top", Figure(), [Figure().add_subplot()]], ids=["text", "figure", "list"])
def test_axes_are_one(name, wrong):
    with pytest.raises(TypeError, match=r"`ax` must be one of matplotlib's Axes, got .*; None makes a figure"):
        getattr(qrjax.plot, name)(*MEMBERS[name].good, ax=wrong)


@EACH
def test_without_matplotlib(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib, which is not installed: pip install 'qrjax\[plot\]'"):
        getattr(qrjax.plot, name)(*MEMBERS[name].good)


@EACH
def test_titles_and_legends_stay_within_a_small_panel(name):
    axes = Figure(figsize=(11, 7), layout="constrained").subplots(2, 3)[0, 1]
    getattr(qrjax.plot, name)(*MEMBERS[name].good, ax=axes)
    axes.figure.canvas.draw()
    for artist in filter(None, [axes.title, axes.get_legend()]):
        assert artist.get_window_extent().width <= 1.05 * axes.get_window_extent().width


@EACH
def test_docstrings_run_and_name_their_errors(name):
    found = getattr(qrjax.plot, name)
    assert all(part in inspect.getdoc(found) for part in ("Args:", "Returns:", "Raises:", "Example:"))
    tests = doctest.DocTestFinder(recurse=False).find(found, name, module=False)
    assert any(test.examples for test in tests)
    for test in tests:
        out = []
        doctest.DocTestRunner(verbose=False).run(test, out=out.append)
        assert not out, "".join(out)


@pytest.mark.slow
def test_the_example_of_changes_runs():
    for test in doctest.DocTestFinder(recurse=False).find(qrjax.plot.changes, "changes", module=False):
        out = []
        doctest.DocTestRunner(verbose=False).run(test, out=out.append)
        assert not out, "".join(out)
