"""`qrjax spectrum`: the effective ranks of every layout, by a second implementation."""

import json
import math
import os
import re
import statistics

import jax
import numpy as np
import pytest
import scipy.stats
from driving import PNG, in_terminal_here

import qrjax
from qrjax._cli import main

SOURCES = ["jax.random", "sequence", "shuffled", "outputs", "neurons", "points", "hash"]


def entropy_rank(weights):
    singular = np.linalg.svd(np.asarray(weights, np.float64).reshape(-1, weights.shape[-1]), compute_uv=False)
    return math.exp(scipy.stats.entropy(singular**2))


def builder(name, source):
    if source == "jax.random":
        return getattr(jax.nn.initializers, name)()
    return getattr(qrjax, f"{name}_hash")() if source == "hash" else getattr(qrjax, f"{name}_qr")(layout=source)


@pytest.mark.few("glorot_uniform*")
@pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")  # here to compare with
@pytest.mark.parametrize(("name", "shape"), [("glorot_uniform", (40, 32)), ("he_normal", (3, 3, 8, 32))])
def test_ranks_are_those_of_the_builders(name, shape, capsys):
    written = ",".join(map(str, shape))
    assert main(["spectrum", "--shape", written, "--builder", name, "--seeds", "2", "--json"]) == 0
    printed, complaint = capsys.readouterr()
    assert complaint == ""
    found = json.loads(printed)
    assert (found["builder"], found["seeds"]) == (name, [0, 1])
    (table,) = found["shapes"]
    assert (table["shape"], table["largest_rank"]) == (list(shape), 32)
    assert [row["source"] for row in table["sources"]] == SOURCES
    reference = table["sources"][0]["mean"]
    for row in table["sources"]:
        ranks = [entropy_rank(builder(name, row["source"])(jax.random.key(seed), shape)) for seed in (0, 1)]
        assert row["effective_ranks"] == pytest.approx(ranks, rel=1e-6)
        assert row["mean"] == pytest.approx(statistics.fmean(ranks), rel=1e-6)
        assert row["standard_deviation"] == pytest.approx(statistics.stdev(ranks), rel=1e-3, abs=1e-5)
        assert row["relative"] == row["mean"] / reference
        assert (row["relative"] < 0.2) == (row["source"] == "sequence")


def test_tables_are_plain_text_without_a_warning(capsys):
    assert main(["spectrum", "--shape", "40,32", "--shape", "2,1,2,4", "--seeds", "1"]) == 0
    shown, complaint = capsys.readouterr()
    assert complaint == ""
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80
    assert "glorot_uniform, 40 x 32: effective rank, mean of 1 seed\n" in shown
    assert "glorot_uniform, 2 x 1 x 2 x 4: effective rank, mean of 1 seed\n" in shown
    assert re.findall(r"^(\S+) +\d+\.\d\d +\d\.\d{3}$", shown, re.M) == [*SOURCES, *SOURCES]


def test_picture_and_terminal(tmp_path):
    path = tmp_path / "spectrum.png"
    shown, status = in_terminal_here("spectrum", "--shape", "40,32", "--seeds", "2", "--plot", str(path))
    assert status == 0
    assert "━" in shown
    assert path.read_bytes().startswith(PNG)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shape", "784"), "`--shape` must be two sizes or more .*, got '784'; for example --shape 784,64"),
        (("--shape", "0,4"), "`--shape` must be two sizes or more .*, got '0,4'"),
        (("--shape", "a,b"), "`--shape` must be two sizes or more .*, got 'a,b'"),
        (("--shape", "8192,8192"), "`--shape` must be small enough .*, got 8192 x 8192, which is 268,435,456 bytes"),
        (("--builder", "he"), "`--builder` must be .*, got 'he'; did you mean he_normal or he_uniform"),
        (("--builder", "glorot_unifrom"), "`--builder` must be .*; did you mean glorot_uniform"),
        (("--seeds", "0"), "`--seeds` must be a whole number from 1 to 1000, got '0'; for example --seeds 5"),
        (("--shape", "4,4", "--shape", "8,8", "--plot", "p.png"), "`--plot` shows one shape, got 2 by --shape"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_explained(options, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["spectrum", *options]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert re.match("qrjax spectrum: error: .*" + message, complaint)
