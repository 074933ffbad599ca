"""`qrjax bench`: its figures are consistent, and it says of which machine they are."""

import datetime
import functools
import json
import re

import jax
import numpy as np
import pytest

import qrjax
from qrjax._cli import _bench, main

LAWS = ["uniform", "normal", "truncated_normal"]
SOURCES = ["jax.random", "outputs (default)", "sequence (plain)", "hash"]


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bench, "_compiled", functools.cache(_bench._compiled))
        yield


def test_figures_are_consistent(capsys):
    assert main(["bench", "--size", "64", "--repeats", "2", "--json"]) == 0
    printed, complaint = capsys.readouterr()
    assert complaint == ""
    found = json.loads(printed)
    assert (found["size"], found["repeats"]) == (64, 2)
    rows = {(row["values"], row["source"]): row for row in found["rows"]}
    assert list(rows) == [(law, source) for law in LAWS for source in SOURCES]
    for (law, _), row in rows.items():
        assert row["milliseconds"] > 0
        assert row["values_per_second"] == pytest.approx(64 * 64 / (row["milliseconds"] / 1000))
        theirs = rows[law, "jax.random"]["milliseconds"]
        assert row["relative_speed"] == pytest.approx(theirs / row["milliseconds"])
    machine = found["machine"]
    assert (machine["jax"], machine["qrjax"]) == (jax.__version__, qrjax.__version__)
    assert machine["backend"] == jax.default_backend()
    assert datetime.date.fromisoformat(machine["date"])
    assert int(machine["cores"]) >= 1


def test_table_is_plain_text(monkeypatch, capsys):
    monkeypatch.setattr(_bench, "LAWS", LAWS[:1])
    assert main(["bench", "--size", "64", "--repeats", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("64 x 64 float32 values, 16,384 bytes\n")
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80
    rows = re.findall(r"^uniform  (\S.*?)  +([\d.]+) +([\d.e+]+) +([\d.]+)$", shown, re.M)
    assert [row[0] for row in rows] == SOURCES
    assert rows[0][3] == "1.00"
    assert f"jax {jax.__version__}; " in shown.replace("\n", " ")


@pytest.mark.parametrize("law", LAWS)
def test_rows_draw_what_they_say(law):
    # Means and variances of the standard laws; 64 x 64 independent values have errors of 1.6 % of a deviation.
    mean, variance = {"uniform": (0.5, 1 / 12), "normal": (0, 1)}.get(law, (0, 0.7737))
    for source in SOURCES:
        weights = np.asarray(_bench._compiled(law, source, 64)(jax.random.key(0)))
        assert weights.shape == (64, 64)
        assert weights.mean() == pytest.approx(mean, abs=0.08)
        assert weights.var() == pytest.approx(variance, rel=0.08)


def test_rounds_count_but_the_first():
    row = _bench.Row("uniform", "hash", lambda _: np.zeros(1))
    for turn in range(-1, 3):
        _bench._run([row], turn)
    assert len(row.seconds) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "0"), "`--size` must be a whole number from 1 to 16384, got '0'; for example --size 2048"),
        (("--size", "1e3"), "`--size` must be a whole number from 1 to 16384, got '1e3'"),
        (("--repeats", "0"), "`--repeats` must be a whole number from 1 to 1000, got '0'; for example --repeats 11"),
    ],
    ids=["size", "float", "repeats"],
)
def test_mistakes_are_explained(options, message, capsys):
    assert main(["bench", *options]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert re.match("qrjax bench: error: " + message, complaint)
