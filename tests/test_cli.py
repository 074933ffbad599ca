"""The command line, driven in subprocesses as a user drives it; its arguments also in this process."""

import importlib.metadata
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qrjax._cli import main
from qrjax._cli._files import replacing
from qrjax._demo._model import convolution_by_matmul
from qrjax._demo._summary import chance

QRJAX = (sys.executable, "-W", "error", "-m", "qrjax")
TINY = ("demo", "--seeds", "2", "--epochs", "1")
ESCAPE = "\x1b"
PNG = b"\x89PNG\r\n\x1a\n"
# A row of the table: the initializer, and mean, deviation, best, worst, epoch 1, final loss; without the seconds.
ROW = re.compile(r"(Flax default|he_normal_qr\(\)|he_normal_hash\(\)) +([\d.]+) (?:±|\+/-) ([\d. ]+) [\d.]+\s*$", re.M)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of the commands; what one has compiled the next need not."""
    compiled = str(tmp_path_factory.mktemp("compiled"))
    settings = {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return os.environ | settings | {"TERM": "xterm-256color", "COLUMNS": "100"}


@pytest.fixture
def foreground():
    """Children that heed SIGINT, even where these tests run in the background of a script and inherit its disregard."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def quiet(environment, tmp_path_factory):
    """A finished `qrjax demo --quiet`, and its picture."""
    picture = tmp_path_factory.mktemp("quiet") / "curves.png"
    return run(*TINY, "--quiet", "--out", str(picture), env=environment), picture


def run(*arguments, **options):
    return subprocess.run([*QRJAX, *arguments], capture_output=True, text=True, timeout=300, check=False, **options)


def rows(output):
    """The numbers of the table, spaces apart, by initializer."""
    return {name: [mean, *rest.split()] for name, mean, rest in ROW.findall(output)}


def in_terminal(*arguments, env, interrupt_at=None):
    """What a run in a pseudo-terminal shows, and its exit status; interrupted once `interrupt_at` shows."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen([*QRJAX, *arguments], env=env, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    while chunk := read(terminal):
        shown += chunk
        if interrupt_at is not None and interrupt_at in shown:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(terminal)
    return shown.decode(), process.wait(timeout=60)


def read(terminal):
    try:
        return os.read(terminal, 2**16)
    except OSError:  # Linux's way to say that the other end is closed
        return b""


class TestDemo:
    def test_quiet_prints_a_plain_table(self, quiet):
        finished, picture = quiet
        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout.isascii()
        assert ESCAPE not in finished.stdout
        assert max(map(len, finished.stdout.splitlines()[:-1])) <= 80
        assert finished.stdout.endswith(f"The loss curves are in {picture}\n")

    def test_numbers_are_consistent(self, quiet):
        table = rows(quiet[0].stdout)
        assert list(table) == ["Flax default", "he_normal_qr()", "he_normal_hash()"]
        for mean, deviation, best, worst, first, loss in (map(float, row) for row in table.values()):
            assert 80 < worst <= mean <= best <= 100
            assert mean == pytest.approx((best + worst) / 2, abs=0.011)  # two seeds, rounded to 0.01
            assert deviation == pytest.approx((best - worst) / 2**0.5, abs=0.011)
            assert first == mean  # one epoch
            assert 0 < loss < np.log(10)  # better than guessing

    def test_picture_is_whole(self, quiet):
        picture = quiet[1]
        assert picture.read_bytes().startswith(PNG)
        assert os.listdir(picture.parent) == [picture.name]

    def test_terminal_shows_bars_and_the_same_numbers(self, quiet, environment, tmp_path):
        shown, status = in_terminal(*TINY, "--out", str(tmp_path / "curves.png"), env=environment)
        assert status == 0
        assert ESCAPE in shown
        assert "━" in shown
        assert "1/1" in shown
        plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
        assert rows(plain) == rows(quiet[0].stdout)

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

    @pytest.mark.usefixtures("foreground")
    def test_interrupt_is_quiet_and_restores_the_terminal(self, environment, tmp_path):
        arguments = ("demo", "--epochs", "50", "--out", str(tmp_path / "curves.png"))
        shown, status = in_terminal(*arguments, env=environment, interrupt_at=b"compiling")
        assert status == 128 + signal.SIGINT
        assert "Traceback" not in shown
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
        assert os.listdir(tmp_path) == []

    @pytest.mark.usefixtures("foreground")
    def test_interrupt_that_python_drops_comes_again(self):
        # As it drops those that arrive while it collects garbage: what finalizers raise goes nowhere.
        program = """if True:
            import signal, sys, time
            from qrjax._cli import _main

            class Deaf:
                def __del__(self):
                    signal.raise_signal(signal.SIGINT)

            def run(_args):
                Deaf()
                for _ in range(1000):
                    time.sleep(0.01)

            _main._demo.run = run
            sys.exit(_main.main(["demo"]))
        """
        finished = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
        assert (finished.returncode, finished.stdout, finished.stderr) == (128 + signal.SIGINT, b"", b"")

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
                "argument --seeds: must be a whole number from 1 to 100, got '0'; for example --seeds 5",
            ),
            (("--epochs", "-1"), "argument --epochs: must be a whole number from 1 to 1000, got '-1'; for example"),
            (("--epochs", "ten"), "argument --epochs: must be a whole number from 1 to 1000, got 'ten'; for example"),
            (("--out", "curves.bmp"), "argument --out: must end in .png, .pdf or .svg, got 'curves.bmp'; for example"),
            (
                ("--out", "no/x.png"),
                r"argument --out: cannot write 'no/x.png': the folder '.*/no' does not exist; name",
            ),
            (
                ("--out", "/sys/x.png"),
                "argument --out: cannot write '/sys/x.png': .*; name a file in an existing folder",
            ),
            (("--out", "folder.png"), "argument --out: cannot write 'folder.png': it is a folder; name a file in"),
        ],
        ids=["seeds", "epochs", "number", "suffix", "missing", "unwritable", "folder"],
    )
    def test_are_explained_before_any_work(self, arguments, message, tmp_path, monkeypatch, capsys):
        (tmp_path / "folder.png").mkdir()
        monkeypatch.chdir(tmp_path)
        assert main(["demo", *arguments]) == 2
        printed, complaint = capsys.readouterr()
        assert re.search(message, complaint)
        assert printed == ""
        assert os.listdir(tmp_path) == ["folder.png"]

    def test_end_a_process_with_status_2(self):
        finished = run("demo", "--seeds", "0")
        assert (finished.returncode, finished.stdout) == (2, "")
        assert "argument --seeds: must be" in finished.stderr
        assert "Traceback" not in finished.stderr

    def test_no_command_shows_the_help(self, capsys):
        assert main([]) == 2
        assert "demo" in capsys.readouterr().err


class TestFailures:
    @pytest.mark.parametrize(("module", "project"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")])
    def test_missing_extra_says_what_to_install(self, module, project, tmp_path):
        (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('gone', name={module!r})")
        finished = run("demo", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
        assert finished.returncode == 1
        assert finished.stderr == (
            f"qrjax: error: the demo needs {project}, which is not installed: pip install 'qrjax[demo]'\n"
        )

    def test_no_device(self, tmp_path):
        finished = run("demo", cwd=tmp_path, env=os.environ | {"JAX_PLATFORMS": "abacus"})
        assert finished.returncode == 1
        assert finished.stderr.startswith("qrjax: error: JAX has no device to train on; JAX_PLATFORMS=cpu may help")
        assert "Traceback" not in finished.stderr


def test_help_and_version(capsys):
    assert run("--version").stdout == f"qrjax {importlib.metadata.version('qrjax')}\n"
    for arguments in ((), ("demo",)):
        assert main([*arguments, "--help"]) == 0
        assert re.search(r"examples?:\n  qrjax demo", capsys.readouterr().out)


def test_installed_command_is_main():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="qrjax")
    assert script.value == "qrjax._cli:main"


def test_help_loads_nothing_heavy():
    heavy = "{'flax', 'optax', 'rich', 'sklearn', 'matplotlib', 'qrjax._demo'}"
    program = f"import sys, qrjax._cli as c; c.main(['demo', '--help']); print({heavy} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout.endswith("set()\n")


def test_failed_replacement_keeps_the_old_file(tmp_path: Path):
    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError("disk full")

    path = tmp_path / "picture.png"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_by_matmul_is_a_convolution(stride):
    # Small integers: every sum is exact, whatever its order.
    random = np.random.default_rng(0)
    images = jnp.asarray(random.integers(-9, 9, (2, 8, 7, 3)), jnp.float32)
    kernel = jnp.asarray(random.integers(-9, 9, (3, 3, 3, 5)), jnp.float32)
    expected = lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(convolution_by_matmul(images, kernel, (stride, stride), "SAME"), expected)


def test_chance_of_a_gap():
    # Of the 20 ways to deal 3 + 3 results, the two that sort them have the largest gap.
    # 10,000 deals: standard error 0.003, and 5 of them.
    assert chance(np.array([[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]])) == pytest.approx(2 / 20, abs=5 * 0.003)
    assert chance(np.array([[0.1, 0.2], [0.1, 0.2]])) == 1
    assert chance(np.array([[0.1], [0.9]])) == 1
