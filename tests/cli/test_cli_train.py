"""`qrjax train` and `qrjax aggregate`, as a person uses them one after the other."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
from driving import ESCAPE, QRJAX, in_terminal, in_terminal_here, run

from qrjax import experiments
from qrjax._cli import main

FIVE = ("random", "sobol", "sequence", "hash", "autoinit")
TINY = ("--model", "mlp1", "--units", "8", "--epochs", "2", "--limit", "128", "--seeds", "3")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results file, made in this process."""
    file = tmp_path_factory.mktemp("train") / "results.jsonl"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["train", *TINY, "--source", ",".join(FIVE), "--out", str(file)]) == 0
    SAID[file] = printed.getvalue()
    return file


SAID = {}


def assert_told(printed, file, sources):
    """Accuracies of the last epoch, and what to do next."""
    assert printed.isascii()
    assert "digits, mlp1, adam, glorot_uniform: " in printed  # what all rows have in common
    rows = [line.split() for line in printed.splitlines() if line.startswith(sources)]
    records = experiments.load_results(file)
    last = 100 * np.array([record["accuracy"][-1] for record in records]).reshape(-1, 3)
    assert [row[0] for row in rows] == list(sources)
    for row, accuracies in zip(rows, last, strict=True):
        assert float(row[1]) == pytest.approx(accuracies.mean(), abs=0.006), row
        assert float(row[3]) == pytest.approx(accuracies.std(ddof=1), abs=0.006), row
    assert re.search(rf"^Compare them: qrjax aggregate (\S*/)?{file.name}$", printed, re.M), printed


class TestTrain:
    def test_table_tells_what_is_in_the_file(self, results):
        assert_told(SAID[results], results, FIVE)

    def test_a_missing_folder_is_named_as_it_was_given(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--dataset", "mnist", "--data", "no/folder"]) == 1
        assert "`--data` 'no/folder' does not exist" in capsys.readouterr().err

    @pytest.mark.slow
    def test_in_a_process_of_its_own(self, environment, tmp_path):
        finished = run("train", *TINY, "--source", "random,hash", "--out", "r.jsonl", env=environment, cwd=tmp_path)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert os.listdir(tmp_path) == ["r.jsonl"]
        assert_told(finished.stdout, tmp_path / "r.jsonl", ("random", "hash"))

    @pytest.mark.slow
    def test_in_a_terminal(self, environment, tmp_path):
        shown, status = in_terminal("train", *TINY, "--out", str(tmp_path / "r.jsonl"), env=environment)
        assert status == 0
        assert "mlp1 adam, epoch" in shown  # the bar's words
        assert "±" in shown

    def test_json_is_all_there_is_on_stdout(self, results, capsys):
        assert main(["train", *TINY, "--source", "hash", "--json", "--out", str(results)]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == [r for r in experiments.load_results(results) if r["settings"]["source"] == "hash"]

    def test_an_initializer_of_ones_own(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
        (tmp_path / "mine_here.py").write_text("import jax\nhalf = lambda: jax.nn.initializers.normal(0.5)\n")
        chosen = ["--initializer", "he_normal,mine_here:half", "--source", "random", "--epochs", "1"]
        assert main(["train", *TINY, *chosen, "--out", "r.jsonl"]) == 0
        printed = capsys.readouterr().out
        assert "mine_here:half" in printed
        records = experiments.load_results("r.jsonl")
        names = [(one["settings"]["initializer"], one["settings"]["source"]) for one in records[::3]]
        assert names == [("he_normal", "random"), ("mine_here:half", "own")]
        assert main(["aggregate", "r.jsonl", "--plot", "r.png"]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if "too few" in line]
        assert row.split()[0] == "mine_here:half"

    def test_every_option_is_in_the_results(self, tmp_path):
        file = tmp_path / "r.jsonl"
        options = {
            "model": "mlp2", "units": 8, "heads": 2, "blocks": 1, "limit": 64,
            "optimizer": "momentum", "learning-rate": 0.5, "depth": 3, "validation": 0.25, "epochs": 1,
            "batch-size": 16, "seeds": 1, "initializer": "he_normal",
            "source": "sequence", "scheme": "increment-start", "scheme-min-dim": 9, "filters": "3,5",
        }  # fmt: skip
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        assert main(["train", *arguments, "--out", str(file), "--quiet"]) == 0
        (record,) = experiments.load_results(file)
        found = {**record["settings"], "learning-rate": record["settings"]["learning_rate"], "dim": record["dim"]}
        assert found | {"batch-size": 16, "filters": [3, 5], "dim": 9} == found | {"batch-size": 16}
        for name in (
            "model",
            "units",
            "heads",
            "blocks",
            "limit",
            "optimizer",
            "epochs",
            "initializer",
            "source",
            "depth",
            "validation",
        ):
            assert record["settings"][name] == options[name]
        assert record["settings"]["batch_size"] == 16
        assert (record["scheme"]["name"], record["scheme"]["min_dim"]) == ("increment-start", 9)

    def test_several_rates(self, tmp_path, capsys):
        file = tmp_path / "r.jsonl"
        chosen = ["--learning-rate", "0.0001,0.01", "--validation", "0.25", "--source", "random", "--seeds", "1"]
        assert main(["train", *TINY, *chosen, "--out", str(file)]) == 0
        (record,) = experiments.load_results(file)
        assert (record["settings"]["learning_rate"], record["rate"]) == ([1e-4, 1e-2], 1e-2)
        assert main(["aggregate", str(file)]) == 1  # trials are no results
        assert "no experiment with two seeds of the baseline" in capsys.readouterr().err
        assert main(["train", *TINY, "--learning-rate", "0.1,x", "--out", str(file)]) == 2
        assert "must be a number, or several with commas between, got '0.1,x'" in capsys.readouterr().err
        assert main(["train", *TINY, "--learning-rate", "0.1,0.2", "--out", str(file)]) == 2
        assert "`--validation` is 0; give a share" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.usefixtures("foreground")
    def test_killed_and_repeated(self, environment, tmp_path):
        arguments = ["train", *TINY, "--source", "random,hash", "--seeds", "12", "--chunk", "2", "--quiet"]
        file = tmp_path / "r.jsonl"
        process = subprocess.Popen([*QRJAX, *arguments, "--out", str(file)], env=environment, stdout=subprocess.DEVNULL)
        while not file.exists() or len(file.read_bytes().splitlines()) < 4:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run(*arguments, "--out", str(file), env=environment).returncode == 0
        assert run(*arguments, "--out", str(tmp_path / "whole.jsonl"), env=environment).returncode == 0
        killed, whole = (experiments.load_results(tmp_path / name) for name in ("r.jsonl", "whole.jsonl"))
        assert [record["accuracy"] for record in killed] == [record["accuracy"] for record in whole]

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (["--model", "mlp3"], 2, "`--model` must be mlp1, mlp2, cnn, lstm, transformer or all, or several with "
             "commas between, got 'mlp3'; did you mean mlp2 or mlp1?"),
            (["--dataset", "minst"], 2, "got 'minst'; did you mean mnist or mnist1d?"),
            (["--initializer", "he_norml"], 2, "got 'he_norml'; did you mean he_normal"),
            (["--initializer", "he_norml,mine:f"], 2, "got 'he_norml'; did you mean he_normal"),
            (["--initializer", "gone:f"], 1, "`--initializer` 'gone:f': the module 'gone' cannot be imported"),
            (["--initializer", "qrjax:heee"], 1, "the module 'qrjax' has no 'heee'; name a function of it"),
            (["--initializer", "a-b:f"], 2, "`--initializer` of your own must be a dotted module, a colon and"),
            (["--source", "sobol,hsah"], 2, "got 'hsah'; did you mean hash?"),
            (["--scheme", "increment"], 2, "got 'increment'; did you mean increment-"),
            (["--epochs", "none"], 2, "`--epochs` must be a positive whole number, got 'none'; for example 10"),
            (["--filters", "16;32"], 2, "`--filters` must be whole numbers with commas between, got '16;32'"),
            (["--model", "lstm", "--no-norms"], 2, "`--norms` False is for a `--model` that has some"),
            (["--dataset", "imdb", "--data", ".", "--model", "cnn"], 2, "and `--dataset` 'imdb' holds tokens"),
            (["--dataset", "imdb", "--model", "lstm"], 2, "--data must name the folder of the dataset's files"),
            (["--data", "."], 2, "digits, which come with scikit-learn, and mnist1d, which is made, need none"),
            (["--model", "cnn", "--filters", "4,4,4,4,4"], 1, "(4, 4, 4, 4, 4) are too many for images of 8 x 8"),
            (["--source", "sequence", "--scheme-min-dim", "30000"], 1, "choose a smaller `--scheme-min-dim`"),
            (["--units", "99999999999999999999"], 2, "`--units` must be a positive integer"),
            (["--learning-rate", "-1"], 2, "`--learning-rate` must be a positive number, got -1.0"),
            (["--scheme-count", "9", "--scheme-range", "3"], 2, "9 starting dimensions need a `--scheme-range`"),
            (["--out", "nowhere/r.jsonl"], 2, "the folder"),
            (["--out", "r.csv"], 2, "`--out` must end in .jsonl, got 'r.csv'"),
            (["--dataset", "mnist", "--data", "."], 1, "train-images"),
        ],
    )  # fmt: skip
    def test_mistakes(self, tmp_path, monkeypatch, capsys, arguments, status, said):
        monkeypatch.chdir(tmp_path)
        assert main(["train", *arguments]) == status
        printed = capsys.readouterr()
        assert said in " ".join(printed.err.split())
        assert "Traceback" not in printed.err
        assert printed.out == ""

    def test_file_of_something_else(self, tmp_path, capsys):
        (tmp_path / "r.jsonl").write_text("mine\n")
        assert main(["train", *TINY, "--out", str(tmp_path / "r.jsonl")]) == 1
        assert "is damaged, or this is no file of results" in capsys.readouterr().err
        assert (tmp_path / "r.jsonl").read_text() == "mine\n"


class TestAggregate:
    def test_table_agrees_with_compare(self, results, capsys):
        assert main(["aggregate", str(results)]) == 0
        printed = capsys.readouterr().out
        assert printed.isascii()
        found = {one.source: one for one in experiments.compare(experiments.load_results(results))}
        rows = {line.split()[0]: line for line in printed.splitlines() if line.split()[:1] and line.split()[0] in found}
        assert rows.keys() == {"sobol", "sequence", "hash", "autoinit"}
        for source, line in rows.items():
            assert f"{100 * found[source].difference:+.2f}" in line
            assert found[source].verdict in line
        assert "Holm's correction for 4 comparisons in this table" in " ".join(printed.split())

    def test_one_comparison_is_not_several(self, results, tmp_path, capsys):
        pair = tmp_path / "pair.jsonl"
        lines = results.read_text().splitlines(keepends=True)
        pair.write_text(
            "".join(line for line in lines if not any(f'"{s}"' in line for s in ("sobol", "hash", "autoinit")))
        )
        assert main(["aggregate", str(pair)]) == 0
        assert "Holm's correction for 1 comparison in this table" in " ".join(capsys.readouterr().out.split())

    def test_json(self, results, capsys):
        assert main(["aggregate", str(results), "--json", "--baseline", "hash", "--target", "0.5"]) == 0
        printed = json.loads(capsys.readouterr().out)
        expected = experiments.compare(experiments.load_results(results), baseline="hash", target=0.5)
        assert [one["p_value"] for one in printed] == [one.p_value for one in expected]
        assert {one["target"] for one in printed} == {0.5}
        assert {one["baseline"] for one in printed} == {"hash"}

    def test_a_damaged_line_is_told(self, results, tmp_path, capsys):
        lines = results.read_text().splitlines()
        (tmp_path / "r.jsonl").write_text("\n".join([*lines[:3], lines[3][:40], *lines[3:]]) + "\n")
        assert main(["aggregate", str(tmp_path / "r.jsonl"), "--json"]) == 0
        printed = capsys.readouterr()
        assert len(json.loads(printed.out)) == 4
        (line,) = printed.err.splitlines()
        assert line.startswith("qrjax aggregate: line 4 of ")
        assert "is damaged and was set aside" in line
        assert main(["train", *TINY, "--source", ",".join(FIVE), "--json", "--out", str(tmp_path / "r.jsonl")]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("qrjax train: line 4 of ")

    def test_markdown(self, results, capsys):
        assert main(["aggregate", str(results), "--markdown"]) == 0
        lines = capsys.readouterr().out.splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert len(table) == 2 + 4
        assert len({line.count("|") for line in table}) == 1

    @pytest.mark.parametrize(("name", "reader"), [("t.csv", pandas.read_csv), ("t.parquet", pandas.read_parquet)])
    def test_rows_for_other_programs(self, results, tmp_path, capsys, name, reader):
        assert main(["aggregate", str(results), "--out", str(tmp_path / name), "--json"]) == 0
        printed = capsys.readouterr()
        assert f"The table of all epochs is in {tmp_path / name}" in printed.err
        json.loads(printed.out)
        assert len(reader(tmp_path / name)) == 5 * 3 * 2

    def test_diverged_results_are_strict_json(self, tmp_path, capsys):
        diverging = ["--optimizer", "sgd", "--learning-rate", "1e30", "--seeds", "1", "--source", "random"]
        assert main(["train", *TINY, *diverging, "--json", "--out", str(tmp_path / "r.jsonl")]) == 0
        (record,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert record["loss"][-1] == "NaN"

    def test_what_varies_has_a_column(self, results, tmp_path, capsys):
        records = experiments.load_results(results)
        for record in list(records):
            records.append({**record, "settings": {**record["settings"], "learning_rate": 0.5}})
        file = tmp_path / "two.jsonl"
        header = results.read_text().splitlines()[0]
        file.write_text("\n".join([header, *map(json.dumps, records)]) + "\n")
        assert main(["aggregate", str(file), "--plot", str(tmp_path / "two.png")]) == 0
        printed = capsys.readouterr().out
        assert "learning_rate" in printed
        rows = [line.split()[:2] for line in printed.splitlines() if line.split()[:1] in (["0.001"], ["0.5"])]
        assert rows == [
            [rate, source] for rate in ("0.001", "0.5") for source in ("sobol", "sequence", "hash", "autoinit")
        ]

    def test_one_source_is_no_failure_if_files_were_asked_for(self, results, tmp_path, capsys):
        lines = [line for line in results.read_text().splitlines() if '"source": "hash"' in line or "format" in line]
        (tmp_path / "one.jsonl").write_text("\n".join(lines) + "\n")
        assert main(["aggregate", str(tmp_path / "one.jsonl"), "--out", str(tmp_path / "one.csv")]) == 0
        printed = capsys.readouterr()
        assert "The table of all epochs is in" in printed.out
        assert "nothing to compare: all results are from the source hash" in printed.err
        assert main(["aggregate", str(tmp_path / "one.jsonl")]) == 1

    def test_narrow_terminal_leaves_out_no_digits(self, results):
        shown, status = in_terminal_here("aggregate", str(results), columns=40)
        assert status == 0
        assert "…" not in shown
        assert "too few seeds" in ESCAPE.sub("", shown)

    def test_picture(self, results, tmp_path):
        assert main(["aggregate", str(results), "--plot", str(tmp_path / "b.png")]) == 0
        assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            ([], 2, "missing argument"),
            (["gone.jsonl"], 1, "cannot read gone.jsonl: No such file or directory; name files of `qrjax train`"),
            (["."], 1, "Is a directory"),
            (["bad.jsonl"], 1, "is not a file of qrjax.experiments"),
            (["empty.jsonl"], 1, "empty.jsonl holds no results yet; `qrjax train` adds some"),
            (["empty.jsonl", "--json", "--markdown"], 2, "give --json or --markdown, not both"),
            (["empty.jsonl", "--target", "95"], 2, "`--target` must be between 0 and 1, got 95.0"),
            (["empty.jsonl", "--baseline", "hsh"], 2, "got 'hsh'; did you mean hash?"),
            (["empty.jsonl", "--out", "t.xlsx"], 2, "`--out` must end in .csv or .parquet"),
        ],
    )
    def test_mistakes(self, tmp_path, monkeypatch, capsys, arguments, status, said):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "bad.jsonl").write_text('{"format": "qrjax.sweep", "version": 1}\n')
        (tmp_path / "empty.jsonl").write_text('{"format": "qrjax.experiments", "version": 1}\n')
        assert main(["aggregate", *arguments]) == status
        printed = capsys.readouterr()
        assert said in printed.err
        assert "Traceback" not in printed.err
