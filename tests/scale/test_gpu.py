"""On a GPU, where there is one: the bits, the pace, whole models. The same code runs on the CPU at small sizes.

With a card at hand: `pytest -m "gpu or slow" -n 0 tests/scale/test_gpu.py`.
"""

import argparse
import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import gpu as bench
import gpu_rows

ON_GPU = pytest.param("gpu", marks=pytest.mark.gpu)
pytestmark = pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")
SHAPES = [(257, 50)]
LARGE = [(4096, 4096), (50_257, 768), (3, 3, 512, 513)]


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), ON_GPU])
def device(request):
    """A GPU; and the CPU, which all machines have: against itself it says little."""
    found = bench.device_of(request.param)
    if found is None:
        pytest.skip(f"jax {jax.__version__} finds no {request.param} on this machine")
    return found


def is_gpu(device):
    return device.platform == "gpu"


def test_every_committed_digest(device):
    assert bench.wrong_digests(device, 1 if is_gpu(device) else 40) == {}


BUILDERS = {
    "default": qrjax.he_normal_qr(),
    "hash": qrjax.he_normal_hash(),
    "zero_mean": qrjax.lecun_uniform_hash(zero_mean=True),
    "truncated": qrjax.truncated_normal_qr(0.02),
    "points": qrjax.glorot_uniform_qr(layout="points"),
}
# A CPU against itself says little, so two are enough by default.
each_builder = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("default", "hash") else pytest.mark.slow) for n in BUILDERS]
)


@each_builder
def test_large_weights_have_the_bits_of_a_cpu(device, name):
    init = BUILDERS[name]
    for shape in LARGE if is_gpu(device) else SHAPES:
        expected = on(jax.devices("cpu")[0], init, shape)
        np.testing.assert_array_equal(on(device, init, shape), expected)


def on(device, init, shape):
    with jax.default_device(device):
        made = jax.jit(lambda key: init(key, shape))(jax.random.key(7))
        assert made.devices() == {device}
        return np.asarray(made)


@each_builder
def test_mapped_and_single_weights_have_the_bits_of_a_cpu(device, name):
    init, shape, cpu = BUILDERS[name], (64, 48), jax.devices("cpu")[0]

    def mapped(key):
        return jax.vmap(lambda k: init(k, shape))(jax.random.split(key, 3))

    def single(key):
        return init.at(key, shape, (slice(3, 60, 7), 11))

    results = []
    for where in (device, cpu):
        with jax.default_device(where):
            results.append([np.asarray(jax.jit(f)(jax.random.key(7))) for f in (mapped, single)])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("builder", [qrjax.orthogonal_qr, qrjax.orthogonal_hash], ids=lambda b: b.__name__)
def test_orthogonal_weights_are_orthogonal(device, builder):
    made = np.float64(on(device, builder(2.0), (96, 64)))
    np.testing.assert_allclose(made.T @ made, 4 * np.eye(64), atol=2e-5)
    np.testing.assert_allclose(made, on(jax.devices("cpu")[0], builder(2.0), (96, 64)), atol=2e-5)


@each_builder
def test_temporaries_are_a_twentieth_at_most(device, name):
    with jax.default_device(device):
        compiled = jax.jit(lambda key: BUILDERS[name](key, (4096, 4096))).lower(jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.05 * 4096 * 4096 * 4


def test_the_plain_sequence_keeps_the_pace_of_filling(device):
    size, repeats = (16_384, 15) if is_gpu(device) else (64, 2)
    table = bench.rows(device, size, ["uniform"], [bench.SEQUENCE])
    bench.measure(table, repeats, batch=gpu_rows.BATCH if is_gpu(device) else 2)
    assert all(len(row.seconds) == repeats for row in table)
    assert bench.fill_share(table) >= (bench.FILL_SHARE if is_gpu(device) else 0)


@pytest.mark.parametrize("law", ["uniform", *(pytest.param(law, marks=pytest.mark.slow) for law in gpu_rows.LAWS[1:])])
def test_every_row_fills_its_array(device, law):
    table = bench.rows(device, 64, [law])
    assert {row.source for row in table} - {bench.CURAND} == {bench.FILLING, *bench.OURS, *gpu_rows.THEIRS}
    for row in table:
        row.reset()
        made = [row.start(k) for k in range(2)]
        row.wait(made[1])
        if row.source != bench.CURAND:
            assert made[0].shape == (64, 64)
            assert made[0].devices() == {device}
            # The plain sequence is one, whatever the key.
            assert np.array_equal(*made) == (row.source == bench.SEQUENCE)


def test_a_model_of_seven_billion_weights(device):
    if not is_gpu(device):
        drawn = bench.draw_model("small", "hash", device, repeats=1)
        assert drawn.parameters == 2 * 64 * 32 + 4 * 32**2 + 3 * 32 * 64 + 3 * 32
        assert drawn.size >= 2 * drawn.parameters
        assert drawn.seconds < bench.DRAWING_SECONDS
        return
    memory = device.memory_stats()["bytes_limit"]
    if memory < 20e9:
        pytest.skip(f"the {device.device_kind} lends {memory / 1e9:.0f} GB; the weights take 13.5")
    for source in ("default", "hash"):
        drawn = bench.draw_model("decoder_7b", source, device)
        assert 6.5e9 < drawn.parameters < 7e9
        assert drawn.seconds < bench.DRAWING_SECONDS
        assert drawn.temporaries <= 0.1 * drawn.size


@pytest.mark.slow
def test_autoinit_end_to_end(device):
    found = bench.run_autoinit("gpt2" if is_gpu(device) else "small", device)
    assert found.equal == found.arrays > 10
    assert found.octaves < 0.2


def test_several_devices_draw_what_one_does(device):
    devices = jax.devices(device.platform)
    if is_gpu(device) and len(devices) == 1:
        pytest.skip("there is one GPU only")
    mesh = jax.make_mesh((len(devices),), ("x",), devices=devices, axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x"))
    init, shape = qrjax.he_normal_qr(), (300, 128 * len(devices))
    made = jax.jit(lambda key: init(key, shape), out_shardings=sharding)(jax.random.key(7))
    np.testing.assert_array_equal(np.asarray(made), on(devices[0], init, shape))


@pytest.mark.gpu
def test_a_gpu_is_what_the_tests_ran_on():
    device = bench.device_of("gpu")
    if device is None:
        pytest.skip(f"jax {jax.__version__} finds no gpu on this machine")
    facts = bench.facts(device)
    assert facts["card"] == device.device_kind
    assert facts["driver"] != "not known"
    with jax.default_device(device):
        assert jnp.zeros(3).devices() == {device}


def test_the_script_on_the_cpu(monkeypatch, capsys):
    parts = [flag for part in ("speed", "model") for flag in ("--part", part)]
    options = ["--platform", "cpu", "--size", "32", "--repeats", "1", "--model", "small", "--markdown"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *parts, *options])
    monkeypatch.setattr(bench, "rows", functools.partial(bench.rows, laws=["uniform"], sources=[bench.SEQUENCE]))
    monkeypatch.delitem(bench.WEIGHTS, "default")
    monkeypatch.delitem(bench.WEIGHTS, "Flax's own")
    bench.main()
    printed = capsys.readouterr().out
    model = ("small in bfloat16", "drawing the model, hash")
    for expected in ("32 x 32 float32 values", "largest temporaries", *model, "card cpu"):
        assert expected in printed


def test_the_script_says_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(bench, "device_of", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"gpu.py: jax .* finds no gpu on this machine"):
        bench.main()


def test_reports_of_what_was_found():
    found = bench.Initialized(124_000_000, 1.0, 2.0, 0.5, 20, 19, 0.05)
    assert bench.autoinit_report("gpt2", found).rows[0][-2] == "19 of 20 arrays"
    slow = bench.Drawn("hash", 7, 14, 0, 1.0, 1.0, 3.5)
    theirs = slow._replace(source=bench.FLAX, compile_seconds=5.0)
    targets = bench.model_targets([slow, slow._replace(seconds=2.0), theirs], [theirs, slow], found)
    assert [target.reached for target in targets] == [False, True, False, True, True]


def test_pytest_is_heard_while_it_runs(monkeypatch):
    said = b"[gw0] [ 50%] PASSED tests/a.py::one\n[gw1] [100%] FAILED tests/b.py::two\nFAILED tests/b.py::two - why\n"

    def late(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout, said)

    monkeypatch.setattr(subprocess, "run", late)
    report = bench.tests_report(["tests"], 7.0)
    assert report.rows == [
        ["those that 7 s sufficed for", "1 passed, 1 failed, 0 error"],
        ["not passed", "tests/b.py::two"],
    ]


def test_parts_are_done_as_asked(monkeypatch):
    name = "he_normal_qr float32"
    monkeypatch.setattr(bench, "CHUNKS", 1)
    monkeypatch.setattr(
        bench, "digests", lambda every, first: {name: f"{every}{first}", "he_normal_hash (7, 1)": right}
    )
    right = bench.committed()["he_normal_hash (7, 1)"]
    options = argparse.Namespace(part=["digests"], size=8, repeats=1, model="small", tests=None)
    (report,) = bench.run(options, jax.devices("cpu")[0], bench.Clock())
    assert report.rows[0][1].startswith("1 of 2 drawn")
    assert report.rows[1:] == [["other bits", name]]


def test_what_there_is_no_time_for_is_said(capsys):
    options = argparse.Namespace(part=None, size=8, repeats=1, model="small", tests=None)
    reports = list(bench.run(options, jax.devices("cpu")[0], bench.Clock(0.0)))
    *_, cases, left_out = reports
    assert cases.rows[0][1].startswith("0 of 0 drawn")
    said = [cells[0] for cells in left_out.rows]
    assert "speed: compiling uniform hash" in said
    assert "autoinit: small" in said
    assert {what.partition(":")[0] for what in said} == set(bench.PARTS)
    assert capsys.readouterr().err == ""


def test_no_device_of_a_platform_that_is_not_there():
    assert bench.device_of("cpu") == jax.devices("cpu")[0]
    assert bench.device_of("a platform that nobody makes") is None
