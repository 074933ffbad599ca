"""The examples run, at a small size."""

import importlib
import pathlib
from unittest import mock

import jax
import pytest

from qrjax._rules._modules import MODULES
from qrjax._rules._registry import CUSTOM

FOLDER = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    """Imports an example by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_every_example_is_run_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        "any_weight",
        "deep_network",
        "many_seeds",
        "multihost",
        "own_layer",
        "plot_signal",
        "record_in_checkpoint",
        "train_and_eval",
        "two_blocks",
        "which_weights_learned",
        "why_order_matters",
    }


def test_deep_network(example, tmp_path, capsys):
    path = tmp_path / "curves.png"
    options = ["--depth", "20", "--width", "64", "--steps", "80", "--rate", "1e-3", "--output", str(path)]
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules raise a float to an integer's power
        runs = example("deep_network").main(options)
    assert [run.name for run in runs] == ["Flax default", "qrjax.autoinit"]
    assert runs[0].second_moment < 0.01
    assert 0.1 < runs[1].second_moment < 10
    # Twenty layers are not yet too many for the default, but it is slower.
    assert runs[1].accuracies[-1] > 0.6
    assert runs[1].losses[-10:].mean() < runs[0].losses[-10:].mean() / 1.5
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "20 dense layers" in printed
    assert "qrjax.autoinit" in printed


def test_own_layer(example, capsys):
    with mock.patch.dict(CUSTOM), mock.patch.dict(MODULES):
        before, after = example("own_layer").main()
    assert any("bump by sampling" in row.notes for row in before)
    assert not any("bump by sampling" in row.notes for row in after)
    assert (after["Whiten_0"].mean, after["Whiten_0"].variance) == pytest.approx((0, 1), abs=1e-9)
    assert all(abs(row.octaves) < 0.1 for row in (*before, *after))
    assert "octaves" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["mlp", "vit"])
def test_plot_signal(example, tmp_path, capsys, model):
    path = tmp_path / "signal.png"
    found = example("plot_signal").main(["--model", model, "--depth", "small", "--output", str(path)])
    # The ten logits are too few for a mean over them to be near what is expected.
    assert all(abs(row.octaves) < 0.5 for row in found.measured if row.shape[-1] > 10)
    assert [row.path for row in found.predicted] == [row.path for row in found.default]
    last = found.measured[-1].measured_variance / found.default[-1].measured_variance
    assert last > {"vit": 1, "mlp": 30}[model]
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "Findings with Flax's default" in printed
    assert "head" in printed


def test_two_blocks(example, capsys):
    found = example("two_blocks").main()
    assert found == {
        "plain Linen": [3, 2, 2, 2],
        "plain NNX": [3, 0, 0, 0],
        "Linen with qrjax.block": [3, 3, 3, 3],
        "NNX with qrjax.block": [3, 3, 3, 3],
    }
    assert "3 of 3" in capsys.readouterr().out


def test_which_weights_learned(example, tmp_path, capsys):
    path = tmp_path / "changes.png"
    options = ["--seeds", "2", "--steps", "300", "--width", "64", "--sparsity", "0.5", "--output", str(path)]
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer's power
        outcomes = example("which_weights_learned").main(options)
    for found in outcomes:
        assert found.accuracy > 90
        # What moved least is not what matters least, unless it goes back to where it began.
        assert found.pruned["change", 0.5, "initial"] > found.accuracy - 3
        assert found.pruned["change", 0.5, "initial"] > found.pruned["change", 0.5, "zero"]
        assert found.pruned["magnitude", 0.5, "zero"] > found.pruned["random", 0.5, "zero"]
        assert found.pruned["change", 0.5, "zero, retrained"] > found.accuracy - 3
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "Dense_1/kernel" in printed
    assert "pruned weights to initial:" in printed


def test_record_in_checkpoint(example, capsys):
    found = example("record_in_checkpoint").main()
    assert (found["hidden/kernel"].sleeping, found["hidden/kernel"].weights) == (512, 1024)
    assert found["head/kernel"].changed == 256
    assert "512 of the hidden kernel's weights sleep" in capsys.readouterr().out


def test_many_seeds(example, tmp_path, capsys):
    options = ["--seeds", "6", "--steps", "40", "--folder", str(tmp_path)]
    with jax.numpy_dtype_promotion("standard"):  # optax again
        found = example("many_seeds").main(options)
    assert list(found) == ["pseudorandom", "quasirandom"]
    for sweep in found.values():
        assert sweep["loss"].shape == (6, 40)
        assert (sweep["loss"][:, -1] < sweep["loss"][:, 0]).all()
        assert len(set(sweep["loss"][:, -1].tolist())) == 6
    assert (found["pseudorandom"]["loss"] != found["quasirandom"]["loss"]).all()
    assert len((tmp_path / "quasirandom.jsonl").read_text().splitlines()) == 2 + 6
    assert "6 seeds, last step of each result" in capsys.readouterr().out


def test_multihost(example, capsys):
    lines = example("multihost").main([])
    drawn = [line.partition(" drew ")[2] for line in lines if " drew " in line]
    recovered = [line.partition(": ")[2] for line in lines if " recovered " in line]
    assert len(set(drawn)) == 2
    assert recovered == drawn[::-1]
    assert all(found.startswith("1,840,640 weights, sha256") for found in drawn)
    assert capsys.readouterr().out.splitlines() == lines


def test_multihost_asks_for_a_folder_that_all_see(example, capsys):
    with pytest.raises(SystemExit):
        example("multihost").main(["--coordinator", "10.0.0.1:9911"])
    assert "--coordinator needs a --folder" in capsys.readouterr().err


def test_train_and_eval(example, tmp_path, capsys):
    options = ["--model", "mlp1", "--units", "16", "--epochs", "2", "--seeds", "3", "--limit", "200"]
    files = ["--results", str(tmp_path / "r.jsonl"), "--picture", str(tmp_path / "boxes.png")]
    found = example("train_and_eval").main([*options, *files])
    assert [one.source for one in found] == ["sobol", "sequence", "hash", "autoinit"]
    assert all(0.1 < one.mean <= 1 for one in found)
    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1 + 5 * 3
    assert "verdict" in capsys.readouterr().out


def test_any_weight(example, capsys):
    assert all(example("any_weight").main((1009, 48)).values())
    assert "one weight of 48,432 equals the tensor's" in capsys.readouterr().out


def test_why_order_matters(example, tmp_path, capsys):
    path = tmp_path / "order.png"
    found = example("why_order_matters").main(["--width", "64", "--seeds", "3", "--output", str(path)])
    independent, _ = found["independent"]
    assert found["sequence"][0] < 0.3 * independent
    assert found["outputs"][0] > 0.95 * independent
    assert found["neurons"][1] < -3  # they do not see the mean of their inputs
    assert abs(found["outputs"][1]) < 2
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "effective rank" in capsys.readouterr().out
