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
from qrjax._coordinates._result import coordinate
from qrjax._plot._colors import contrast, ink
from qrjax._plot._legend import covered

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


def checked(names):
    """A check whose first output is stable, and whose others grow."""
    slopes = [0.0, *np.linspace(0.2, 1.2, len(names) - 1)] if names else []
    widths, first = [64, 256, 1024], np.ones((3, 1))
    rows = [
        coordinate(name, "Dense", widths, first, np.exp2(slope * np.log2(np.array(widths) / 64))[:, None, None], 0.1)
        for name, slope in zip(names, slopes, strict=True)
    ]
    settings = {"optimizer": "adam", "multipliers": True, "rate": 0.1, "steps": 4, "seeds": 1, "tolerance": 0.1}
    return qrjax.CoordinateCheck(rows, widths, np.ones((3, 1, 5)), [], settings)


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
    "coordinates": Member(
        (checked(["a", "b"]),), (checked([]),), "width", "root mean square of the change by 4 steps"
    ),
    "points": Member((np.full((3, 2), 0.5),), (np.full((3, 2), 1.5),), "dimension 1", "dimension 2"),
    "losses": Member(({"a": SEEDS},), ({"a": SEEDS[0]},), "epoch", "loss"),
    "movement": Member(({step: moved(step) for step in (1, 5)},), ({},), "step", "root-mean-square |Δ|"),
    "boxes": Member(({"a": SEEDS},), ({"a": SEEDS[0]},), "epoch", "test accuracy, %"),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", MEMBERS)


LONG = "encoder/transformer_block_{}/attention/query_projection"


def report(names, variances):
    pairs = zip(names, variances, strict=True)
    rows = [qrjax.Row(name, "dot_general", (8, 64), 64.0, 0.1, 0.0, 1.0, 0.0, v, {}) for name, v in pairs]
    return qrjax.Report([*rows, qrjax.Row("", "add", (8,), None, None, 0.0, 1.0, 0.2, 0.5, {})], target=1.0)


def many(name, count, long):
    """A picture of so many layers or names."""
    names = [LONG.format(i) if long else f"Dense_{i}" for i in range(count)]
    decay = np.exp(-np.linspace(0, 3, 30))
    start = {n: {"kernel": np.float32(KERNEL[:2]), "bias": np.float32(KERNEL[0])} for n in names}
    moves = {step: jax.tree.map(lambda w, by=step: w + np.float32(by) * (w > 0), start) for step in (1, 5)}
    runs = {step: qrjax.changes(start, params) for step, params in moves.items()}
    given = {
        "signal": lambda: (report(names, 0.5 ** np.arange(count)),),
        "changes": lambda: (runs[1],),
        "movement": lambda: (runs,),
        "losses": lambda: ({n: decay * np.linspace(1, 2, 20)[:, None] for n in names},),
        "boxes": lambda: ({n: 90 + np.random.default_rng(0).normal(size=(20, 10)) for n in names},),
        "spectrum": lambda: ({n: np.vander(np.linspace(0.1, 1 + i / 99, 9), 6) for i, n in enumerate(names)},),
        "stability": lambda: (dict.fromkeys(names, MEMBERS["stability"].good[0]),),
        "coordinates": lambda: (checked(names),),
        "points": lambda: MEMBERS["points"].good,
        "weights": lambda: (np.tile(KERNEL, (count, count)),),
        "density": lambda: MEMBERS["density"].good,
    }
    return given[name]()


def drawn(name, *arguments, **options):
    """The Axes of a picture, laid out."""
    made = getattr(qrjax.plot, name)(*arguments, **options)
    panels = [made] if isinstance(made, Axes) else list(made)
    panels[0].figure.draw_without_rendering()
    return panels


ALL = pytest.mark.parametrize("name", [*MEMBERS, "changes", "signal"])
NAVY = {"figure.facecolor": "#101040", "axes.facecolor": "#101040", "legend.facecolor": "#101040"}
NAVY |= dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], "#ffee88")


@pytest.mark.turns(3)
@pytest.mark.few("navy-signal", "navy-changes", "navy-boxes")
@ALL
@pytest.mark.parametrize("style", ["navy", "dark_background"])
def test_every_style_is_followed(name, style):
    with plt.style.context(NAVY if style == "navy" else style):
        panels = drawn(name, *many(name, 3, long=False))
        text, ground = (matplotlib.rcParams[key] for key in ("text.color", "axes.facecolor"))
    for found in panels[0].figure.findobj(matplotlib.text.Text):
        if found.get_text().strip() and found.get_visible():
            assert between(text, found.get_color(), ground), f"{found.get_text()!r} has the color {found.get_color()}"
    for axes in panels:
        for line in axes.lines:
            assert between(text, line.get_color(), ground) or contrast(line.get_color(), ground) > 2, line
        for patch in axes.patches:
            assert patch.get_alpha() or contrast(patch.get_facecolor(), ground) > 1.3, patch


def between(first, color, second):
    """Whether a color is a mixture of two."""
    a, b, c = (np.array(matplotlib.colors.to_rgb(each)) for each in (first, color, second))
    share = np.dot(b - c, a - c) / np.dot(a - c, a - c)
    return 0.1 < share < 1.01 and np.allclose(share * (a - c), b - c, atol=0.02)


@pytest.mark.parametrize("style", ["default", *plt.style.available])
def test_the_color_of_text_is_seen_in_every_style_of_matplotlib(style):
    with plt.style.context(style):
        axes = Figure().add_subplot()
        assert contrast(ink(axes), axes.get_facecolor()) >= 3


@pytest.mark.some(3)
@ALL
def test_legends_show_what_is_drawn_and_all_of_it(name):
    panels = drawn(name, *many(name, 3, long=False))
    legend = panels[0].get_legend()
    if legend is None:
        assert name in ("points", "weights")
        return
    own = {look(line) for axes in panels for line in axes.lines if line.get_transform() is axes.transData}
    of_areas = {patch.get_facecolor()[:3] for axes in panels for patch in axes.patches}
    known = {look(line) for line in legend.findobj(matplotlib.lines.Line2D)}
    if name in ("losses", "spectrum", "movement", "stability", "coordinates"):
        assert {part for line in own for part in line} == {part for line in known for part in line}
    if name == "signal":
        markers = {line.get_marker() for axes in panels for line in axes.lines}
        assert markers - {"None"} == {marker for _, _, marker in known} - {""}
    if name in ("boxes", "changes"):
        assert of_areas == {patch.get_facecolor()[:3] for patch in legend.get_patches()}


def look(line):
    return matplotlib.colors.to_hex(line.get_color()), str(line.get_linestyle()), str(line.get_marker())


def test_one_stable_output_has_ticks_to_read_it_by():
    axes = qrjax.plot.coordinates(checked(["a"]))
    low, high = axes.get_ylim()
    assert sum(low < tick < high for tick in axes.get_yticks()) >= 2


@pytest.mark.turns(3)
@pytest.mark.few("30-True-signal", "30-True-changes")
@ALL
@pytest.mark.parametrize(("count", "long"), [(12, False), (30, True)])
def test_many_and_long_names_stay_on_the_page_and_off_the_curves(name, count, long):
    if name == "stability":
        count = min(count, 12)
    panels = drawn(name, *many(name, count, long))
    page = panels[0].figure.bbox.padded(3)
    for axes in panels:
        for artist in filter(None, [axes.title, axes.xaxis.label, axes.yaxis.label, axes.get_legend()]):
            box = artist.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1, artist
            assert page.y0 <= box.y0 <= box.y1 <= page.y1, artist
        legend = axes.get_legend()
        assert legend is None or not covered(axes, legend.get_window_extent())
        assert axes.get_window_extent().height > 60


@pytest.mark.few("changes", "losses")
@ALL
def test_subplots_of_two_inches_are_legible(name):
    count = {"changes": 3, "signal": 2}.get(name, 1)
    panels = Figure(figsize=(2.2 * count, 2.2), layout="constrained").subplots(1, count, squeeze=False)[0]
    drawn(name, *many(name, 12, long=True), ax=panels[0] if count == 1 else panels)
    page = panels[0].figure.bbox.padded(3)
    for axes in panels:
        assert min(axes.get_window_extent().width, axes.get_window_extent().height) > 40
        for artist in filter(None, [axes.title, axes.xaxis.label, axes.yaxis.label]):
            box = artist.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1, artist
            assert page.y0 <= box.y0 <= box.y1 <= page.y1, artist


@pytest.mark.parametrize(("name", "panels"), [("changes", 3), ("signal", 2)])
def test_pictures_of_several_panels_have_a_figure_to_save_as_well(name, panels, tmp_path):
    made = getattr(qrjax.plot, name)(*many(name, 3, long=False))
    assert len(made) == panels
    assert all(isinstance(axes, Axes) for axes in made)
    made.figure.savefig(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1000


def test_every_picture_of_one_panel_is_here():
    assert {*MEMBERS, "changes", "signal"} == set(qrjax.plot.__all__)


@pytest.mark.some(2)
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


@pytest.mark.some(2)
@EACH
def test_titles_and_legends_stay_within_a_small_panel(name):
    axes = Figure(figsize=(11, 7), layout="constrained").subplots(2, 3)[0, 1]
    getattr(qrjax.plot, name)(*MEMBERS[name].good, ax=axes)
    axes.figure.canvas.draw()
    for artist in filter(None, [axes.title, axes.get_legend()]):
        assert artist.get_window_extent().width <= 1.05 * axes.get_window_extent().width


@EACH
def test_docstrings_name_their_errors(name):
    parts = ("Args:", "Returns:", "Raises:", "Example:")
    assert [part for part in parts if part not in inspect.getdoc(getattr(qrjax.plot, name))] == []


# What a stability is is worked out in seconds, and so is a check.
COSTLY = ("stability", "coordinates")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in COSTLY)) for n in MEMBERS])
def test_docstrings_run(name):
    found = getattr(qrjax.plot, name)
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
