"""Sweeps on 8 devices and in several processes: the bits of one, whatever is left over for the last chunk.

Tests on devices run a function of `sweeps` in a process with 8 devices.
"""

import json
import pathlib
import time

import pytest
import sweep_worker
from devices import run
from processes import Workers


def test_have_the_bits_of_one_device():
    cases = [(15, 2, 8)]
    assert run("sweeps", "equal", cases, False) == [True] * len(cases)


@pytest.mark.slow
def test_have_the_bits_of_one_device_in_any_number():
    # Fewer seeds than devices, chunks that are left over on some of them, and each number of devices with each chunk.
    cases = [(seeds, chunk, count) for seeds, chunk in ((1, 3), (7, 1), (40, 3), (40, 5)) for count in (2, 7, 8)]
    assert run("sweeps", "equal", cases, True) == [True] * len(cases)


def test_a_file_is_continued_on_other_devices():
    assert run("sweeps", "continued") == {"seeds": list(range(27)), "equal": True}


def test_use_as_many_devices_as_there_are_chunks_for():
    expected = {"64": 8, "3": 3, "chunk": 3, "default": 1, "own": [16.0, 17.0, 18.0]}
    assert run("sweeps", "places") == expected


def test_functions_of_the_host():
    assert run("sweeps", "callbacks") == list(range(11))


def test_a_device_that_comes_twice():
    assert "`devices` must be different devices" in run("sweeps", "wrong_devices")


WORKER = pathlib.Path(sweep_worker.__file__)


def seeds(folder):
    """In the order of the file's lines, whole ones alone."""
    lines = (folder / "sweep.jsonl").read_bytes().split(b"\n")[:-1] if (folder / "sweep.jsonl").exists() else []
    return [json.loads(line)["seed"] for line in lines[2:]]


def together(folder, count, devices):
    with Workers(folder, count, devices, script=WORKER) as workers:
        return workers.reports("report", range(count))


def test_processes_share_the_seeds_and_a_file(tmp_path):
    reports = together(tmp_path, 2, 2)
    assert {report["curve"] for report in reports} == {sweep_worker.curve()}
    assert sorted(seeds(tmp_path)) == list(range(sweep_worker.SEEDS))  # none twice
    for report in reports:
        without, different = report["said"]
        assert without == "`file` is None, and 2 processes share their results by it; name one"
        assert "`train` or its arguments are not the same in all 2 processes; each must make the same call" in different
    assert sweep_worker.curve(file=tmp_path / "sweep.jsonl") == sweep_worker.curve()  # one process goes on with it


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_loses_nothing_that_was_written(tmp_path, killed):
    (tmp_path / "seconds").write_text("0.3")
    with Workers(tmp_path, 2, 1, script=WORKER) as workers:
        while len(seeds(tmp_path)) < 4:
            assert all(process.poll() is None for process in workers.processes)
            time.sleep(0.02)
        workers.kill(killed)
    kept = seeds(tmp_path)
    assert 4 <= len(kept) < sweep_worker.SEEDS
    with (tmp_path / "sweep.jsonl").open("a") as file:
        file.write('{"seed": 9, "sec')  # as if killed while it wrote
    reports = together(tmp_path, 2, 1)
    assert {report["curve"] for report in reports} == {sweep_worker.curve()}
    assert seeds(tmp_path)[: len(kept)] == kept
    assert sorted(seeds(tmp_path)) == list(range(sweep_worker.SEEDS))
