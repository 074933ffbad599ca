"""What type checkers are told: names as they are checked, overloads as the function is, pictures as matplotlib's."""

import inspect
import subprocess
import sys
import textwrap
import typing

import pytest

import qrjax
from qrjax import experiments
from qrjax._autoinit._names import DRAWN
from qrjax._experiments._names import OWN, SOURCES
from qrjax._experiments._settings import KINDS, MODELS, OPTIMIZERS
from qrjax._initializers._builders import DISTRIBUTIONS


def test_literals_have_the_names_that_are_checked():
    assert (*DISTRIBUTIONS, "orthogonal", "own") == DRAWN
    fields = typing.get_type_hints(experiments.Settings)
    for name, known in (("dataset", KINDS), ("model", MODELS), ("source", (*SOURCES, OWN)), ("optimizer", OPTIMIZERS)):
        assert set(typing.get_args(fields[name])) == set(known), name


def test_overloads_of_autoinit_have_its_parameters():
    reported, plain = map(inspect.signature, typing.get_overloads(qrjax.autoinit))
    own = inspect.signature(qrjax.autoinit)
    assert {n: (p.kind, p.default, p.annotation) for n, p in plain.parameters.items()} == {
        n: (p.kind, p.default, p.annotation) for n, p in own.parameters.items()
    }
    assert reported.return_annotation == "tuple[Any, Report]"


@pytest.mark.slow
def test_a_type_checker_sees_what_a_user_gets(tmp_path):
    # Lines that end in E are errors.
    code = textwrap.dedent("""
        from typing import Any
        import qrjax
        module: Any
        x: Any
        variables, report = qrjax.autoinit(module, x, report=True)
        gains: list[float | None] = [row.gain for row in report]
        numbers: dict[str, float] = report.scalars()
        alone = qrjax.autoinit(module, x, layout="neurons")["params"]
        qrjax.autoinit(module, x, layout="ouputs")  # E
        qrjax.autoinit(module, x, distribution="normel")  # E
        qrjax.analyze(module, x, weights="mine")  # E
        qrjax.record(module, x, by="hand")  # E
        qrjax.he_normal_qr(layout="ouputs")  # E
        qrjax.experiments.Settings(dataset="minst")  # E
        title: str = qrjax.plot.spectrum({}).get_title()
        wrong: int = qrjax.plot.weights(x).get_title()  # E
    """)
    (tmp_path / "user.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = [n for n, line in enumerate(code.splitlines(), 1) if line.endswith("# E")]
    found = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line]
    assert found == expected, done.stdout
