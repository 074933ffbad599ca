"""Runs: training against a plain loop, pairs, files that are continued, searches, tables."""

import dataclasses
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

import qrjax
from qrjax import experiments
from qrjax._datasets._table import load
from qrjax._experiments import _bench, _training
from qrjax._experiments._aggregate import panels, save_frame
from qrjax._experiments._training import Trainer, Trainers, initial, on_device
from qrjax.experiments import Scheme, Settings

SMALL = Settings(model="mlp1", units=16, epochs=2, limit=200)
RATES = [1e-3, 1e-3]


def run(settings, seeds, file, **options):
    return experiments.run(settings, seeds, file, progress=False, **options)


def stripped(records):
    """All but what depends on the day."""
    return [{name: value for name, value in record.items() if name not in ("seconds", "chunk")} for record in records]


def shapes(data):
    return tuple(array.shape for array in data if isinstance(array, np.ndarray))


DRAWING = {}


def drawing(settings, data):
    """What `initial` gives, compiled once in this file where the data do not matter."""
    if settings.source in ("sequence", "autoinit"):
        return initial(settings, data)
    return DRAWING.setdefault((settings, shapes(data)), initial(settings, data))


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Equal networks on data of equal shapes share their program, which has the data as an argument."""
    made, build = {}, Trainer.__init__

    def shared(self, settings, data, seeds, chunk, placed=None, devices=None):
        same = {"initializer": "glorot_uniform", "source": "random", "epochs": 1, "learning_rate": None}
        network = dataclasses.replace(settings, **same)
        key = network, shapes(data), chunk or seeds, _training.EVALUATED
        if key not in made:
            build(self, settings, data, seeds, chunk, placed, devices)
            made[key] = vars(self)
        vars(self).update(made[key], _data=on_device(data, settings.validation) if placed is None else placed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", shared)
        patch.setattr(_bench, "initial", drawing)
        yield


@pytest.fixture(scope="module")
def data():
    return load("digits", limit=200)


class TestTraining:
    @pytest.mark.few("adam")
    @pytest.mark.parametrize("optimizer", ["adam", "sgd", "momentum"])
    def test_is_that_of_a_plain_loop(self, data, optimizer):
        """One seed at a time, one batch at a time, gradients by hand."""
        settings = dataclasses.replace(SMALL, optimizer=optimizer, learning_rate=None)
        seeds, epochs = [0, 5], 2
        found = Trainer(settings, data, 2, 2).train(
            lambda: drawing(settings, data)(seeds, [None, None]), seeds, [settings.learning_rate] * 2, epochs
        )
        start = jax.tree.map(np.asarray, drawing(settings, data)(seeds, [None, None]))
        for row, seed in enumerate(seeds):
            params = jax.tree.map(lambda leaf, row=row: leaf[row].astype(np.float64), start)
            losses, hits = plain_training(params, settings, data, seed, epochs)
            np.testing.assert_allclose(found.losses[row], losses, rtol=2e-4)
            np.testing.assert_allclose(found.accuracies[row], hits, atol=1.01 / len(data.test_labels))

    def test_accuracy_counts_a_last_part_batch(self, data, monkeypatch):
        monkeypatch.setattr("qrjax._experiments._training.EVALUATED", 64)
        weights = drawing(SMALL, data)([0, 1], [None] * 2)
        found = Trainer(SMALL, data, 2, 2).train(lambda: jax.tree.map(jnp.copy, weights), [0, 1], RATES, 2)
        monkeypatch.undo()
        whole = Trainer(SMALL, data, 2, 2).train(lambda: weights, [0, 1], RATES, 2)
        np.testing.assert_allclose(found.accuracies, whole.accuracies)

    def test_sources_share_the_order_of_the_data(self, data):
        """Paired by seed: from equal weights equal training follows, whatever the source is called."""
        weights = drawing(SMALL, data)([3, 4], [None] * 2)
        trainer = Trainer(SMALL, data, 2, 2)
        one, other = (trainer.train(lambda: jax.tree.map(jnp.copy, weights), [3, 4], RATES, 1) for _ in range(2))
        third = trainer.train(lambda: jax.tree.map(jnp.copy, weights), [4, 5], RATES, 1)
        np.testing.assert_array_equal(one.losses, other.losses)
        assert (one.losses != third.losses).all()


def plain_training(params, settings, data, seed, epochs):
    key = jax.random.split(jax.random.key(seed))[1]
    flat = data.train_inputs.reshape(len(data.train_inputs), -1).astype(np.float64)
    test = data.test_inputs.reshape(len(data.test_inputs), -1).astype(np.float64)
    rate, moments, step = settings.learning_rate, None, 0
    layers = [params[f"Dense_{n}"][part] for n in (0, 1) for part in ("kernel", "bias")]
    losses, hits = [], []
    for _ in range(epochs):
        key, shuffle = jax.random.split(key)
        order = np.asarray(jax.random.permutation(shuffle, len(flat)))
        batches = [
            order[n : n + settings.batch_size]
            for n in range(0, len(flat) - settings.batch_size + 1, settings.batch_size)
        ]
        values = []
        for batch in batches:
            x, labels = flat[batch], data.train_labels[batch]
            w, b, v, c = layers
            hidden = np.maximum(x @ w + b, 0)
            logits = hidden @ v + c
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            values.append(-np.log(shares[np.arange(len(batch)), labels]).mean())
            top = (shares - np.eye(10)[labels]) / len(batch)
            low = (top @ v.T) * (hidden > 0)
            gradients = [x.T @ low, low.sum(0), hidden.T @ top, top.sum(0)]
            step += 1
            if settings.optimizer == "momentum":
                moments = gradients = [0.9 * m + g for m, g in zip(moments or [0] * 4, gradients, strict=True)]
            if settings.optimizer != "adam":
                layers = [p - rate * g for p, g in zip(layers, gradients, strict=True)]
                continue
            old = moments or [(np.zeros_like(g), np.zeros_like(g)) for g in gradients]
            moments = [(0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2) for (m, s), g in zip(old, gradients, strict=True)]
            layers = [
                p - rate * (m / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
                for p, (m, s) in zip(layers, moments, strict=True)
            ]
        losses.append(np.mean(values))
        w, b, v, c = layers
        hits.append((np.argmax(np.maximum(test @ w + b, 0) @ v + c, 1) == data.test_labels).mean())
    return losses, hits


class TestFile:
    def test_holds_every_setting_versions_and_timings(self, tmp_path):
        returned = run(SMALL, 2, tmp_path / "r.jsonl")
        header, *records = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
        assert header == {"format": "qrjax.experiments", "version": 1}
        assert records == returned == experiments.load_results(tmp_path / "r.jsonl")
        record = records[1]
        assert {**record["settings"], "filters": tuple(record["settings"]["filters"])} == vars(SMALL)
        assert record["seed"] == 1
        assert len(record["loss"]) == len(record["accuracy"]) == 2
        assert {"qrjax", "jax", "flax", "optax", "numpy"} == set(record["versions"])
        assert all(seconds > 0 for seconds in record["seconds"].values())
        assert record["versions"]["optax"] == optax.__version__

    def test_repeated_it_runs_nothing_and_more_is_added(self, tmp_path, monkeypatch):
        file = tmp_path / "r.jsonl"
        first = run(SMALL, 2, file)
        with monkeypatch.context() as patched:
            patched.setattr("qrjax._experiments._run._bench", lambda *_: pytest.fail("trained again"))
            assert run(SMALL, 2, file) == first
            assert run(dataclasses.replace(SMALL, learning_rate=np.float64(1e-3), units=np.int64(16)), 2, file) == first
        more = run([SMALL, SMALL.with_source("hash")], 3, file, chunk=2)
        assert more[:2] == first
        assert [record["seed"] for record in more] == [0, 1, 2, 0, 1, 2]
        assert len(file.read_text().splitlines()) == 1 + 6

    def test_chunks_and_repetition_give_the_same_numbers(self, tmp_path):
        one = run(SMALL, 4, tmp_path / "one", chunk=2)
        run(SMALL, 3, tmp_path / "other", chunk=2)  # the last chunk is filled up
        assert stripped(run(SMALL, 4, tmp_path / "other", chunk=2)) == stripped(one)

    def test_of_other_data_is_not_taken_for_these(self, tmp_path, monkeypatch):
        first = run(SMALL, 2, tmp_path / "r")
        data = load("digits", limit=200)
        other = data._replace(train_inputs=data.train_inputs[::-1])
        monkeypatch.setattr("qrjax._experiments._run.load", lambda *_, **__: other)
        second = run(SMALL, 2, tmp_path / "r")
        assert len((tmp_path / "r").read_text().splitlines()) == 1 + 4
        assert first[0]["data"] != second[0]["data"]
        assert first[0]["loss"] != second[0]["loss"]

    @pytest.mark.parametrize("line", ["{}", '{"settings": {}, "seed": 0}', "\x00" * 40])
    def test_damaged_line_is_set_aside_and_named(self, records, tmp_path, line):
        lines = ['{"format": "qrjax.experiments", "version": 1}', *map(json.dumps, records)]
        (tmp_path / "r").write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
        before = (tmp_path / "r").read_bytes()
        with pytest.warns(qrjax.DamagedLineWarning, match=r"line 3 of '.*r' is damaged and was set aside: "):
            assert run(SMALL, 2, tmp_path / "r") == records[:2]
        with pytest.warns(qrjax.DamagedLineWarning, match="line 3"):
            assert experiments.load_results(tmp_path / "r") == records
        assert (tmp_path / "r").read_bytes() == before

    def test_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "r").write_text("a,b\n1,2\n")
        with pytest.raises(ValueError, match="damaged"):
            run(SMALL, 1, tmp_path / "r")
        assert (tmp_path / "r").read_text() == "a,b\n1,2\n"

    @pytest.mark.slow
    @pytest.mark.usefixtures("quickly")
    def test_killed_and_continued(self, tmp_path):
        program = (
            "import sys; from qrjax import experiments as e\n"
            "settings = [e.Settings(model='mlp1', units=8, epochs=1, limit=64, source=s) for s in ('random', 'hash')]\n"
            "e.run(settings, 12, sys.argv[1], chunk=2, progress=False)"
        )
        command = [sys.executable, "-c", program]
        process = subprocess.Popen([*command, str(tmp_path / "killed")])
        while not (tmp_path / "killed").exists() or len((tmp_path / "killed").read_bytes().splitlines()) < 5:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        for name in ("killed", "whole"):
            subprocess.run([*command, str(tmp_path / name)], check=True)
        killed, whole = (experiments.load_results(tmp_path / name) for name in ("killed", "whole"))
        assert len(killed) == 24
        assert stripped(killed) == stripped(whole)


class TestSchemes:
    def test_increments(self):
        assert Scheme("increment-start", min_dim=7).dims([0, 1, 2], 5).dims == (7, 8, 9)
        assert Scheme("increment-end", min_dim=7).dims([0, 1, 2], 5).dims == (7, 12, 17)
        assert Scheme("increment-end").dims([4], 3).dims == (13,)  # whatever runs beside it

    def test_auto_keeps_the_best(self):
        scheme = Scheme("auto", min_dim=3, count=4, range=100, epochs=2, repetitions=5)
        asked = []

        def score(dims, epochs, repetitions):
            asked.append((dims, epochs, repetitions))
            return [0.2, float("nan"), 0.9, 0.9]

        found = scheme.dims([0, 1], 3, score)
        assert asked == [((3, 28, 53, 78), 2, 5)]
        assert found.dims == (53, 53)
        assert found.trials[2] == (53, 0.9)

    @pytest.mark.slow
    def test_auto_trains(self, tmp_path):
        settings = dataclasses.replace(SMALL, epochs=1, source="sequence")
        scheme = Scheme("auto", count=2, range=2, repetitions=2)
        records = run(settings, 2, tmp_path / "r", scheme=scheme)
        assert len({record["dim"] for record in records}) == 1
        (first, one), (second, other) = records[0]["trials"]
        assert (first, second) == (1, 2)
        assert records[0]["dim"] == (first if one >= other else second)
        assert records[0]["scheme"]["name"] == "auto"
        # A trial is a run of so many seeds from that dimension.
        direct = run(settings, 2, tmp_path / "d", scheme=Scheme("auto", min_dim=1, count=1, range=1))
        assert np.mean([record["accuracy"][-1] for record in direct]) == pytest.approx(one, abs=1e-6)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"name": "increment"}, "`scheme` must be one of .*, got 'increment'; did you mean 'increment-"),
            ({"min_dim": 0}, "`min_dim` must be a positive integer, got 0"),
            ({"repetitions": 1.5}, "`repetitions` must be a positive integer, got 1.5"),
            ({"count": 5, "range": 4}, "`count` 5 starting dimensions need a `range` as large, got 4"),
        ],
    )
    def test_wrong_arguments(self, options, said):
        with pytest.raises(ValueError, match=said):
            Scheme(**options)

    def test_dimensions_run_out(self):
        with pytest.raises(ValueError, match="`scheme` needs Sobol' dimension 30000, and there are 21201"):
            Scheme("increment-end").dims([9999], 3)
        with pytest.raises(ValueError, match="`scheme` needs Sobol' dimension 21202"):
            Scheme("auto", min_dim=21_200, count=1, range=1).dims([0], 3, lambda *_: [0.0])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return run([SMALL, SMALL.with_source("random")], 2, tmp_path_factory.mktemp("tables") / "r")


class TestTables:
    def test_frame_has_a_row_for_each_epoch(self, records):
        made = experiments.frame(records)
        assert len(made) == 2 * 2 * 2
        one = made[(made.source == "random") & (made.seed == 1)]
        assert one.accuracy.tolist() == records[3]["accuracy"]
        assert one.epoch.tolist() == [1, 2]
        assert set(made.model) == {"mlp1"}

    @pytest.mark.parametrize(("name", "reader"), [("t.csv", pandas.read_csv), ("t.parquet", pandas.read_parquet)])
    def test_files_read_back(self, records, tmp_path, name, reader):
        made = experiments.frame(records)
        save_frame(made, tmp_path / name)
        again = reader(tmp_path / name)
        assert list(again.columns) == list(made.columns)
        np.testing.assert_allclose(again.accuracy, made.accuracy)
        assert again.source.tolist() == made.source.tolist()

    def test_wrong_suffix(self, records, tmp_path):
        with pytest.raises(ValueError, match=r"`file` must end in .csv or .parquet, got '.*xlsx'"):
            save_frame(experiments.frame(records), tmp_path / "t.xlsx")

    def test_of_box_plots(self, records):
        ((name, found),) = panels(records).items()
        assert name == "digits, mlp1, adam, glorot_uniform"
        assert list(found) == ["sobol", "random"]
        np.testing.assert_allclose(found["random"][1], 100 * np.array(records[3]["accuracy"]))

    def test_of_box_plots_keep_experiments_apart(self, records):
        other = [{**one, "settings": {**one["settings"], "units": 32}, "accuracy": [0.5]} for one in records]
        assert {name: sorted(found) for name, found in panels([*records, *other]).items()} == {
            f"digits, mlp1, adam, glorot_uniform, units {units}": ["random", "sobol"] for units in (16, 32)
        }
        schemes = [
            {**one, "settings": {**one["settings"], "source": "sequence"}, "scheme": {"name": "auto", "min_dim": n}}
            for n in (1, 5)
            for one in records[:2]
        ]
        ((_, found),) = panels([*records, *schemes]).items()
        assert list(found) == ["sobol", "random", "sequence (auto from 1)", "sequence (auto from 5)"]

    def test_files_that_disagree(self, records, tmp_path):
        run(SMALL, 2, tmp_path / "one")
        text = (tmp_path / "one").read_text()
        accuracy = json.loads(text.splitlines()[1])["accuracy"]
        assert records[0]["accuracy"] == accuracy
        (tmp_path / "other").write_text(text.replace(json.dumps(accuracy), json.dumps([0.5, 0.5])))
        assert len(experiments.load_results(tmp_path / "one", tmp_path / "one")) == 2
        with pytest.raises(ValueError, match="disagrees with the files before it about seed 0"):
            experiments.load_results(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "options", "error", "said"),
    [
        (Settings(source="sequence"), {"scheme": Scheme(min_dim=30_000)}, ValueError, "needs Sobol' dimension 30002"),
        (SMALL, {"scheme": "auto"}, TypeError, r"`scheme` must be a Scheme, got 'auto'; for example Scheme\('auto'\)"),
        (SMALL, {"chunk": 0}, ValueError, "`chunk` must be a positive integer, got 0"),
        (SMALL, {"chunk": 1.5}, ValueError, "`chunk` must be a positive integer, got 1.5"),
        (Settings(model="cnn", filters=(4,) * 5), {}, ValueError, "too many for images of 8 x 8, .* at most 4"),
    ],
)
def test_mistakes_are_found_before_anything_is_done(tmp_path, settings, options, error, said):
    with pytest.raises(error, match=said):
        run(
            [SMALL, settings] if settings.limit else [settings.with_source("random"), settings],
            1,
            tmp_path / "r",
            **options,
        )
    assert not (tmp_path / "r").exists()


def test_data_lie_on_the_device_once(data):
    trainers = Trainers(data)
    one, other = (trainers.of(dataclasses.replace(SMALL, optimizer=name), 2) for name in ("adam", "sgd"))
    assert one is not other
    assert one._data is other._data


def test_experiments_of_two_datasets(tmp_path):
    with pytest.raises(ValueError, match="`experiments` must share dataset, vocabulary, length, limit"):
        run([SMALL, Settings(dataset="mnist")], 1, tmp_path / "r")
    with pytest.raises(ValueError, match="`experiments` is empty"):
        run([], 1, tmp_path / "r")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images"):
        run(Settings(dataset="mnist"), 1, tmp_path / "r", folder=tmp_path)
