"""Results show themselves, in a notebook and at a prompt, and leave as plain values: laws over all of them."""

import dataclasses
import html.parser
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter import _report
from qrjax._terminal._cells import cell, decimal, number
from qrjax._terminal._tables import FOLDED, SHOWN, Table, as_html, text

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 3)), jnp.float32)
TRICKY = "<b>&\"layer'"


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2))
        return nn.Dense(2, name=TRICKY)(nn.relu(nn.Dense(8)(x)))


def train(seed):
    return {TRICKY: jnp.full(3, jnp.where(seed == 1, jnp.nan, seed.astype(jnp.float32)))}


@pytest.fixture(scope="module")
def results():
    variables = qrjax.autoinit(Network(), X)
    record = qrjax.record(Network(), X)
    moved = jax.tree.map(lambda a: a * 1.5, variables)
    report = qrjax.analyze(Network(), X)
    rows = [dataclasses.replace(report["Dense_0"], path=f"Dense_{i}", mean=-1e-9) for i in range(40)]
    return {
        "report": report,
        "measured": qrjax.measure(Network(), variables, X),
        "deep": qrjax.Report([report["Conv_0"], *rows, report[TRICKY]]),
        "nothing": qrjax.Report([]),
        "changes": qrjax.changes(record, moved),
        "record": record,
        "sweep": qrjax.sweep(train, 4, progress=False),
    }


each = pytest.mark.parametrize("name", ["report", "measured", "deep", "nothing", "changes", "record", "sweep"])


@each
def test_json_is_what_to_dict_has_and_only_that(results, name):
    found = results[name]
    kept = json.loads(found.to_json(indent=1), parse_constant=lambda word: pytest.fail(word))
    assert kept == json.loads(json.dumps(found.to_dict()).replace("NaN", "null"))
    assert json.loads(found.to_json()) == kept


@each
def test_frames_have_a_row_for_each(results, name):
    frame = results[name].to_pandas()
    expected = {"record": 6, "changes": 6, "sweep": 12, "nothing": 0}.get(name, len(results[name]))
    assert len(frame) == expected
    if name in ("report", "changes", "record"):
        assert f"{TRICKY}{'' if name == 'report' else '/kernel'}" in list(frame["path"])


@each
def test_scalars_are_a_flat_dict_of_floats(results, name):
    found = results[name].scalars()
    assert all(type(key) is str and type(value) is float for key, value in found.items())
    assert bool(found) == (name != "nothing")


def test_scalars_have_the_numbers_of_the_rows(results):
    report, changes = results["measured"], results["changes"]
    assert report.scalars()["Dense_0/gain"] == report["Dense_0"].gain
    assert report.scalars()["Dense_0/octaves"] == report["Dense_0"].octaves
    assert changes.scalars()["total/changed_percent"] == changes.total.changed_percent
    assert changes.scalars()["Dense_0/kernel/rms_change"] == changes["Dense_0/kernel"].rms_change
    assert results["record"].scalars()["Dense_0/kernel/most_stddev"] == pytest.approx(report["Dense_0"].gain, rel=0.01)
    # Seed 1 has no number.
    assert results["sweep"].scalars() == {
        f"{TRICKY}/{name}": value
        for name, value in {
            "finite": 3.0, "mean": 5 / 3, "deviation": math.sqrt(7 / 3), "least": 0.0, "median": 2.0, "most": 3.0,
        }.items()
    }  # fmt: skip


def test_rows_of_one_path_are_told_apart():
    dense = nn.Dense(8)
    shared = nn.Sequential([dense, nn.relu, dense, nn.relu])
    found = qrjax.analyze(shared, jax.ShapeDtypeStruct((4, 8), jnp.float32)).scalars()
    assert {"layers_0/gain", "layers_0.2/gain"} <= found.keys()


class Reader(html.parser.HTMLParser):
    """The tags, which have to match, their attributes and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.styles, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.styles += [value for key, value in attrs if key == "style"]
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(shown):
    reader = Reader()
    reader.feed(shown)
    reader.close()
    assert not reader.open
    return reader


@pytest.mark.parametrize("name", ["report", "measured", "deep", "nothing", "changes", "record", "sweep", "initializer"])
def test_a_notebook_shows_a_table_in_its_own_colors(results, name):
    found = qrjax.he_normal_qr().stream("<b>&layer") if name == "initializer" else results[name]
    page = read(found._repr_html_())
    assert page.seen[:3] == ["div", "table", "caption"]
    assert not any(word in style for style in page.styles for word in ("color", "background", "font"))
    assert "b" not in page.seen, "a name that looks like a tag is one"
    if name not in ("nothing", "deep"):
        assert any((TRICKY if name != "initializer" else "<b>&layer") in words for words in page.text)


def test_long_tables_are_folded(results):
    page = read(results["deep"]._repr_html_())
    assert page.seen.count("details") == 1
    assert f"{len(results['deep']) - SHOWN} rows more" in page.text
    assert len([word for word in page.text if word.startswith("Dense_")]) == 40
    assert "details" not in read(results["report"]._repr_html_()).seen


@each
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_prompt_shows_what_there_is_place_for(results, name, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    found = results[name]
    lines = [line for line in repr(found).splitlines() if not line.startswith("- ")]  # findings are sentences
    assert max(map(len, lines)) <= max(width, 80 if name == "record" else 0)
    assert len(lines) <= 32
    assert all(line == line.rstrip() for line in lines)
    if name == "deep":
        assert "... 23 rows more; print() shows all" in lines
        assert "Dense_0" in repr(found)
        assert str(found).count("\nDense_") == 40


def test_every_object_prints_all_of_it(results):
    for name in ("report", "measured", "deep"):
        assert all(f"\n{row.path or '(whole)'} " in f"\n{results[name]}" for row in results[name])


# -- words -----------------------------------------------------------------------------------------------------------


def test_rows_speak_the_readers_words(results):
    report = results["report"]
    assert [(row.path, row.operation) for row in report.weights] == [
        ("Conv_0", "Conv"), ("Dense_0", "Dense"), (TRICKY, "Dense"),
    ]  # fmt: skip
    assert [row.op for row in report.weights] == ["conv_general_dilated", "dot_general", "dot_general"]
    assert "-0.00" not in str(results["deep"])


def test_a_weight_of_a_larger_module_is_called_by_its_operation():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(x @ self.param("w", nn.initializers.normal(), (8, 8)))

    found = qrjax.analyze(Own(), jax.ShapeDtypeStruct((4, 8), jnp.float32))
    assert [row.operation for row in found] == ["product", "Own"]


def test_numbers_as_they_are_read():
    assert [decimal(value) for value in (-0.001, 0.0, -0.0, 1.005, None, math.inf)] == [
        "0.00", "0.00", "0.00", "1.00", "", "inf",
    ]  # fmt: skip
    assert decimal(-0.001, sign="+") == "+0.00"
    assert [number(value) for value in (-0.0, 0.123456, 12345.6, 1e-5, None, math.nan)] == [
        "0", "0.123", "1.2e+04", "1.0e-05", "", "nan",
    ]  # fmt: skip
    assert [cell(value) for value in ((2, 3), ("a", "b"), {0: -0.0, 1: 0.5}, 1234, "word", ())] == [
        "2x3", "a; b", "0:0.00 1:0.50", "1,234", "word", "",
    ]  # fmt: skip


def test_new_fields_of_a_row_become_columns(results):
    # What a row learns to say later is shown, kept and logged without a second list.
    row = results["report"]["Dense_0"]
    names = {field.name for field in dataclasses.fields(row) if field.compare}
    assert names <= row.to_dict().keys()
    numbers = {name for name in names if isinstance(getattr(row, name), float)}
    assert numbers <= set(_report._columns([row])) | set(_report.HIDDEN)


# -- a table ---------------------------------------------------------------------------------------------------------

NARROW = Table("", ("name", "n", "spare"), [("a/long/path/to/a/kernel", "1,234,567", "words")], (0, 2), (2,))


def test_changes_are_shown_in_the_order_in_which_one_counts():
    start = {f"Dense_{i}": jnp.zeros(2) for i in (1, 2, 10)}
    shown = str(qrjax.changes(start, start))
    assert shown.index("Dense_1 ") < shown.index("Dense_2 ") < shown.index("Dense_10 ")


def test_on_a_narrow_page_a_table_is_moved_aside_and_only_remarks_are_broken():
    page = read(as_html(Table("title", ("name", "remark"), [["Dense_0", "a remark " * 10]])))
    assert page.styles[0] == "overflow-x:auto"
    assert ["nowrap" in style for style in page.styles[-2:]] == [True, False]


def test_a_narrow_page_leaves_out_columns_and_the_beginning_of_names():
    assert text(NARROW).splitlines()[1] == "a/long/path/to/a/kernel  1,234,567  words"
    assert text(NARROW, 34).splitlines()[1] == "…ath/to/a/kernel  1,234,567  words"
    assert text(NARROW, 24).splitlines()[1] == "…/to/a/kernel  1,234,567"
    assert text(NARROW, 10).splitlines()[1] == "…/kernel  1,234,567", "numbers are not cut"


def test_a_notebook_is_not_filled_with_thousands_of_rows():
    shown = as_html(Table("", ("n",), [(str(n),) for n in range(5000)]))
    assert shown.count("<tr>") == SHOWN + FOLDED + 2
    assert f"... {5000 - SHOWN - FOLDED} rows more; print() shows all" in shown


def test_html_escapes_what_it_shows():
    shown = as_html(Table("<i>", ("<h>",), [("<script>",)], remarks=["a & b"]))
    assert "<script>" not in shown
    assert all(part in shown for part in ("&lt;i&gt;", "&lt;h&gt;", "&lt;script&gt;", "a &amp; b"))
