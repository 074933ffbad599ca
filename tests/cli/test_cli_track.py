"""`qrjax track`: what it prints and writes is what qrjax.changes, qrjax.awakened and qrjax.prune say."""

import json
import os
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpointed import (
    Network,
    files_of_at_most,
    flat,
    loaded,
    recorded,
    save_npz,
    save_orbax,
    save_safetensors,
    save_steps,
    state,
    trained,
)
from driving import ESCAPE, PNG, in_terminal_here, run

import qrjax
from qrjax._cli import main

RECORD, VARIABLES = recorded()
PARAMS = trained(VARIABLES["params"])
STATISTICS = VARIABLES["batch_stats"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A record and checkpoints of every format."""
    folder = tmp_path_factory.mktemp("saved")
    RECORD.save(folder / "record.json")
    whole = {"params": PARAMS, "batch_stats": STATISTICS}
    save_npz(folder / "model.npz", flat(whole))
    save_safetensors(folder / "model.safetensors", flat(whole, "."))
    save_orbax(folder / "one", whole, RECORD)
    save_steps(folder / "all", {1: state(VARIABLES["params"]), 20: state(PARAMS)}, RECORD)
    return folder


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """The current folder, with the record and the checkpoints in it."""
    for file in saved.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments):
    assert main(["track", *arguments]) == 0
    return capsys.readouterr().out


class TestChanges:
    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize(
        "name",
        ["model.npz", "model.safetensors", "all", *(pytest.param(n, marks=pytest.mark.slow) for n in ("one", "all/20")),
         "all/20/default"],
    )  # fmt: skip
    def test_are_those_of_qrjax(self, name, capsys):
        expected = qrjax.changes(RECORD, PARAMS)
        assert 0 < expected.total.changed < expected.total.weights
        assert json.loads(printed(capsys, "record.json", name, "--json")) == json.loads(expected.to_json())
        title, table = printed(capsys, "record.json", name).split("\n\n", 1)
        kind = {"npz": "npz", "safetensors": "safetensors", "all": "Orbax, step 20"}.get(
            name.rpartition(".")[2], "Orbax"
        )
        assert title == f"{name} ({kind}, weights at 'params') against record.json"
        assert table == f"{expected}\n"

    @pytest.mark.usefixtures("folder")
    def test_of_another_step_and_beyond_a_threshold(self, capsys):
        first = json.loads(printed(capsys, "record.json", "all", "--step", "1", "--json"))
        assert first == json.loads(qrjax.changes(RECORD, VARIABLES["params"]).to_json())
        assert first["total"]["changed"] == 0
        found = json.loads(printed(capsys, "record.json", "all", "--threshold", "0.15", "--json"))
        expected = qrjax.changes(RECORD, PARAMS, threshold=0.15)
        assert found == json.loads(expected.to_json())
        assert 0 < expected.total.changed < qrjax.changes(RECORD, PARAMS).total.changed

    @pytest.mark.usefixtures("folder")
    def test_from_the_record_in_a_checkpoint(self, capsys):
        for record in ("one", "all"):
            found = json.loads(printed(capsys, record, "model.npz", "--json"))
            assert found == json.loads(qrjax.changes(RECORD, PARAMS).to_json())

    @pytest.mark.usefixtures("folder")
    def test_below_a_subtree(self, capsys):
        assert main(["track", "record.json", "all", "--subtree", "opt_state/0/mu", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found == json.loads(qrjax.changes(RECORD, jax.tree.map(jnp.zeros_like, PARAMS)).to_json())

    @pytest.mark.few("png*")
    @pytest.mark.parametrize(("suffix", "start"), [("png", PNG), ("svg", b"<?xml")])
    def test_in_a_picture(self, suffix, start, folder, capsys):
        picture = folder / f"changes.{suffix}"
        shown = printed(capsys, "record.json", "model.npz", "--plot", str(picture))
        assert shown.endswith(f"The picture is in {picture.name}\n")
        assert picture.read_bytes().startswith(start)
        assert not list(folder.glob(".*"))

    @pytest.mark.usefixtures("folder")
    def test_beside_json_the_picture_is_named_on_stderr(self, capsys):
        assert main(["track", "record.json", "model.npz", "--plot", "changes.svg", "--json"]) == 0
        shown, aside = capsys.readouterr()
        assert json.loads(shown)["rows"]
        assert aside == "The picture is in changes.svg\n"


PRUNINGS = [
    ((), {}, "zero"),
    (("--criterion", "movement", "--scope", "global"), {"criterion": "movement", "scope": "global"}, "zero"),
    (("--criterion", "magnitude", "--to", "initial"), {"criterion": "magnitude"}, "initial"),
    (
        ("--criterion", "relative_change", "--select", "head/*"),
        {"criterion": "relative_change", "select": "head/*"},
        "zero",
    ),
    (
        ("--select", "head/*", "--select", "*/bias", "--keep", "*/kernel"),
        {"select": ["head/*", "*/bias"], "keep": "*/kernel"},
        "zero",
    ),
    (("--criterion", "random", "--seed", "3"), {"criterion": "random", "key": jax.random.key(3)}, "zero"),
]


class TestPruning:
    @pytest.mark.few("--criterion magnitude --to initial")
    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize(("options", "keywords", "to"), PRUNINGS, ids=[" ".join(p[0]) for p in PRUNINGS])
    def test_is_that_of_qrjax(self, options, keywords, to, capsys):
        mask = qrjax.awakened(RECORD, PARAMS, sparsity=0.4, **keywords)
        expected = flat({"params": qrjax.prune(PARAMS, mask, to, RECORD), "batch_stats": STATISTICS})
        lost = {path: int(np.sum(~kept)) for path, kept in flat(mask).items()}
        arguments = ("record.json", "model.npz", "--prune-sparsity", "0.4", *options, "--save", "pruned.npz")
        assert main(["track", *arguments, "--json"]) == 0
        shown, aside = capsys.readouterr()
        assert aside == "The pruned checkpoint is in pruned.npz\n"
        said = json.loads(shown)["pruning"]
        assert {row["path"]: row["pruned"] for row in said["rows"]} == lost
        assert said["total"]["pruned"] == sum(lost.values()) > 0
        assert said["to"] == to
        assert_same(loaded_here("pruned.npz"), expected)
        table = printed(capsys, *arguments).partition("\nPruned to ")[2]
        for path, count in lost.items():
            assert re.search(rf"^{path} +\d+ +{count} ", table, re.MULTILINE)
        assert re.search(rf"^total +{said['total']['weights']} +{sum(lost.values())} ", table, re.MULTILINE)

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("source", ["model.npz", "model.safetensors", "one", "all"])
    @pytest.mark.parametrize("target", ["pruned.npz", "pruned.safetensors"])
    def test_keeps_names_and_all_other_arrays(self, source, target, capsys):
        mask = qrjax.awakened(RECORD, PARAMS, sparsity=0.5)
        left = qrjax.prune(PARAMS, mask)
        tree = state(left) | {"opt_state": {}} if source == "all" else {"params": left, "batch_stats": STATISTICS}
        expected = flat(tree, "." if source == "model.safetensors" else "/")
        printed(capsys, "record.json", source, "--prune-sparsity", "0.5", "--save", target)
        found = loaded_here(target)
        assert_same({name: array for name, array in found.items() if not name.startswith("opt_state")}, expected)
        moments = {name for name in found if name.startswith("opt_state/0/mu/")}
        assert len(moments) == (6 if source == "all" else 0)
        again = json.loads(printed(capsys, "record.json", target, "--json"))
        assert again == json.loads(qrjax.changes(RECORD, left).to_json())

    @pytest.mark.usefixtures("folder")
    def test_with_a_subtree_writes_that_alone(self, capsys):
        arguments = ("--subtree", "params", "--prune-sparsity", "0.5", "--save", "pruned.safetensors")
        printed(capsys, "record.json", "all", *arguments)
        left = qrjax.prune(PARAMS, qrjax.awakened(RECORD, PARAMS, sparsity=0.5))
        assert_same(loaded_here("pruned.safetensors"), flat({"params": left}))

    def test_without_a_file_writes_nothing(self, folder, capsys):
        before = sorted(os.listdir(folder))
        shown = " ".join(printed(capsys, "record.json", "one", "--prune-sparsity", "0.5").split())
        assert "Pruned to zero by change: 50 % of the weights that may go, ranked in each variable" in shown
        assert sorted(os.listdir(folder)) == before

    def test_says_what_it_leaves_out(self, folder, capsys):
        save_npz(folder / "named.npz", flat(PARAMS) | {"names": np.array(["x"])})
        assert main(["track", "record.json", "named.npz", "--prune-sparsity", "1", "--save", "p.npz"]) == 0
        assert "Left out, as they are no arrays of numbers: 'names'" in capsys.readouterr().err

    @pytest.mark.parametrize("target", ["pruned.npz", "pruned.safetensors"])
    def test_on_a_full_disk_keeps_the_old_file(self, target, folder, capsys):
        (folder / target).write_text("old")
        with files_of_at_most(300):
            assert main(["track", "record.json", "model.npz", "--prune-sparsity", "0.5", "--save", target]) == 1
        shown, complaint = capsys.readouterr()
        assert re.search("cannot write .*File too large.*; nothing was changed, choose another --save", complaint)
        assert (shown, (folder / target).read_text()) == ("", "old")
        assert not list(folder.glob(".*"))

    @pytest.mark.usefixtures("folder")
    def test_never_writes_over_its_checkpoint(self, saved, capsys):
        before = (saved / "model.npz").read_bytes()
        for name in ("model.npz", str(saved / "model.npz")):
            assert main(["track", "record.json", "model.npz", "--prune-sparsity", "0.5", "--save", name]) == 2
            assert "`--save` must not be the checkpoint itself; name another file" in capsys.readouterr().err
        assert (saved / "model.npz").read_bytes() == before


def loaded_here(name):
    return loaded(Path(name))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


WRONG = [
    (("nowhere.json", "one"), 2, "`RECORD` must be there, and there is no file or folder 'nowhere.json'"),
    (("record.json", "nowhere"), 2, r"`CHECKPOINT\.\.\.` must be there, and there is no file or folder 'nowhere'"),
    (
        ("record.json", "record.json"), 2,
        r"`CHECKPOINT` must be the folder of an Orbax checkpoint, a \.safetensors file or the"
    ),
    (("record.json", "all", "--step", "2"), 2, "`--step` must be one of 1, 20, got 2"),
    (("record.json", "all", "--step", "last"), 2, "`--step` must be a whole number from 0 .*got 'last'; for example"),
    (("record.json", "one", "--step", "2"), 2, "`--step` belongs to folders of several steps"),
    (
        ("record.json", "all", "--subtree", "weights"), 2,
        "`--subtree` must be a part .*got 'weights'; there are 'opt_state'"
    ),
    (
        ("record.json", "one", "--threshold", "-1"), 2,
        "`--threshold` must be a number from 0, got '-1'; for example --thr"
    ),
    (("record.json", "one", "--threshold", "nan"), 2, "`--threshold` must be a number from 0, got 'nan'"),
    (("record.json", "one", "--prune-sparsity", "50"), 2, "`--prune-sparsity` must be a number from 0 to 1, got '50'"),
    (
        ("record.json", "one", "--save", "p.npz"), 2,
        r"--save belongs to pruning; give --prune-sparsity too, for example 0\.5"
    ),
    (("record.json", "one", "--to", "zero"), 2, "--to belongs to pruning; give --prune-sparsity too"),
    (("record.json", "one", "--criterion", "size"), 2, "`--criterion` must be change, relative_change, .* got 'size'"),
    (
        ("record.json", "one", "--prune-sparsity", "1", "--save", "p.pt"), 2,
        r"`--save` must end in \.npz or \.safetensors, got"
    ),
    (
        ("record.json", "one", "--prune-sparsity", "1", "--save", "no/p.npz"), 2,
        "`--save` cannot be written, .*does not exist"
    ),
    (
        ("record.json", "one", "--prune-sparsity", "1", "--save", "/sys/p.npz"), 2,
        "`--save` cannot be written, got '/sys/p"
    ),
    (
        ("record.json", "one", "--prune-sparsity", "1", "--select", "tail/*"), 1,
        r"no variable is left to prune .*'tail/\*'"
    ),
    (("altered.json", "one"), 1, "altered.json: the record was altered after it was written"),
    (("model.npz", "one"), 1, "model.npz: "),
    (("empty.json", "one"), 1, "empty.json: the record is no JSON"),
    (
        ("other.json", "one"), 1,
        "'hidden/kernel' has the shape .*, and in the record .*; is this another model's record"
    ),
    (("theirs.json", "one"), 1, "'head/kernel' come from a builder of the model's own .2 of 8 var.* its code: --model"),
    (("steps", "one"), 1, "'.*steps' has no record in its metadata"),
    (("record.json", "steps"), 1, "'.*steps' holds no Orbax checkpoint, or one that was never completed"),
    (("record.json", "empty.npz"), 1, "cannot read 'empty.npz': it is no .npz file, or cut short"),
    (("record.json", "half.safetensors"), 1, "cannot read 'half.safetensors', which may be damaged"),
    (
        ("record.json", "missing.npz"), 1,
        r"the checkpoint lacks 'head/bias' \(1 of the record's 6 weights are missing\)"
    ),
    (
        ("record.json", "more.npz"), 1,
        r"the checkpoint has 'tail', which the record lacks \(1 more than the record's 6 w"
    ),
    (
        ("record.json", "shape.npz"), 1,
        r"'head/bias' has the shape \(4,\), and in the record \(3,\); is this another mod"
    ),
    (("record.json", "dtype.npz"), 1, "'head/bias' has the dtype float16, in the record float32; convert it back"),
]  # fmt: skip


@pytest.fixture
def faulty(folder, faults):
    """The current folder, with what is wrong in it too."""
    for file in faults.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="module")
def faults(saved, tmp_path_factory):
    """What is wrong with records and checkpoints."""
    folder = tmp_path_factory.mktemp("faults")
    text = (saved / "record.json").read_text()
    (folder / "altered.json").write_text(text.replace('"seed": 7', '"seed": 8').replace("hidden", "hider"))
    (folder / "empty.json").touch()
    recorded(x=jax.ShapeDtypeStruct((2, 5), jnp.float32))[0].save(folder / "other.json")
    qrjax.record(Network(), jnp.ones((2, 6)), by="init", key=jax.random.key(0)).save(folder / "theirs.json")
    (folder / "steps").mkdir()
    (folder / "empty.npz").touch()
    (folder / "half.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:200])
    arrays = flat(PARAMS)
    save_npz(folder / "missing.npz", {name: array for name, array in arrays.items() if name != "head/bias"})
    save_npz(folder / "more.npz", arrays | {"tail": np.ones(2)})
    save_npz(folder / "shape.npz", arrays | {"head/bias": np.ones(4, np.float32)})
    save_npz(folder / "dtype.npz", arrays | {"head/bias": np.ones(3, np.float16)})
    return folder


@pytest.mark.parametrize(("arguments", "status", "message"), WRONG)
def test_what_is_wrong_is_said_in_a_line(arguments, status, message, faulty, capsys):
    before = sorted(os.listdir(faulty))
    assert main(["track", *arguments]) == status
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert re.search(message, complaint), complaint
    assert "Traceback" not in complaint
    assert len(complaint.splitlines()) == status
    assert sorted(os.listdir(faulty)) == before


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "extra"), [("matplotlib", "plot"), ("safetensors", "checkpoints")])
def test_what_is_not_installed_is_said_before_any_work(name, extra, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(qrjax.Record, "load", None)
    more = ("--plot", "p.png") if name == "matplotlib" else ("--prune-sparsity", "0.5", "--save", "p.safetensors")
    assert main(["track", "record.json", "model.npz", *more]) == 1
    assert f"pip install 'qrjax[{extra}]'" in capsys.readouterr().err


class TestProcess:
    @pytest.mark.slow
    def test_prints_plain_text_and_writes_files(self, folder, environment):
        options = ("--prune-sparsity", "0.5", "--save", "pruned.safetensors", "--plot", "changes.png")
        finished = run("track", "record.json", "all", *options, cwd=folder, env=environment)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert not ESCAPE.search(finished.stdout)
        assert str(qrjax.changes(RECORD, PARAMS)) in finished.stdout
        assert (folder / "changes.png").read_bytes().startswith(PNG)
        assert loaded(folder / "pruned.safetensors")["params/hidden/kernel"].shape == (6, 8)

    @pytest.mark.slow
    def test_shows_no_traceback(self, faulty, environment):
        finished = run("track", "record.json", "more.npz", cwd=faulty, env=environment)
        assert (finished.returncode, finished.stdout) == (1, "")
        assert finished.stderr.startswith("qrjax: error: the checkpoint has 'tail'")
        assert finished.stderr.count("\n") == 1

    @pytest.mark.slow
    def test_in_a_terminal(self, folder):
        record, checkpoint = str(folder / "record.json"), str(folder / "one")
        shown, status = in_terminal_here("track", record, checkpoint, "--prune-sparsity", "0.5")
        assert status == 0
        assert "changed: moved by more than 0" in shown
        assert "50.0 %" in ESCAPE.sub("", shown)
