"""Experiments on all devices and in several processes: the results of one."""

import pathlib

import devices
import numpy as np
import pytest
import training_worker
from processes import Workers

from qrjax import experiments

WORKER = pathlib.Path(training_worker.__file__)


def test_experiments_are_those_of_one_device():
    """Eight devices; seeds that fill them, and that do not."""
    assert devices.run("trainings", "alike", [(4, 1)]) == [True]


@pytest.mark.slow
def test_experiments_are_those_of_one_device_in_any_number():
    assert devices.run("trainings", "alike", [(16, 2), (5, 2), (3, 3), (9, 1)]) == [True] * 4


@pytest.mark.slow
def test_tuned_rates_are_those_of_one_device():
    assert devices.run("trainings", "tuned") == [True]


@pytest.mark.slow
def test_processes_share_the_seeds_and_a_file(tmp_path):
    with Workers(tmp_path, 2, 2, script=WORKER) as workers:
        one, other = workers.reports("report", range(2))
    assert one["losses"] == other["losses"]
    # This process compiles with other flags than the workers, so the last bits may differ; devices are compared above.
    np.testing.assert_allclose(one["losses"], training_worker.losses(tmp_path / "alone.jsonl", chunk=1), rtol=1e-6)
    assert one["said"].startswith("`chunk` is None, and 2 processes must share the seeds in equal chunks; give one")
    assert (
        len(experiments.load_results(tmp_path / "training.jsonl", trials=True)) == 2 * 2 + training_worker.SEEDS
    )  # none twice
