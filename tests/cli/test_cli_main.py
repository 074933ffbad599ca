"""The command itself: help, usage errors, interrupts, completion, and files written whole or not at all."""

import importlib.metadata
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from driving import QRJAX, run

from qrjax._cli import _demo, main
from qrjax._cli._arguments import examples
from qrjax._cli._commands import COMMANDS
from qrjax._cli._failure import Failure
from qrjax._files._replacing import replacing


@pytest.mark.usefixtures("foreground")
def test_interrupt_that_python_drops_comes_again():
    # As it drops those that arrive while it collects garbage: what finalizers raise goes nowhere.
    program = """if True:
        import signal, sys, time
        from qrjax._cli import _demo, main

        class Deaf:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        def run(**_arguments):
            Deaf()
            for _ in range(1000):
                time.sleep(0.01)

        _demo.command.callback = run
        sys.exit(main(["demo"]))
    """
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (128 + signal.SIGINT, b"", b"")


def test_version():
    assert run("--version").stdout == f"qrjax {importlib.metadata.version('qrjax')}\n"


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = shown.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)  # a line each
    assert '"$(_QRJAX_COMPLETE=bash_source qrjax)"' in shown


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_ends_with_examples(command, capsys):
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80
    lines = shown.partition("\n  Examples:\n")[2].splitlines()
    assert lines[0].startswith(" ".join(["    qrjax", *command]))
    assert all(line.startswith("    ") for line in lines)
    assert main([*command, "-h"]) == 0
    assert capsys.readouterr().out == shown


def test_long_examples_are_broken_as_the_shell_takes_them():
    command = "qrjax matrix --save 'my file.npy' --rows 64 " + "--columns 64 " * 9 + "--note 'a b'"
    shown = examples("qrjax matrix", command)
    assert shown.startswith("\b\nExamples:\n  qrjax matrix\n  qrjax matrix --save 'my file.npy' --rows 64")
    lines = shown.splitlines()[3:]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 78
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_no_command_shows_the_help(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main([]) == 2
    assert capsys.readouterr() == ("", shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demoo"], r"qrjax: error: there is no command 'demoo'; did you mean demo\?"),
        (["xyz"], r"qrjax: error: there is no command 'xyz'; the commands are demo, .* and bench"),
        (["--versoin"], r"qrjax: error: no such option '?--versoin'?.* Did you mean '?--version'?\?"),
        (["demo", "--seed", "3"], r"qrjax demo: error: no such option '?--seed'?.* Did you mean '?--seeds'?\?"),
        (["demo", "--seeds"], "qrjax demo: error: option '--seeds' requires an argument"),
        (["demo", "more"], r"qrjax demo: error: got unexpected extra argument \(more\)"),
        (["matrix", "--mode", "hee"], r"qrjax matrix: error: `--mode` must be he, .*, got 'hee'; did you mean he\?"),
    ],
    ids=["command", "far", "option", "abbreviation", "value", "argument", "choice"],
)
def test_usage_errors_name_what_is_near(arguments, message, capsys):
    assert main(arguments) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert re.match(message, complaint)
    assert complaint.endswith(f"Read more: {message.partition(':')[0]} --help\n")


def failing(error):
    @click.command("demo")
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Failure("no disk; buy one"), 1, "qrjax: error: no disk; buy one\n"),
        (OSError(5, "broken", "x"), 1, "qrjax: error: [Errno 5] broken: 'x'\n"),
        (click.FileError("x", "gone"), 1, "qrjax: error: Could not open file 'x': gone\n"),
        (click.UsageError("Both."), 2, "qrjax demo: error: both.\nRead more: qrjax demo --help\n"),
        (click.BadParameter("Both."), 2, "qrjax demo: error: Both.\nRead more: qrjax demo --help\n"),
        (
            click.BadParameter("must be 3", param_hint="--n"),
            2,
            "qrjax demo: error: `--n` must be 3\nRead more: qrjax demo --help\n",
        ),
        (BrokenPipeError(), 141, ""),
    ],
    ids=["failure", "os", "file", "usage", "value", "named", "pipe"],
)
def test_what_becomes_of_errors(error, status, message, monkeypatch, capsys):
    monkeypatch.setattr(_demo, "command", failing(error))
    assert main(["demo"]) == status
    assert capsys.readouterr() == ("", message)


def test_closed_stderr_leaves_stdout_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["demoo"]) == 2
    monkeypatch.setattr(_demo, "command", failing(Failure("no disk; buy one")))
    assert main(["demo"]) == 1
    assert capsys.readouterr().out == ""


def complete(words, number, kind="bash_complete"):
    settings = {"_QRJAX_COMPLETE": kind, "COMP_WORDS": words, "COMP_CWORD": str(number)}
    return subprocess.run(QRJAX, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.slow
def test_completion_in_a_process_of_its_own():
    finished = complete("qrjax ", 1)
    assert finished.stdout.splitlines() == [f"plain,{name}" for name in COMMANDS]
    assert finished.stderr == ""


def test_completion_in_bash(monkeypatch, capfd):
    monkeypatch.setenv("_QRJAX_COMPLETE", "bash_complete")
    for words, number, *expected in [
        ("qrjax ", 1, *(f"plain,{name}" for name in COMMANDS)),
        ("qrjax sp", 1, "plain,spectrum"),
        ("qrjax demo --s", 2, "plain,--seeds"),
        ("qrjax demo --out pic", 3, "file,pic"),
        ("qrjax matrix --mode xa", 3, "plain,xavier"),
    ]:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        assert main([]) == 0
        assert capfd.readouterr().out.split() == expected


def test_completion_is_defined_for_the_shell(monkeypatch, capfd):
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setenv("_QRJAX_COMPLETE", f"{shell}_source")
        assert main([]) == 0
        assert f"_QRJAX_COMPLETE={shell}_complete" in capfd.readouterr().out
    monkeypatch.setenv("_QRJAX_COMPLETE", "abacus_source")
    assert main([]) == 2
    assert "_QRJAX_COMPLETE" in capfd.readouterr().err


def test_installed_command_is_main():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="qrjax")
    assert script.value == "qrjax._cli:main"


def test_help_version_and_completion_load_nothing_heavy():
    program = f"""if True:
        import os, sys
        from qrjax._cli import main

        for command in ("", *{list(COMMANDS)}):
            main([*command.split(), "--help"])
            os.environ |= dict(_QRJAX_COMPLETE="bash_complete", COMP_WORDS=f"qrjax {{command}} --", COMP_CWORD="2")
            main([])
            del os.environ["_QRJAX_COMPLETE"]
        main(["--version"])
        heavy = {{"jax", "jaxlib", "numpy", "flax", "optax", "rich", "sklearn", "matplotlib", "qrjax._demo"}}
        print(heavy & set(sys.modules))
    """
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "plain,--show-dist" in finished.stdout
    assert finished.stdout.endswith("set()\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_long_lists_of_options_stand_in_sections(command, capsys):
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [n for n, line in enumerate(lines) if line.endswith(":") and not line.startswith(" ")]
    starts = [n for n, line in enumerate(lines) if line.startswith("  -")]
    assert len(starts) > 2
    for heading, end in zip(headings, [*headings[1:], len(lines)], strict=True):
        assert sum(heading < n < end for n in starts) <= 9, lines[heading]


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
