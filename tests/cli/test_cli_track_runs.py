"""`qrjax track` of several checkpoints of one run, and of models whose builders are not qrjax's."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpointed import Network, flat, recorded, save_npz, save_orbax
from driving import PNG

import qrjax
from qrjax._cli import main
from qrjax._plot._movement import layers

RECORD, VARIABLES = recorded()
STEPS = (1, 5, 20, 100)
MODELS = """
import flax.linen as nn
from flax import nnx
import jax


class Network(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x, scale=1.0):
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(self.width, name="hidden")(x))) * scale


class Small(nnx.Module):
    def __init__(self, width=4, *, rngs):
        self.layer = nnx.Linear(6, width, rngs=rngs)


def variables(key, width=8):
    return {"w": jax.random.normal(key, (width, 3))}
"""


def moved(step):
    return jax.tree.map(lambda w: w + w.dtype.type(0.01 * step), VARIABLES["params"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A record and checkpoints by step, as Orbax's folders and in one file each."""
    folder = tmp_path_factory.mktemp("run")
    RECORD.save(folder / "record.json")
    for step in STEPS:
        save_npz(folder / f"step_{step}.npz", flat(moved(step)))
    for step in STEPS[:2]:
        save_orbax(folder / f"checkpoint_{step}", {"params": moved(step)})
    (folder / "checkpoint_9.orbax-checkpoint-tmp").mkdir()
    (folder / "models.py").write_text(MODELS)
    return folder


@pytest.fixture
def here(run, tmp_path, monkeypatch):
    for file in run.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(step):
    return qrjax.changes(RECORD, moved(step))


class TestRuns:
    def test_a_table_of_layers_against_steps(self, here, capsys):
        # As a shell sorts them.
        names = sorted(file.name for file in here.glob("step_*.npz"))
        assert main(["track", "record.json", *names, "--plot", "movement.png"]) == 0
        shown = capsys.readouterr().out
        assert "4 checkpoints, step_1.npz to step_100.npz, against record.json" in shown
        table = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
        assert table["layer"] == ["1", "5", "20", "100"]
        for layer in ("hidden", "head", "norm"):
            assert table[layer] == [f"{layers(found(step))[layer]:.3g}" for step in STEPS]
        assert re.search(r"all weights +0\.01 +0\.05 +0\.2 +1", shown)
        assert (here / "movement.png").read_bytes().startswith(PNG)

    @pytest.mark.usefixtures("here")
    def test_json_has_every_step_and_variable(self, capsys):
        names = ["checkpoint_1", "checkpoint_9.orbax-checkpoint-tmp", "checkpoint_5"]
        assert main(["track", "record.json", *names, "--json", "--threshold", "0.02"]) == 0
        shown, notes = capsys.readouterr()
        assert "Left out, as it was not completed: 'checkpoint_9.orbax-checkpoint-tmp'" in notes
        points = json.loads(shown)["checkpoints"]
        assert [(p["step"], p["checkpoint"], p["threshold"]) for p in points] == [
            (1, "checkpoint_1", 0.02), (5, "checkpoint_5", 0.02)
        ]  # fmt: skip
        expected = json.loads(qrjax.changes(RECORD, moved(5), threshold=0.02).to_json())
        assert {name: points[1][name] for name in expected} == expected

    @pytest.mark.usefixtures("here")
    def test_of_many_steps_some_are_shown(self, here, capsys):
        for step in range(30, 40):
            (here / f"step_{step}.npz").symlink_to(here / "step_20.npz")
        names = [file.name for file in here.glob("step_*.npz")]
        assert main(["track", "record.json", *names]) == 0
        shown = capsys.readouterr().out
        assert "6 of 14 steps, --json has all" in " ".join(shown.split())
        assert re.search(r"layer +1 +\d+ +\d+ +\d+ +\d+ +100\n", shown)
        assert max(map(len, shown.splitlines())) <= 100

    @pytest.mark.usefixtures("here")
    def test_names_without_numbers_count_in_the_order_given(self, here, capsys):
        for name, step in (("late", 20), ("early", 1)):
            (here / f"{name}.npz").symlink_to(here / f"step_{step}.npz")
        assert main(["track", "record.json", "late.npz", "early.npz"]) == 0
        shown, notes = capsys.readouterr()
        assert re.search(r"layer +1 +2\n", shown)
        assert re.search(r"hidden +0\.2 +0\.01\n", shown)
        assert "they count as 1, 2, ... in the order given" in notes

    @pytest.mark.usefixtures("here")
    @pytest.mark.parametrize(
        ("more", "status", "message"),
        [
            (("step_5.npz", "--step", "3"), 2, "--step is for one checkpoint, got 2"),
            (("step_5.npz", "--prune-sparsity", "0.5"), 2, "--prune-sparsity is for one checkpoint, got 2"),
            (("models.py",), 2, "`CHECKPOINT` must be the folder of an Orbax checkpoint"),
        ],
    )
    def test_what_is_for_one(self, more, status, message, capsys):
        assert main(["track", "record.json", "step_1.npz", *more]) == status
        shown, complaint = capsys.readouterr()
        assert (shown, message in complaint) == ("", True), complaint


class TestModels:
    """Builders of the model's own: --model gives their code."""

    @pytest.mark.some(2)
    @pytest.mark.parametrize(
        ("make", "options", "leaf"),
        [
            ("linen", ("--model", "models.py:Network", "--input", "2,6"), "hidden/kernel"),
            ("wide", ("--model", "models:Network", "--arg", "width=12", "--input", "2,6", "--kwarg", "scale=2.0"),
             "hidden/kernel"),
            ("nnx", ("--model", "models.py:Small", "--arg", "width=5"), "layer/kernel"),
            ("function", ("--model", "models.py:variables", "--arg", "width=5"), "w"),
        ],
    )  # fmt: skip
    def test_their_weights_are_compared_too(self, make, options, leaf, here, capsys, monkeypatch):
        monkeypatch.syspath_prepend(str(here))
        import models
        from flax import nnx

        key, x = jax.random.key(5), jnp.ones((2, 6))
        nets = {"linen": models.Network(), "wide": models.Network(12)}
        functions = {
            "nnx": lambda key: models.Small(5, rngs=nnx.Rngs(key)),
            "function": lambda key: models.variables(key, 5),
        }
        if make in nets:
            record, params = qrjax.record(nets[make], x, by="init", key=key), nets[make].init(key, x)["params"]
        else:
            record, made = qrjax.record(functions[make], by="init", key=key), functions[make](key)
            params = nnx.to_pure_dict(nnx.state(made)) if make == "nnx" else made
        record.save("theirs.json")
        arrays = flat(params)
        arrays[leaf] = arrays[leaf] + np.float32(0.5)
        save_npz(here / "theirs.npz", arrays)
        assert main(["track", "theirs.json", "theirs.npz", *options, "--json"]) == 0
        rows = {row["path"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
        assert {path: row["changed_percent"] for path, row in rows.items()} == {
            path: 100.0 * (path == leaf) for path in rows
        }
        assert rows[leaf]["rms_change"] == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("options", "status", "message"),
        [
            ((), 1, r"'head/kernel' come from a builder .*: --model MODULE:NAME --input 1,28,28,1"),
            (("--input", "2,6"), 2, "--input says how --model is made and called; give MODULE:NAME by --model too"),
            (("--model", "models.py:Network"), 2, "`--input` must say what 'Network' is called with"),
            (
                ("--model", "models.py:Network", "--input", "2,5"),
                1,
                "the variables lack 'batch_stats/norm/mean' of shape .*; is this another",
            ),
            (("--model", "models.py:Net", "--input", "2,6"), 2, "has no 'Net'; did you mean Network"),
            (
                ("--model", "models.py:Network", "--input", "2,6", "--kwarg", "size=1"),
                1,
                "cannot be called with 2,6:float",
            ),
        ],
    )
    def test_what_is_missing_is_said(self, options, status, message, here, capsys):
        qrjax.record(Network(), jnp.ones((2, 6)), by="init", key=jax.random.key(0)).save("theirs.json")
        assert main(["track", "theirs.json", "step_1.npz", *options]) == status
        shown, complaint = capsys.readouterr()
        assert shown == ""
        assert re.search(message, complaint), complaint
        assert (here / "theirs.json").exists()
