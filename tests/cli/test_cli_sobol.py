"""`qrjax sobol`: published points, SciPy's, the package's own, and files of them."""

import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from driving import PNG, QRJAX
from scipy.stats import qmc

import qrjax
from qrjax._cli import main

# Points 1 to 8 of dimensions 1 to 3, in eighths and sixteenths; Joe and Kuo's direction numbers (m = 1; 1; 1, 3).
KNOWN = [
    [0.5, 0.5, 0.5],
    [0.75, 0.25, 0.25],
    [0.25, 0.75, 0.75],
    [0.375, 0.375, 0.625],
    [0.875, 0.875, 0.125],
    [0.625, 0.125, 0.875],
    [0.125, 0.625, 0.375],
    [0.1875, 0.3125, 0.9375],
]


def said(capsys, *arguments):
    """The JSON that the command prints, and nothing else."""
    assert main(["sobol", *arguments, "--json"]) == 0
    printed, complaint = capsys.readouterr()
    assert complaint == ""
    return json.loads(printed)


def test_first_points_are_known(capsys):
    found = said(capsys, "--dim", "1-3", "--start", "1")
    assert found["points"] == KNOWN
    assert (found["dimensions"], found["start"], found["scramble"], found["seed"]) == ([1, 2, 3], 1, None, None)


def test_text_has_a_column_for_each_dimension(capsys):
    assert main(["sobol", "--dim", "1-3", "--start", "1"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert re.split(" {2,}", heading) == ["index", "dimension 1", "dimension 2", "dimension 3"]
    assert [[int(line.split()[0]), *map(float, line.split()[1:])] for line in lines] == [
        [number, *point] for number, point in enumerate(KNOWN, 1)
    ]
    assert len({line.index(line.split()[1]) for line in lines}) == 1  # the decimal points align


def test_point_0_is_explained(capsys):
    assert main(["sobol", "--n", "1"]) == 0
    assert re.search("^0 +9.313226e-10 +9.313226e-10$", shown := capsys.readouterr().out, re.M)
    assert "Point 0 of the plain sequence is 0" in shown
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["sobol", "--n", "1", "--scramble", "owen"]) == 0
    assert "Point 0" not in capsys.readouterr().out


@pytest.mark.few("7", "19-21,3")
@pytest.mark.parametrize("dims", ["7", "4,2", "19-21,3", " 5 , 21201 "])
def test_plain_points_are_scipys(dims, capsys):
    found = said(capsys, "--dim", dims, "--n", "16", "--start", "3", "--dtype", "float64")
    expected = {"7": [7], "4,2": [4, 2], "19-21,3": [19, 20, 21, 3]}.get(dims, [5, 21201])
    assert found["dimensions"] == expected
    theirs = qmc.Sobol(max(expected), scramble=False, bits=32).fast_forward(3).random(16)
    np.testing.assert_array_equal(found["points"], theirs[:, np.array(expected) - 1])


SCRAMBLES = ["none", "shift", "linear", "owen"]
FAST = [("none", "float32"), ("linear", "float64"), ("owen", "float32")]
REST = [case for case in itertools.product(SCRAMBLES, ["float32", "float64"]) if case not in FAST]


@pytest.mark.few("linear-float64", "owen-float32")
@pytest.mark.parametrize(
    ("scramble", "dtype"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)]
)
def test_points_are_the_packages(scramble, dtype, tmp_path, capsys):
    path = tmp_path / "points.npy"
    options = ["--scramble", scramble, "--seed", "6", "--dtype", dtype, "--start", "100", "--n", "20"]
    found = said(capsys, "--dim", "2,9", *options, "--save", str(path))
    chosen = {} if scramble == "none" else {"scramble": scramble, "key": jax.random.key(6)}
    with jax.enable_x64(dtype == "float64"):
        expected = [np.asarray(qrjax.sobol.points_range(dim, 100, 20, dtype, **chosen)) for dim in (2, 9)]
    np.testing.assert_array_equal(np.load(path), np.stack(expected, 1), strict=True)
    assert found["points"] == np.stack(expected, 1).tolist()
    assert found["scramble"] == chosen.get("scramble")
    assert os.listdir(tmp_path) == [path.name]


def test_csv_gives_back_the_same_floats(tmp_path, capsys):
    options = ["--dim", "3,1", "--n", "50", "--start", "7", "--scramble", "owen"]
    assert main(["sobol", *options, "--csv"]) == 0
    printed = capsys.readouterr().out
    heading, *rows = csv.reader(io.StringIO(printed))
    assert heading == ["index", "dimension 3", "dimension 1"]
    assert [int(row[0]) for row in rows] == list(range(7, 57))
    path = tmp_path / "points.csv"
    assert main(["sobol", *options, "--save", str(path)]) == 0
    assert capsys.readouterr().out == f"50 points are in {path}\n"
    assert path.read_bytes().decode() == printed
    points = said(capsys, *options)["points"]
    assert np.array([row[1:] for row in rows], np.float32).tolist() == points


def test_last_points_are_reached(capsys):
    found = said(capsys, "--dim", "1", "--start", str(2**32 - 16), "--n", "16", "--dtype", "float64")
    grays = [index ^ index >> 1 for index in range(2**32 - 16, 2**32)]
    reversals = [int(f"{gray:032b}"[::-1], 2) / 2**32 for gray in grays]
    # Uniform floats of all dtypes are multiples of 2**-30, and 2**-30 at least.
    np.testing.assert_allclose(np.ravel(found["points"]), reversals, rtol=0, atol=2**-30)


def test_many_dimensions_are_compiled_once(capsys):
    found = said(capsys, "--dim", "1-1000", "--n", "2", "--start", "1", "--scramble", "linear")
    assert np.shape(found["points"]) == (2, 1000)


@pytest.mark.parametrize("count", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 100)), 8192])
def test_picture(count, tmp_path, capsys):
    path = tmp_path / "points.png"
    assert main(["sobol", "--dim", "1,2", "--n", str(count), "--plot", str(path)]) == 0
    assert capsys.readouterr().out == f"{count:,} points are in {path}\n"
    assert path.read_bytes().startswith(PNG)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("count", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_picture_counts_intervals_of_a_power_of_two(count, tmp_path, capsys):
    path = tmp_path / "points.svg"
    assert main(["sobol", "--n", str(count), "--scramble", "owen", "--plot", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == count
    grid = f"{count} points: 1 in each of {count // 8} x 8 elementary intervals"
    assert f"<!-- {grid} -->" in path.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dim", "0"), "`--dim` must be dimensions from 1 to 21201, got '0'; for example --dim 3"),
        (("--dim", "21202"), "`--dim` must be dimensions from 1 to 21201, got '21202'"),
        (("--dim", "3-1"), "`--dim` must be dimensions from 1 to 21201, got '3-1'"),
        (("--dim", "1,,2"), "`--dim` must be dimensions from 1 to 21201, got '1,,2'"),
        (("--dim", "x"), "`--dim` must be dimensions from 1 to 21201, got 'x'"),
        (("--n", "0"), "`--n` must be a whole number from 1 to 4294967296, got '0'; for example --n 8"),
        (("--start", "-1"), "`--start` must be a whole number from 0 to 4294967295, got '-1'"),
        (("--start", "4294967295", "--n", "2"), "`--start` 4294967295 and `--n` 2 go beyond the sequence's"),
        (("--n", "4294967296"), "2 dimensions are 34,359,738,368 bytes of float32; this command makes up to"),
        (("--scramble", "own"), "`--scramble` must be none, shift, linear or owen, got 'own'; did you mean owen"),
        (("--csv", "--json"), "`--csv` and `--json` exclude each other"),
        (("--plot", "p.png", "--dim", "1-3"), "`--plot` shows two dimensions, got 3 by --dim; for example --dim 1,2"),
        (("--plot", "p.npy"), "`--plot` must end in .png, .pdf or .svg, got 'p.npy'; for example p.png"),
        (("--save", "p.png"), "`--save` must end in .npy or .csv, got 'p.png'; for example p.npy"),
        (("--save", "no/p.npy"), "`--save` cannot be written, got 'no/p.npy': the folder .* does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_explained(options, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sobol", *options]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert re.match("qrjax sobol: error: .*" + message, complaint)
    assert os.listdir(tmp_path) == []


def test_missing_matplotlib_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["sobol", "--plot", "p.png"]) == 1
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert complaint.startswith("qrjax: error: ")
    assert "pip install 'qrjax[plot]'\n" in complaint


def test_reader_that_leaves_early():
    command = [*QRJAX, "sobol", "--n", "100000", "--csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"index,dimension 1,dimension 2\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
