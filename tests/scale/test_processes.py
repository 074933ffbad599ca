"""Several processes with `jax.distributed`: they hold, save, restore, follow and recover what one process would."""

import json
import math
import pathlib
import socket
from typing import Any, NamedTuple

import devices
import jax
import numpy as np
import orbax.checkpoint as ocp
import process_worker
import pytest
from flax import nnx
from process_worker import CRITERIA, SEED, named
from processes import Workers, reserved_port
from recovery import digest, index_of

import qrjax

EXACT = ("path", "shape", "weights", "changed", "sleeping", "not_finite", "sign_flips", "max_change")
ROUNDED = ("mean_change", "rms_change", "cosine")


class Run(NamedTuple):
    """What processes reported; the last was killed, and then the others recovered what it held."""

    folder: pathlib.Path
    reports: list[dict[str, Any]]
    recovered: list[Any]

    @property
    def lost(self) -> list[Any]:
        return self.reports[-1]["weights"]


@pytest.fixture(
    scope="module",
    params=[pytest.param((2, 2), marks=pytest.mark.slow), pytest.param((4, 2), marks=pytest.mark.whole_tables)],
    ids="{0[0]} processes with {0[1]} devices each".format,
)
def run(request, tmp_path_factory):
    count, local = request.param
    folder = tmp_path_factory.mktemp("processes")
    with Workers(folder, count, local, seconds=300 * local) as workers:
        reports = workers.reports("report", range(count))
        workers.kill(count - 1)
        return Run(folder, reports, [recovered(workers, process, count - 1) for process in range(count - 1)])


def recovered(workers: Workers, process: int, lost: int) -> Any:
    """One by one, the coordinator first: those told later fail if one that has done its part is gone."""
    workers.tell(process, lost)
    return workers.reports("recovered", [process])[0]


@pytest.fixture(scope="module")
def alone():
    """The transformer's variables by path, from this process."""
    return {path: np.asarray(array) for path, array in named(jax.jit(process_worker.initialized)())}


def assert_shards(reports, key, whole):
    """Every shard is that part of the whole arrays, and together they are all of them."""
    seen = {path: np.zeros(array.shape, int) for path, array in whole.items()}
    for path, bounds, found in (shard for report in reports for shard in key(report)):
        assert found == digest(whole[path][index_of(bounds)]), (path, bounds)
        seen[path][index_of(bounds)] += 1
    for path, times in seen.items():
        assert times.min() > 0, path


def test_every_shard_has_the_bits_of_a_single_process(run, alone):
    assert_shards(run.reports, lambda report: report["weights"], alone)
    held = [math.prod(b - a for a, b in bounds) for path, bounds, _ in run.lost if path == "head/kernel"]
    assert sum(held) * len(run.reports) == alone["head/kernel"].size


def test_every_process_makes_the_same_record_as_a_single_one(run):
    assert {report["record"] for report in run.reports} == {process_worker.recorded().to_json()}


def test_orbax_gives_every_process_its_shards_back(run):
    for report in run.reports:
        assert report["restored"] == report["weights"]


def test_a_single_process_restores_weights_and_record(run, alone):
    with ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(run.folder / "checkpoint")
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        places = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), metadata.item_metadata.tree
        )
        variables = checkpointer.restore(run.folder / "checkpoint", places)
    assert {path: digest(array) for path, array in named(variables)} == {p: digest(a) for p, a in alone.items()}
    assert qrjax.Record.from_dict(metadata.custom_metadata["qrjax"]).to_json() == run.reports[0]["record"]


def test_those_left_recover_what_the_killed_process_held(run):
    for found in run.recovered:
        assert sorted(found) == sorted(run.lost)


def test_a_new_process_recovers_that_alone_from_the_record(run):
    places = [(path, bounds) for path, bounds, _ in run.lost]
    found = devices.run("recovery", "recovered", run.reports[0]["record"], places, devices=1, fresh=True)
    assert found["digests"] == [digest for _, _, digest in run.lost]
    assert found["drawn"] == found["asked"] > 0
    assert not found["flax"]


def test_what_processes_follow_together_is_what_one_finds(run):
    key = jax.random.key(SEED)
    begin = process_worker.begin(key)
    now = process_worker.trained(begin)
    record = qrjax.record(process_worker.begin, key=key, by="init")
    changes = qrjax.changes(record, now, 0.001)
    masks = {name: qrjax.mask(record, now, **{"criterion": name, **options}) for name, options in CRITERIA.items()}
    parts = masks | {"zero": qrjax.prune(now, masks["change"])}
    forms = [name.removeprefix("changes, ") for name in run.reports[0]["followed"] if name.startswith("changes, ")]
    assert forms == ["record", "spread", "whole"]
    for form in forms:
        assert_same_changes(
            [report["followed"][f"changes, {form}"] for report in run.reports], json.loads(changes.to_json())
        )
        parts |= {f"initial, {form}": begin, f"delta, {form}": {path: changes.delta(path) for path in now}}
    assert {report["followed"]["heat map"] for report in run.reports} == {process_worker.heat_map(changes)}
    for name, expected in parts.items():
        whole = {path: np.asarray(array) for path, array in expected.items()}
        assert_shards(run.reports, lambda report, name=name: report["followed"][name], whole)


def test_modules_that_hold_sharded_variables(run):
    variables, text = process_worker.rescaled(process_worker.Normed(nnx.Rngs(SEED)))
    assert_shards(run.reports, lambda report: report["module"][0], {p: np.asarray(a) for p, a in variables.items()})
    assert {report["module"][1] for report in run.reports} == {text}


def test_modules_that_each_process_makes_for_itself_lie_nowhere_in_particular(run):
    # Or processes would draw their weights by different programs, according to where each holds what is not sharded.
    places = [place for report in run.reports for place in report["module here"]]
    assert places == ["None"] * len(places)
    assert len(places) >= len(run.reports)


def assert_same_changes(reported, expected):
    """Counts are equal; float32's sums were rounded in another order, over at most 2,048 weights."""
    assert all(found == reported[0] for found in reported)
    for a, b in zip([*reported[0]["rows"], reported[0]["total"]], [*expected["rows"], expected["total"]], strict=True):
        assert {name: a[name] for name in EXACT} == {name: b[name] for name in EXACT}
        rounded = {name: b[name] for name in ROUNDED if b[name] is not None}
        assert {name: a[name] for name in rounded} == pytest.approx(rounded, rel=2048 * 2.0**-24)


SCRIPT = """
import pathlib, sys
folder, port, processes, process = sys.argv[1:]
print("here", flush=True)
(pathlib.Path(folder) / f"started.{process}").write_text("[]")
sys.stdin.readline()
raise ValueError("broken")
"""


def test_a_process_that_fails_or_hangs_shows_what_all_said(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    said = r"process 0:\nhere.*process 1:\nhere"
    with Workers(tmp_path, 2, script=script) as workers:
        workers.reports("started", range(2))
        workers.deadline = 0
        with pytest.raises(AssertionError, match=rf"(?s)no report in time.*{said}"):
            workers.reports("report", range(2))
        workers.deadline = math.inf
        workers.tell(1, "go on")
        with pytest.raises(AssertionError, match=rf"(?s)process 1 ended without a report.*{said}.*ValueError: broken"):
            workers.reports("report", range(2))
    assert all(process.poll() is not None for process in workers.processes)


def test_ports_are_nobody_elses():
    with reserved_port() as first, reserved_port() as second:
        assert first != second
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", first))
