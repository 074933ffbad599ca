"""`qrjax demo`: its table, picture, progress, arguments and failures; the model behind it."""

import functools
import os
import re
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from driving import ESCAPE, PNG, QRJAX, in_terminal, in_terminal_here, run
from jax import lax

from qrjax._cli import main
from qrjax._datasets import _table
from qrjax._datasets._table import load
from qrjax._demo import _model, _training
from qrjax._demo._summary import chance
from qrjax._demo._training import Trainer
from qrjax._experiments._convolution import convolution_by_matmul

TINY = ("demo", "--seeds", "2", "--epochs", "1")
# A row of the table: the initializer, and mean, deviation, best, worst, epoch 1, final loss; without the seconds.
ROW = re.compile(r"(Flax default|he_normal_qr\(\)|he_normal_hash\(\)) +([\d.]+) (?:±|\+/-) ([\d. ]+) [\d.]+\s*$", re.M)


@pytest.fixture
def smaller(monkeypatch):
    """A network that compiles and trains in a moment, compiled once; what optax computes needs promotion."""
    monkeypatch.setattr(_model, "FEATURES", (4, 4))
    monkeypatch.setattr(_table, "load", lambda name: load(name, limit=160))
    monkeypatch.setattr(_training, "Trainer", lambda _, seeds: trainer(seeds))
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def trainer(seeds):
    return Trainer(load("digits", limit=160), seeds)


def rows(output):
    """The numbers of the table, spaces apart, by initializer."""
    return {name: [mean, *rest.split()] for name, mean, rest in ROW.findall(output)}


def assert_consistent(table, worst=0.0, loss=np.inf):
    """Two seeds and one epoch; at least so good, in per cent, with so small a loss."""
    assert list(table) == ["Flax default", "he_normal_qr()", "he_normal_hash()"]
    for name, row in table.items():
        mean, deviation, best, least, first, final = map(float, row)
        assert worst <= least <= mean <= best <= 100, (name, row)
        assert mean == pytest.approx((best + least) / 2, abs=0.011), (name, row)  # two seeds, rounded to 0.01
        assert deviation == pytest.approx((best - least) / 2**0.5, abs=0.011), (name, row)
        assert first == mean, (name, row)  # one epoch
        assert 0 < final < loss, (name, row)


class TestDemo:
    @pytest.mark.usefixtures("smaller")
    def test_prints_a_plain_table_and_on_a_terminal_bars_and_the_same_numbers(self, tmp_path, capsys):
        picture = tmp_path / "curves.png"
        assert main([*TINY, "--quiet", "--out", str(picture)]) == 0
        printed, complaint = capsys.readouterr()
        assert complaint == ""
        assert printed.isascii()
        assert "\x1b" not in printed
        assert max(map(len, printed.splitlines()[:-1])) <= 80
        assert printed.endswith(f"The loss curves are in {picture}\n")
        assert picture.read_bytes().startswith(PNG)
        assert os.listdir(tmp_path) == [picture.name]
        assert_consistent(rows(printed))
        shown, status = in_terminal_here(*TINY, "--out", str(picture))
        assert status == 0
        assert "━" in shown
        assert "1/1" in shown
        plain, escapes = ESCAPE.subn("", shown)
        assert escapes
        assert rows(plain) == rows(printed)

    @pytest.mark.slow
    def test_in_a_process_and_terminal_of_its_own(self, environment, tmp_path):
        shown, status = in_terminal(*TINY, "--out", str(tmp_path / "curves.png"), env=environment)
        assert status == 0
        assert_consistent(rows(ESCAPE.sub("", shown)), worst=80, loss=np.log(10))  # better than guessing
        assert os.listdir(tmp_path) == ["curves.png"]

    @pytest.mark.slow
    def test_reader_that_leaves_early(self, environment, tmp_path):
        picture = tmp_path / "curves.png"
        command = [*QRJAX, *TINY, "--out", str(picture)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline().startswith(b"Handwritten digits")
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141
        assert picture.read_bytes().startswith(PNG)

    @pytest.mark.slow
    @pytest.mark.usefixtures("foreground")
    def test_interrupt_is_quiet_and_restores_the_terminal(self, environment, tmp_path):
        arguments = ("demo", "--epochs", "50", "--out", str(tmp_path / "curves.png"))
        shown, status = in_terminal(*arguments, env=environment, interrupt_at=b"compiling")
        assert status == 128 + signal.SIGINT
        assert "Traceback" not in shown
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
        assert os.listdir(tmp_path) == []

    @pytest.mark.slow
    def test_default_run_is_quick_and_accurate(self, tmp_path):
        start = time.monotonic()
        finished = run("demo", cwd=tmp_path)
        assert time.monotonic() - start < 90
        assert finished.returncode == 0
        assert (tmp_path / "demo.png").read_bytes().startswith(PNG)
        table = rows(finished.stdout)
        assert len(table) == 3
        assert all(float(row[0]) > 95 for row in table.values())


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ("--seeds", "0"),
                "`--seeds` must be a whole number from 1 to 100, got '0'; for example --seeds 5",
            ),
            (("--epochs", "-1"), "`--epochs` must be a whole number from 1 to 1000, got '-1'; for example"),
            (("--epochs", "ten"), "`--epochs` must be a whole number from 1 to 1000, got 'ten'; for example"),
            (("--out", "curves.bmp"), "`--out` must end in .png, .pdf or .svg, got 'curves.bmp'; for example"),
            (
                ("--out", "no/x.png"),
                r"`--out` cannot be written, got 'no/x.png': the folder 'no' does not exist; name",
            ),
            (
                ("--out", "/sys/x.png"),
                "`--out` cannot be written, got '/sys/x.png': .*; name a file in an existing folder",
            ),
            (("--out", "folder.png"), "`--out` cannot be written, got 'folder.png': it is a folder; name a file in"),
        ],
        ids=["seeds", "epochs", "number", "suffix", "missing", "unwritable", "folder"],
    )
    def test_are_explained_before_any_work(self, arguments, message, tmp_path, monkeypatch, capsys):
        (tmp_path / "folder.png").mkdir()
        monkeypatch.chdir(tmp_path)
        assert main(["demo", *arguments]) == 2
        printed, complaint = capsys.readouterr()
        assert re.search(f"^qrjax demo: error: {message}", complaint)
        assert printed == ""
        assert os.listdir(tmp_path) == ["folder.png"]

    def test_end_a_process_with_status_2(self):
        finished = run("demo", "--seeds", "0")
        assert (finished.returncode, finished.stdout) == (2, "")
        assert "`--seeds` must be" in finished.stderr
        assert "Traceback" not in finished.stderr


class TestFailures:
    @pytest.mark.parametrize(("module", "project"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")])
    def test_missing_extra_says_what_to_install(self, module, project, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, module, None)
        assert main(["demo"]) == 1
        assert capsys.readouterr().err == (
            f"qrjax: error: the demo needs {project}, which is not installed: pip install 'qrjax[demo]'\n"
        )

    def test_no_device(self, monkeypatch, capsys):
        def none():
            raise RuntimeError("Unknown backend abacus")

        monkeypatch.setattr(jax, "devices", none)
        assert main(["demo"]) == 1
        complaint = capsys.readouterr().err
        assert complaint.startswith("qrjax: error: JAX has no device to train on; JAX_PLATFORMS=cpu may help: Unknown")

    @pytest.mark.slow
    def test_no_device_in_a_process_of_its_own(self, tmp_path):
        finished = run("demo", cwd=tmp_path, env=os.environ | {"JAX_PLATFORMS": "abacus"})
        assert finished.returncode == 1
        assert finished.stderr.startswith("qrjax: error: JAX has no device to train on; JAX_PLATFORMS=cpu may help")
        assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(("axes", "stride"), [("HW", 1), ("HW", 2), ("W", 1)])
def test_convolution_by_matmul_is_a_convolution(axes, stride):
    # Small integers: every sum is exact, whatever its order.
    random, strides = np.random.default_rng(0), (stride,) * len(axes)
    images = jnp.asarray(random.integers(-9, 9, (2, *(8, 7)[: len(axes)], 3)), jnp.float32)
    kernel = jnp.asarray(random.integers(-9, 9, (*(3, 3)[: len(axes)], 3, 5)), jnp.float32)
    names = f"N{axes}C", f"{axes}IO", f"N{axes}C"
    expected = lax.conv_general_dilated(images, kernel, strides, "SAME", dimension_numbers=names)
    np.testing.assert_array_equal(convolution_by_matmul(images, kernel, strides, "SAME"), expected)


def test_chance_of_a_gap():
    # Of the 20 ways to deal 3 + 3 results, the two that sort them have the largest gap.
    # 10,000 deals: standard error 0.003, and 5 of them.
    assert chance(np.array([[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]])) == pytest.approx(2 / 20, abs=5 * 0.003)
    assert chance(np.array([[0.1, 0.2], [0.1, 0.2]])) == 1
    assert chance(np.array([[0.1], [0.9]])) == 1
