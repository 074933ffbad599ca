"""Rates that are tuned, stopping early, and ways to begin that look at the whole network."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import qrjax
from qrjax import experiments
from qrjax._datasets._table import load
from qrjax._experiments._records import filled, identity, stopped
from qrjax._experiments._training import initial, on_device
from qrjax._experiments._tuning import SEEDS
from qrjax.experiments import Settings

RATES = (1e-4, 3e-2)
TUNED = Settings(
    model="mlp1", units=8, epochs=2, limit=160, initializer="he_normal", source="random", learning_rate=RATES,
    validation=0.25,
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    file = tmp_path_factory.mktemp("tuned") / "r.jsonl"
    settings = [TUNED, TUNED.with_source("hash")]
    return experiments.run(settings, 2, file, chunk=4, progress=False), experiments.load_results(file, trials=True)


class TestRates:
    def test_are_tried_with_seeds_of_their_own(self, tuned):
        _, kept = tuned
        trials = [one for one in kept if one["seed"] in SEEDS]
        assert [(one["settings"]["learning_rate"], one["seed"]) for one in trials] == [
            (rate, seed) for rate in RATES for seed in SEEDS
        ]

    def test_the_best_on_the_validation_examples_is_taken(self, tuned):
        records, kept = tuned
        means = {
            rate: np.mean([max(one["validation"]) for one in kept if one["settings"]["learning_rate"] == rate])
            for rate in RATES
        }
        assert means[3e-2] > means[1e-4]
        for record in records:
            assert record["rate"] == 3e-2
            assert record["rates"] == [[rate, means[rate]] for rate in RATES]
            assert record["settings"]["learning_rate"] == list(RATES)

    def test_twins_share_the_rate_and_the_trials(self, tuned):
        records, kept = tuned
        assert {one["settings"]["source"] for one in records} == {"random", "hash"}
        assert len(kept) == 4 + 4

    def test_the_training_is_that_of_the_rate_alone(self, tuned, tmp_path):
        records, _ = tuned
        alone = dataclasses.replace(TUNED, learning_rate=3e-2)
        found = experiments.run(alone, 2, tmp_path / "r", chunk=4, progress=False)
        assert [one["loss"] for one in found] == [one["loss"] for one in records[:2]]

    def test_trials_are_no_results(self, tuned, tmp_path):
        records, kept = tuned
        lines = map(json.dumps, [{"format": "qrjax.experiments", "version": 1}, *kept])
        (tmp_path / "r").write_text("\n".join(lines) + "\n")
        assert experiments.load_results(tmp_path / "r") == records
        with pytest.raises(ValueError, match="`seeds` holds 4294967295, with which rates are tried; choose others"):
            experiments.run(TUNED, [0, SEEDS[0]], tmp_path / "r", progress=False)

    def test_nothing_is_run_twice(self, tuned, tmp_path, monkeypatch):
        records, _ = tuned
        file = tmp_path / "r.jsonl"
        experiments.run(TUNED, 1, file, chunk=4, progress=False)
        monkeypatch.setattr("qrjax._experiments._run._bench", lambda *_: pytest.fail("trained again"))
        again = experiments.run(TUNED, 1, file, progress=False)
        assert again[0]["accuracy"] == records[0]["accuracy"]


class TestStopping:
    def test_held_examples_are_not_trained_on(self):
        data = load("digits", limit=100)
        parts = on_device(data, 0.25)
        assert (len(parts.train_labels), len(parts.held_labels)) == (75, 25)
        rows = np.concatenate([parts.train_inputs, parts.held_inputs]).reshape(100, -1)
        assert sorted(map(tuple, rows)) == sorted(map(tuple, data.train_inputs.reshape(100, -1)))
        np.testing.assert_array_equal(on_device(data).train_inputs, data.train_inputs)

    def test_takes_the_first_best_epoch_so_far(self):
        record = {"accuracy": [0.1, 0.5, 0.4, 0.9, 0.2], "validation": [0.2, 0.3, 0.3, 0.1, 0.4]}
        np.testing.assert_array_equal(stopped(record), [0.1, 0.5, 0.5, 0.5, 0.2])
        np.testing.assert_array_equal(stopped({"accuracy": [0.1, 0.5], "validation": []}), [0.1, 0.5])

    def test_is_what_a_comparison_compares(self, tuned):
        records, _ = tuned
        (found,) = experiments.compare(records)
        assert found.mean == pytest.approx(np.mean([stopped(one)[-1] for one in records[2:]]))

    def test_validation_accuracies_are_in_the_frame(self, tuned):
        records, _ = tuned
        made = experiments.frame(records)
        assert made["validation accuracy"].tolist() == [value for one in records for value in one["validation"]]
        assert set(made["rate"]) == {3e-2}


def test_files_from_before_are_continued():
    """They name none of the settings that have come since, and mean their defaults."""
    settings = {name: value for name, value in dataclasses.asdict(Settings()).items() if name != "filters"}
    old = {name: value for name, value in settings.items() if name not in ("depth", "norms", "validation")}
    parts = {"seed": 0, "scheme": None, "data": "x"}
    assert identity({"settings": old, **parts}) == identity({"settings": settings, **parts})
    assert filled({"settings": old, **parts})["settings"] == settings


class TestWholeNetworks:
    def test_calibrate_is_lsuv(self):
        """Orthogonal weights, scaled until every layer's outputs have the second moment 1."""
        data = load("digits", limit=100)
        settings = dataclasses.replace(TUNED, initializer="orthogonal", source="calibrate", depth=2)
        drawn = jax.tree.map(lambda leaf: leaf[0], initial(settings, data)([3], [None]))
        report = qrjax.measure(settings.network(data), {"params": drawn}, data.train_inputs[:64])
        assert [row.measured_second_moment for row in report.weights] == pytest.approx([1] * 3, rel=0.02)
        kernel = drawn["Dense_1"]["kernel"]
        gram = kernel.T @ kernel
        np.testing.assert_allclose(gram / gram[0, 0], np.eye(8), atol=1e-5)

    def test_stable_is_autoinit_with_that_target(self):
        data = load("digits", limit=100)
        settings = dataclasses.replace(TUNED, source="stable")
        (key, _) = jax.random.split(jax.random.key(3))
        found = initial(settings, data)([3], [None])
        theirs = qrjax.autoinit(
            settings.network(data), data.train_inputs[:64], key=key, target="stable", distribution="truncated_normal"
        )["params"]
        jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[0], other), found, theirs)

    def test_own_ones_make_all_params(self):
        data = load("digits", limit=100)
        settings = dataclasses.replace(TUNED, initializer="peers:Constant", source="own")
        drawn = initial(settings, data)([3, 4, 3], [None] * 3)
        total = data.train_inputs[:64].sum()
        assert all(leaf.shape[0] == 3 and bool((leaf == total).all()) for leaf in jax.tree.leaves(drawn))
