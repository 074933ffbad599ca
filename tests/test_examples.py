"""The examples run, at a small size."""

import importlib
import os
import pathlib
import signal
import tempfile
import time
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
        "equinox_model",
        "find_the_exploding_layer",
        "haiku_model",
        "integrate",
        "keras_model",
        "many_seeds",
        "multihost",
        "own_layer",
        "plot_signal",
        "prune_in_rounds",
        "record_in_checkpoint",
        "train_and_eval",
        "tune_small_train_large",
        "two_blocks",
        "which_weights_learned",
        "why_order_matters",
    }


@pytest.mark.slow
def test_deep_network(example, tmp_path, capsys):
    path = tmp_path / "curves.png"
    options = ["--activation", "tanh", "--depth", "20", "--width", "64", "--steps", "80", "--rate", "1e-3"]
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules raise a float to an integer's power
        runs = example("deep_network").main([*options, "--seeds", "1", "--output", str(path)])
    assert [run.name for run in runs] == ["Flax default", "autoinit, 1", "autoinit, stable", "stable, orthogonal"]
    assert all(0.1 < run.second_moment < 10 for run in runs[1:])
    # Nineteen layers of tanh multiply a gradient's norm by 4.3 where the second moment is 1.
    assert runs[2].accuracies[-1] > runs[1].accuracies[-1]
    assert runs[2].losses[-10:].mean() < runs[1].losses[-10:].mean()
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "20 dense layers" in printed
    assert "hidden outputs have the second moment 2^-" in printed


@pytest.mark.slow  # what reports say of gradients is in tests/autoinit
def test_find_the_exploding_layer(example, capsys):
    found = example("find_the_exploding_layer").main(["--steps", "150", "--seeds", "1"])
    broken, mended = found["as found"], found["mended"]
    assert [finding.severity for finding in broken[0].findings] == ["error"]
    assert "most of it from Dense_11 to Dense_10" in broken[0].findings[0]
    assert mended[0].findings == ()
    # The signal shows nothing.
    assert all(0.8 < row.measured_second_moment < 1.3 for report, _ in found.values() for row in report.weights)
    assert broken[1][0] < 30 < 80 < mended[1][0]
    assert "unhealthy: the report has findings of severity 'error'" in capsys.readouterr().out
    assert all(abs(row.gradient_octaves) < 1.5 for report, _ in found.values() for row in report.weights)


@pytest.mark.slow
def test_tune_small_train_large(example, tmp_path, capsys):
    path = tmp_path / "curves.png"
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer's power
        options = ["--widths", "16", "128", "--steps", "20", "--seeds", "2", "--output", str(path)]
        found = example("tune_small_train_large").main(options)
    best = {(one.way, one.width): one.best for one in found}
    assert abs(best["multipliers", 128] - best["multipliers", 16]) <= 1
    assert best["one rate", 128] < best["one rate", 16]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "Best rates by width" in capsys.readouterr().out


@pytest.fixture
def needs(monkeypatch):
    """Skips where a package is not installed; other people's code promotes types, Keras reads its backend once."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield lambda package: pytest.importorskip(package, reason="pip install 'qrjax[wild]' has it")


@pytest.mark.slow
def test_equinox_model(example, needs, capsys):
    needs("equinox")
    default, ours = example("equinox_model").main(["--depth", "16", "--steps", "150"])
    assert default.spread < 1e-4
    assert 0.05 < ours.spread < 5
    assert ours.accuracy > max(0.7, default.accuracy)
    assert "layers/15/weight" in capsys.readouterr().out


@pytest.mark.slow
def test_haiku_model(example, needs, capsys):
    needs("haiku")
    default, ours = example("haiku_model").main(["--depth", "20", "--steps", "60"])
    assert default.first == pytest.approx(2.303, abs=1e-3)
    assert ours.loss < default.loss - 0.3
    assert ours.accuracy > max(0.5, default.accuracy)
    assert "conv2_d_18/w" in capsys.readouterr().out


@pytest.mark.slow
def test_keras_model(example, needs, capsys):
    needs("keras")
    default, builder, ours = example("keras_model").main(["--depth", "16", "--epochs", "5"])
    assert default.second_moment < 1e-3
    assert all(0.1 < run.second_moment < 10 for run in (builder, ours))
    assert min(builder.accuracy, ours.accuracy) > max(0.6, default.accuracy)
    assert "network/dense_15/kernel" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own way to NumPy
def test_keras_saves_and_clones_models_with_builders(example, needs, tmp_path):
    keras, module = needs("keras"), example("keras_model")
    made = module.network(3, module.Quasirandom("he_normal_hash", 1, zero_mean=True))
    made.save(tmp_path / "made.keras")
    loaded, clone = keras.saving.load_model(tmp_path / "made.keras"), keras.models.clone_model(made)
    for ours, again in zip(made.variables, loaded.variables, strict=True):
        assert (ours.value == again.value).all()
    config = made.layers[0].kernel_initializer.get_config()
    assert config == {"builder": "he_normal_hash", "seed": 1, "zero_mean": True}
    assert {layer.kernel_initializer.get_config()["builder"] for layer in clone.layers} == {"he_normal_hash"}


@pytest.mark.slow
def test_integrate(example, tmp_path, capsys):
    path = tmp_path / "errors.png"
    found = example("integrate").main(["--most", "8", "--replicates", "12", "--output", str(path)])
    errors = {
        kind: found["smooth", kind][-1].error for kind in ("scrambled net", "without its first point", "independent")
    }
    assert 2 * errors["scrambled net"] < errors["without its first point"] < errors["independent"] / 2
    assert all(abs(e.value - 1) < 5 * e.error for every in found.values() for e in every)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "+/-" in capsys.readouterr().out


def test_own_layer(example, capsys):
    with mock.patch.dict(CUSTOM), mock.patch.dict(MODULES):
        before, after = example("own_layer").main()
    assert any("bump by sampling" in row.notes for row in before)
    assert not any("bump by sampling" in row.notes for row in after)
    assert (after["Whiten_0"].mean, after["Whiten_0"].variance) == pytest.approx((0, 1), abs=1e-9)
    assert all(abs(row.octaves) < 0.1 for row in (*before, *after))
    assert "octaves" in capsys.readouterr().out


@pytest.mark.slow
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


@pytest.mark.slow  # the laws are in tests/tracking
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


@pytest.mark.slow  # the laws are in tests/tracking
def test_prune_in_rounds(example, tmp_path, capsys):
    path = tmp_path / "rounds.png"
    criteria = example("prune_in_rounds").CRITERIA
    options = ["--seeds", "2", "--steps", "200", "--width", "32", "--sparsity", "0.5", "0.9", "--output", str(path)]
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer's power
        found = example("prune_in_rounds").main(options)
    sizes = (64 * 32, 32 * 32, 32 * 10)
    assert set(found.after) == {(criterion, way) for criterion in criteria for way in ("one shot", "rounds")}
    for case, cells in found.after.items():
        assert (cells[:, 0] > 90).all()
        # In both ways a share of every kernel is gone, to one weight, and stays gone while the rest is trained.
        assert found.left[case].tolist() == [[sum(n - int(s * n + 0.5) for n in sizes) for s in (0.5, 0.9)]] * 2
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "one shot" in capsys.readouterr().out


@pytest.mark.slow
def test_record_in_checkpoint(example, capsys):
    found = example("record_in_checkpoint").main()
    assert (found["hidden/kernel"].sleeping, found["hidden/kernel"].weights) == (512, 1024)
    assert found["head/kernel"].changed == 256
    assert "512 of the hidden kernel's weights sleep" in capsys.readouterr().out


@pytest.mark.slow
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
    assert "of each result its last step" in capsys.readouterr().out


@pytest.mark.slow  # what several processes do is in tests/scale
@pytest.mark.usefixtures("quickly")
def test_multihost(example, capsys):
    lines = example("multihost").main([])
    drawn = [line.partition(" drew ")[2] for line in lines if " drew " in line]
    recovered = [line.partition(": ")[2] for line in lines if " recovered " in line]
    assert len(set(drawn)) == 2
    assert recovered == drawn[::-1]
    assert all(found.startswith("1,618,080 weights, sha256") for found in drawn)
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
def test_multihost_counts_every_weight_once(example):
    lines = example("multihost").main(["--processes", "3"])
    drawn = [line.partition(" drew ")[2] for line in lines if " drew " in line]
    recovered = [line.partition(": ")[2] for line in lines if " recovered " in line]
    assert recovered == drawn[1:] + drawn[:1]
    assert sum(int(found.split()[0].replace(",", "")) for found in drawn) == 3_236_160


def test_multihost_wants_a_coordinator_for_one_of_several(example, capsys):
    with pytest.raises(SystemExit, match="2"):
        example("multihost").main(["--process", "0"])
    assert "--process says which of several this one is; give the --coordinator" in capsys.readouterr().err


def test_multihost_holds_a_copied_array_once(example):
    array = jax.numpy.arange(6.0)
    shards = [mock.Mock(index=(slice(None),), data=array, device=mock.Mock(id=i)) for i in range(2)]
    copied = mock.Mock(addressable_shards=shards)
    assert [held.tolist() for held in example("multihost").held({"bias": copied})] == [[0, 1, 2, 3, 4, 5]]


STAND_IN = """
import os, pathlib, signal, sys, time
process = next(argument.partition("=")[2] for argument in sys.argv if argument.startswith("--process="))
print("process", process, flush=True)
pathlib.Path(__file__).with_name("pid" + process).write_text(str(os.getpid()))
if process == "1":
    print("what went wrong", file=sys.stderr, flush=True)
    while not pathlib.Path(__file__).with_name("pid0").exists():
        time.sleep(0.01)
    {act}
time.sleep(60)
pathlib.Path(__file__).with_name("slept" + process).touch()
"""


@pytest.fixture
def stand_in(example, tmp_path, monkeypatch):
    """Has the example start a script in its own place, of which process 1 does as told; none of them may stay."""
    multihost = example("multihost")
    monkeypatch.setattr(multihost, "__file__", str(tmp_path / "stand_in.py"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def run(act: str) -> None:
        (tmp_path / "stand_in.py").write_text(STAND_IN.format(act=act))
        multihost.main([])

    yield run
    assert not list((tmp_path / "temporary").iterdir())
    pids = [int(file.read_text()) for file in tmp_path.glob("pid*")]
    assert len(pids) == 2
    assert_ended(pids)


def assert_ended(pids):
    """What was killed needs a moment to go, and on a busy machine more than one."""
    end = time.monotonic() + 30
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < end, f"processes {left} of those that it started, {pids}, outlive it"
        time.sleep(0.05)


def alive(pid):
    """Whether a process is there, and did not end."""
    try:
        return " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("act", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_multihost_ends_all_when_one_fails(stand_in, tmp_path, act, status):
    with pytest.raises(
        SystemExit, match=rf"\Aprocess 1 ended with status {status}; it said\n(process 1\nwhat|what went wrong)[^0]*\Z"
    ):
        stand_in(act)
    assert not list(tmp_path.glob("slept*"))


def test_multihost_ends_all_when_time_is_up(example, stand_in, monkeypatch):
    monkeypatch.setattr(example("multihost"), "LIMIT", 1)
    with pytest.raises(
        SystemExit, match=r"(?s)process 0 was not done after 1 s; .*process 1 was not .*what went wrong"
    ):
        stand_in("pass")


@pytest.fixture
def interruptible():
    """A process that a shell starts in the background has this signal ignored, and so have those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_multihost_ends_all_when_interrupted(stand_in):
    with pytest.raises(KeyboardInterrupt):
        stand_in("os.kill(os.getppid(), signal.SIGINT)")


def test_multihost_waits_for_nobody_when_it_fails(example, tmp_path, monkeypatch, capsys):
    multihost = example("multihost")
    monkeypatch.setattr(multihost, "take_part", mock.Mock(side_effect=ValueError("no such device")))
    monkeypatch.setattr(os, "_exit", left := mock.Mock())
    monkeypatch.setattr(signal, "signal", handled := mock.Mock())
    multihost.main(["--coordinator", "10.0.0.1:9911", "--process", "1", "--folder", str(tmp_path)])
    left.assert_called_once_with(1)
    assert handled.mock_calls == [mock.call(signal.SIGINT, signal.SIG_DFL), mock.call(signal.SIGTERM, signal.SIG_DFL)]
    assert capsys.readouterr().err.endswith("ValueError: no such device\n")


@pytest.mark.slow
def test_train_and_eval(example, tmp_path, capsys):
    options = ["--model", "mlp1", "--units", "16", "--epochs", "2", "--seeds", "3", "--limit", "200"]
    files = ["--results", str(tmp_path / "r.jsonl"), "--picture", str(tmp_path / "boxes.png")]
    found = example("train_and_eval").main([*options, *files])
    assert [one.source for one in found] == ["sobol", "sequence", "hash", "autoinit", "stable"]
    assert all(0.1 < one.mean <= 1 for one in found)
    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG")
    trials = 3 * 3 * 2  # rates and seeds of random with its twins, of autoinit, and of stable
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1 + 6 * 3 + trials
    assert "verdict" in capsys.readouterr().out


def test_any_weight(example, capsys):
    assert all(example("any_weight").main((1009, 48)).values())
    assert "one weight of 48,432 equals the tensor's" in capsys.readouterr().out


@pytest.mark.slow  # the laws are in tests/initializers/test_layouts.py
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
