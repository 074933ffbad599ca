"""Sweeps: what they return, and that a file of theirs is continued as if nothing had happened."""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._sweep import _memory, _programs
from qrjax._sweep._seeds import padded

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)


def train(seed, x):
    key = jax.random.key(seed)
    kernel = qrjax.uniform_hash(1.0)(key, (x.shape[-1], 16))
    losses = jnp.cumsum(jnp.abs(x @ kernel).mean(0))
    return {
        "loss": losses,
        "final": {"mean": losses[-1], "wins": (losses > 1).sum()},
        "half": losses[:2].astype("bfloat16"),
    }


def sweep(seeds=6, *, train=train, **options):
    return qrjax.sweep(train, seeds, X, progress=False, **options)


def same(one, other):
    assert one.seeds == other.seeds
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(scope="module")
def whole():
    return sweep()


class TestResults:
    def test_are_those_of_vmap(self, whole):
        expected = jax.jit(jax.vmap(train, in_axes=(0, None)))(jnp.arange(6), X)
        np.testing.assert_array_equal(whole["loss"], expected["loss"])
        np.testing.assert_array_equal(whole["final/mean"], expected["final"]["mean"])
        np.testing.assert_array_equal(whole["final/wins"], expected["final"]["wins"])
        np.testing.assert_array_equal(whole["half"], expected["half"])
        assert {name: str(values.dtype) for name, values in whole.items()} == {
            "final/mean": "float32", "final/wins": "int32", "half": "bfloat16", "loss": "float32",
        }  # fmt: skip

    def test_follow_the_order_of_the_seeds(self, whole):
        found = sweep([5, 0, 3])
        assert found.seeds == (5, 0, 3)
        np.testing.assert_allclose(found["loss"], whole["loss"][[5, 0, 3]], rtol=1e-6)

    @pytest.mark.parametrize("chunk", [1, 4, 7])
    def test_do_not_depend_on_the_chunk(self, whole, chunk):
        # But for the last bits, for which a product of other sizes may take another order.
        np.testing.assert_allclose(sweep(chunk=chunk)["loss"], whole["loss"], rtol=1e-6)

    def test_bare_array_and_large_seeds(self):
        found = qrjax.sweep(lambda seed: seed, [2**32 - 1, 7], progress=False)
        assert found["value"].tolist() == [2**32 - 1, 7]

    def test_rows_are_tidy(self, whole, tmp_path):
        rows = list(whole.rows())
        assert len(rows) == 6 * (16 + 1 + 1 + 2)
        assert rows[0].keys() == {"seed", "metric", "step", "value"}
        by_place = {(row["seed"], row["metric"], row["step"]): row["value"] for row in rows}
        assert len(by_place) == len(rows)
        assert by_place[4, "loss", 15] == whole["loss"][4, 15]
        assert by_place[4, "final/mean", None] == whole["final/mean"][4]
        frame = whole.to_pandas()
        assert frame[(frame.metric == "loss") & (frame.seed == 2)].value.tolist() == whole["loss"][2].tolist()
        whole.to_csv(tmp_path / "table.csv")
        lines = (tmp_path / "table.csv").read_text().splitlines()
        assert lines[0] == "seed,metric,step,value"
        assert len(lines) == 1 + len(rows)
        assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]

    def test_table_tells_the_spread(self, whole):
        line = next(line for line in str(whole).splitlines() if line.strip().startswith("final/mean"))
        values = whole["final/mean"].astype(np.float64)
        numbers = [float(word) for word in line.split()[2:7]]
        expected = [values.mean(), values.std(ddof=1), values.min(), np.median(values), values.max()]
        np.testing.assert_allclose(numbers, expected, rtol=1e-3)

    def test_no_such_result(self, whole):
        with pytest.raises(KeyError, match=r"no result has the name 'los'; names: final/mean"):
            whole["los"]

    def test_diverged_seeds_are_kept(self, tmp_path):
        def diverges(seed, x):
            return {"loss": jnp.where(seed == 1, jnp.nan, jnp.where(seed == 2, -jnp.inf, x.sum()))}

        first = sweep(3, train=diverges, file=tmp_path / "f")
        same(first, sweep(3, train=diverges, file=tmp_path / "f"))
        assert np.isnan(first["loss"][1])
        assert first["loss"][2] == -np.inf
        for line in (tmp_path / "f").read_text().splitlines():
            json.loads(line, parse_constant=pytest.fail)  # strict JSON has no NaN


class TestFile:
    def test_continues_bit_for_bit(self, tmp_path):
        def again(seed, x):  # compiled anew each time, to a program of the same digest
            return train(seed, x)

        whole = sweep(chunk=2, file=tmp_path / "whole")
        sweep(range(3), chunk=2, file=tmp_path / "part", train=again)
        same(sweep(file=tmp_path / "part", train=again), whole)
        ran = [json.loads(line)["seed"] for line in (tmp_path / "part").read_text().splitlines()[2:]]
        assert ran == list(range(6))  # none twice

    @pytest.mark.parametrize("cut", [1, 30, 200])
    def test_torn_last_line_is_run_again(self, tmp_path, cut):
        file = tmp_path / "f"
        whole = sweep(chunk=2, file=file)
        data = file.read_bytes()
        file.write_bytes(data[:-cut])
        same(sweep(file=file), whole)
        assert len(file.read_bytes().splitlines()) == len(data.splitlines())

    def test_torn_header_is_written_again(self, tmp_path):
        file = tmp_path / "f"
        file.write_text('{"format": "qrjax.sw')
        sweep(2, file=file)
        assert json.loads(file.read_text().splitlines()[0]) == {"format": "qrjax.sweep", "version": 1}

    def test_holds_settings_versions_and_timings(self, tmp_path):
        sweep(2, file=tmp_path / "f", settings={"width": 16})
        _, header, *records = map(json.loads, (tmp_path / "f").read_text().splitlines())
        assert header["settings"] == {"width": 16}
        assert header["versions"]["jax"] == jax.__version__
        assert header["metrics"]["loss"] == {"shape": [16], "dtype": "float32"}
        assert all(record["seconds"] > 0 for record in records)

    def test_finished_sweep_runs_nothing(self, tmp_path, monkeypatch):
        whole = sweep(file=tmp_path / "f")
        before = (tmp_path / "f").read_bytes()
        monkeypatch.setattr("qrjax._sweep._sweep.as_array", as_array_once(0))
        same(sweep(file=tmp_path / "f"), whole)
        assert (tmp_path / "f").read_bytes() == before

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"train": lambda seed, x: train(seed, 2 * x)}, "another training function or other arguments; it was"),
            ({"train": lambda seed, x: {"loss": x.sum() + seed.astype("float32")}}, "other metrics"),
            ({"settings": {"width": 3}}, r"other settings: \{\} there, \{'width': 3\} here"),
        ],
    )
    def test_of_something_else_is_left_alone(self, tmp_path, change, said):
        sweep(2, file=tmp_path / "f", chunk=2)
        before = (tmp_path / "f").read_bytes()
        with pytest.raises(ValueError, match=said):
            sweep(3, file=tmp_path / "f", **change)
        assert (tmp_path / "f").read_bytes() == before

    def test_other_arguments_are_noticed(self, tmp_path):
        sweep(2, file=tmp_path / "f")
        with pytest.raises(ValueError, match="other arguments"):
            qrjax.sweep(train, 2, X + 1, file=tmp_path / "f", progress=False)

    @pytest.mark.parametrize(
        "text", ["notes\n", "notes", '{"format": "qrjax.record"}\n', "[1]\n", '{"format": "qrjax.sweep"']
    )
    def test_not_a_sweep_is_left_alone(self, tmp_path, text):
        (tmp_path / "f").write_text(text)
        if text.endswith('sweep"'):  # a torn header: nothing was in it
            sweep(2, file=tmp_path / "f")
            return
        with pytest.raises(ValueError, match=r"not a file of qrjax\.sweep|damaged|not an object"):
            sweep(2, file=tmp_path / "f")
        assert (tmp_path / "f").read_text() == text

    def test_of_a_later_version(self, tmp_path):
        (tmp_path / "f").write_text('{"format": "qrjax.sweep", "version": 2}\n')
        with pytest.raises(ValueError, match="has the format 2, and this qrjax reads 1; install a later one"):
            sweep(2, file=tmp_path / "f")

    def test_of_another_process_at_work(self, tmp_path):
        from qrjax._files._journal import opened

        with opened(tmp_path / "f", "qrjax.sweep"), pytest.raises(ValueError, match="another process is writing to"):
            sweep(2, file=tmp_path / "f")

    def test_of_another_process_at_work_on_windows(self, tmp_path, monkeypatch):
        # Its locks by hand: what Python's msvcrt is asked for, and that its refusal is said in words.
        from qrjax._files import _journal

        locked = []

        def locking(handle, mode, size):
            place = os.lseek(handle, 0, os.SEEK_CUR)
            if (mode, place, size) in locked:
                raise PermissionError(13, "Permission denied")
            locked.append((mode, place, size))

        monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(LK_NBLCK=2, locking=locking))
        monkeypatch.setattr(_journal, "sys", types.SimpleNamespace(platform="win32"))
        with _journal.opened(tmp_path / "f", "qrjax.sweep") as journal:
            journal.append([{"seed": 1}])
            with pytest.raises(ValueError, match="another process is writing to"):
                sweep(2, file=tmp_path / "f")
        assert locked == [(2, 2**31 - 2, 1)]
        assert len((tmp_path / "f").read_text().splitlines()) == 2

    def test_a_missing_folder_is_named_as_it_was_given(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"the folder '.*/nowhere' does not exist: 'nowhere/f'"):
            sweep(2, file="nowhere/f")

    def test_full_disk_loses_nothing(self, tmp_path, monkeypatch):
        file = tmp_path / "f"
        sweep(2, chunk=2, file=file)
        before, write = file.read_bytes(), os.write

        def full(handle, data):
            write(handle, data[:10])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space left"):
                sweep(4, file=file)
        assert file.read_bytes() == before
        assert sweep(4, file=file).seeds == (0, 1, 2, 3)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no-folder"):
            sweep(2, file=tmp_path / "no-folder" / "f")


def as_array_once(times):
    """The real function, for so many calls."""
    from qrjax._sweep._seeds import as_array

    left = [times]

    def limited(seeds):
        left[0] -= 1
        assert left[0] >= 0, "a chunk was run"
        return as_array(seeds)

    return limited


SLOWLY = """
import jax, jax.numpy as jnp, sys, time, qrjax

def train(seed):
    def slowly(n):
        time.sleep(0.05)
        return n
    kernel = qrjax.he_normal_qr()(jax.random.key(seed), (8, 8))
    waited = jax.pure_callback(slowly, jax.ShapeDtypeStruct((), jnp.uint32), seed, vmap_method="sequential")
    return {"norm": jnp.linalg.norm(kernel), "seed": waited}

found = qrjax.sweep(train, 40, chunk=4, file=sys.argv[1], progress=False)
print(found["norm"].tobytes().hex(), found["seed"].tolist() == list(range(40)))
"""


@pytest.mark.slow
def test_killed_midway_and_continued(tmp_path):
    """By SIGKILL, as the kernel kills for memory: nothing is run twice, nothing is lost, every bit is the same."""
    command = [sys.executable, "-c", SLOWLY]
    file = tmp_path / "killed"
    process = subprocess.Popen([*command, str(file)])
    while not file.exists() or len(file.read_bytes().splitlines()) < 2 + 12:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9
    kept = file.read_bytes().splitlines(keepends=True)
    continued = subprocess.run([*command, str(file)], capture_output=True, text=True, check=True)
    undisturbed = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert continued.stdout == undisturbed.stdout
    assert continued.stdout.endswith("True\n")
    lines = file.read_bytes().splitlines(keepends=True)
    whole = [line for line in kept if line.endswith(b"\n")]
    assert 2 + 12 <= len(whole) < 2 + 40
    assert lines[: len(whole)] == whole
    assert [json.loads(line)["seed"] for line in lines[2:]] == list(range(40))


class TestChunks:
    def test_fit_into_memory(self):
        """A program of 100 bytes and 10 a seed."""

        class Lowered:
            def __init__(self, count):
                self.temp_size_in_bytes, self.output_size_in_bytes, self.argument_size_in_bytes = 10 * count, 60, 40

            def compile(self):
                return self

            def memory_analysis(self):
                return self

        for free, most in [(1e9, 64), (740, 64), (739, 32), (400, 22), (150, 5), (10, 1)]:
            chunk, program, compiled = _memory.fitting(Lowered, 64, free)
            assert program is compiled
            assert chunk <= most
            assert chunk == 1 or 100 + 10 * chunk <= free
            assert chunk >= most // 3

    def test_of_a_real_program(self):
        big = jax.jit(jax.vmap(lambda seed: jnp.sort(jax.random.normal(jax.random.key(seed), (1 << 16,)))[0]))
        chunk, _, compiled = _memory.fitting(lambda n: big.lower(jax.ShapeDtypeStruct((n,), "int32")), 64, 8e6)
        assert 1 < chunk < 64
        assert compiled.memory_analysis().temp_size_in_bytes <= 8e6

    def test_free_memory_is_between_a_page_and_the_machine(self):
        assert 1e6 < _memory.available(jax.local_devices()) < 1e15

    def test_last_chunk_is_filled_up(self):
        assert padded([5, 6, 7], 2) == [(5, 6), (7, 7)]
        assert padded([5], 3) == [(5, 5, 5)]


@pytest.mark.parametrize(
    ("seeds", "error", "said"),
    [
        ("12", TypeError, "`seeds` must be whole numbers, or how many, got '12'"),
        (1.5, TypeError, "`seeds` must be whole numbers, or how many, got 1.5"),
        ([0, 1.5], TypeError, "`seeds` must be whole numbers, or how many"),
        ([], ValueError, r"`seeds` holds none, got \[\]"),
        (0, ValueError, "`seeds` holds none, got 0"),
        ([1, 2, 1], ValueError, "`seeds` holds 1 more than once"),
        ([-1], ValueError, "`seeds` must be from 0 to 4294967295, got -1"),
        (10**10, ValueError, "`seeds` are 10000000000, more than 10,000,000 at once; run them in parts"),
        ([2**32], ValueError, "`seeds` must be from 0 to 4294967295, got 4294967296"),
    ],
)
def test_wrong_seeds(seeds, error, said):
    with pytest.raises(error, match=said):
        sweep(seeds)


@pytest.mark.parametrize("chunk", [0, -2, 1.5, True])
def test_wrong_chunk(chunk):
    with pytest.raises(ValueError, match="`chunk` must be a positive integer"):
        sweep(chunk=chunk)


@pytest.mark.parametrize(
    ("returned", "said"),
    [(lambda _: {}, "must return numbers or arrays"), (jax.random.key, "real numbers, got 'value' of dtype key")],
)
def test_wrong_results(returned, said):
    with pytest.raises(TypeError, match=said):
        qrjax.sweep(returned, 2, progress=False)


def test_keys_among_the_arguments(tmp_path):
    def noisy(seed, key):
        return jax.random.normal(jax.random.fold_in(key, seed))

    key = jax.random.key(3)
    found = qrjax.sweep(noisy, 3, key, file=tmp_path / "f", progress=False)
    assert found["value"][1] == jax.random.normal(jax.random.fold_in(key, 1))
    with pytest.raises(ValueError, match="other arguments"):
        qrjax.sweep(noisy, 3, jax.random.key(4), file=tmp_path / "f", progress=False)


def test_autoinit_in_a_sweep():
    import flax.linen as nn

    network = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(8)])
    x = jax.random.normal(jax.random.key(1), (64, 16))

    def power(seed, x):
        return {"power": (network.apply(qrjax.autoinit(network, x, seed=seed), x) ** 2).mean()}

    found = qrjax.sweep(power, 16, x, progress=False)
    assert len(set(found["power"].tolist())) == 16
    assert found["power"].mean() == pytest.approx(1, abs=0.15)


def test_path_of_any_kind(tmp_path):
    same(sweep(2, file=str(tmp_path / "text")), sweep(2, file=Path(tmp_path / "path")))


@pytest.mark.slow
def test_a_terminal_shows_a_bar_that_goes_away(tmp_path):
    import os
    import pty

    terminal, inside = pty.openpty()
    program = SLOWLY.replace("progress=False", "progress=True").replace("40, chunk", "8, chunk").replace("0.05", "0.2")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "f")],
        stderr=inside, stdout=subprocess.PIPE, env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(inside)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 2**16)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    assert process.communicate()[0].endswith(b"False\n")  # eight of forty
    assert process.returncode == 0
    assert "4/8" in shown.decode()
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize(
    "settings", [{"filters": (1, 2)}, {"rate": float("nan")}, {"rate": "NaN"}, {1: 2}, {"deep": {"down": [None, True]}}]
)
def test_settings_of_any_plain_kind_are_found_again(tmp_path, settings):
    first = sweep(2, file=tmp_path / "f", settings=settings)
    same(sweep(2, file=tmp_path / "f", settings=settings), first)


@pytest.mark.parametrize("settings", ["abc", [1], {"rate": np.float32(0.1)}, {"train": print}])
def test_settings_that_a_file_cannot_hold(tmp_path, settings):
    with pytest.raises(TypeError, match="`settings` must be"):
        sweep(2, file=tmp_path / "f", settings=settings)
    assert not (tmp_path / "f").exists()


def test_plain_numbers_among_the_arguments(tmp_path):
    found = qrjax.sweep(lambda _, rate, rates: rate + rates[1], 3, 0.5, [1.0, 2.0], file=tmp_path / "f", progress=False)
    assert found["value"].tolist() == [2.5] * 3


def test_large_seeds_can_be_added(tmp_path):
    sweep(2, chunk=1, file=tmp_path / "f")
    assert sweep([0, 1, 2**31 + 5], file=tmp_path / "f").seeds == (0, 1, 2**31 + 5)


def test_results_of_one_name():
    with pytest.raises(TypeError, match=r"different names, got \['a/b', 'a/b'\]"):
        qrjax.sweep(lambda seed: {"a/b": seed, "a": {"b": seed}}, 2, progress=False)


def test_result_without_elements():
    found = qrjax.sweep(lambda _: {"none": jnp.zeros((0,))}, 2, progress=False)
    assert list(found.to_pandas().columns) == ["seed", "metric", "step", "value"]
    assert str(found).splitlines()[1].split() == ["none", "0", "0"]


DAMAGED = {
    "": "Expecting value",
    "{}": "it has no 'seed'",
    "[1]": "it is not an object",
    '{"seed": 1, "sec': "Unterminated string",
    '{"seed": 1, "seconds": 0.1, "values": {"loss": [1]}}': "its values have other names",
    '{"seed": 1, "seconds": 0.1, "values": {"value": [[1], 2]}}': "its values are no numbers",
    '{"seed": 1, "seconds": 0.1, "values": {"value": [1, 2]}}': "'value' has another shape",
}


@pytest.mark.parametrize(("line", "said"), DAMAGED.items(), ids=DAMAGED.values())
def test_damaged_line_is_set_aside_and_named(tmp_path, line, said):
    """Instead of seed 1's; the lines before and behind it are read."""
    file = tmp_path / "f"
    whole = sweep(3, train=plain, file=file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], line, lines[4]]) + "\n")
    with pytest.warns(qrjax.DamagedLineWarning, match=rf"line 4 of '.*f' is damaged and was set aside: .*{said}.*"):
        same(sweep(3, train=plain, file=file), whole)
    assert file.read_text().splitlines()[:5] == [*lines[:3], line, lines[4]]
    assert json.loads(file.read_text().splitlines()[5])["seed"] == 1  # alone
    assert len(file.read_text().splitlines()) == 6


def plain(seed, x):
    return x.sum() + seed.astype("float32")


def test_damaged_line_that_says_what_a_file_is_of(tmp_path):
    sweep(2, train=plain, file=tmp_path / "f")
    lines = (tmp_path / "f").read_text().splitlines()
    (tmp_path / "f").write_text("\n".join([lines[0], lines[1][:30], *lines[2:]]) + "\n")
    before = (tmp_path / "f").read_bytes()
    with (
        pytest.warns(qrjax.DamagedLineWarning, match="line 2"),
        pytest.raises(ValueError, match=r"line 2 of '.*f' is damaged, which says what its results are of"),
    ):
        sweep(2, train=plain, file=tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == before


class TestOtherChunks:
    def test_hold_for_what_is_missing(self, tmp_path):
        file = tmp_path / "f"
        first = sweep(2, chunk=1, file=file)
        found = sweep(6, chunk=4, file=file)
        same(sweep(6, file=file), found)
        np.testing.assert_array_equal(found["loss"][:2], first["loss"])
        np.testing.assert_array_equal(found["loss"][2:], sweep(range(2, 6), chunk=4)["loss"])
        records = [json.loads(line) for line in file.read_text().splitlines()[1:]]
        assert [record.get("chunk") for record in records] == [1, None, None, 4, None, None, None, None]

    def test_of_another_function_are_refused(self, tmp_path):
        sweep(2, chunk=1, file=tmp_path / "f", train=plain)
        before = (tmp_path / "f").read_bytes()
        with pytest.raises(ValueError, match="another training function"):
            sweep(2, chunk=2, file=tmp_path / "f", train=lambda seed, x: plain(seed, 2 * x))
        assert (tmp_path / "f").read_bytes() == before


class TestSecondSweep:
    """By the programs that XLA is given."""

    @pytest.fixture
    def compiled(self, monkeypatch):
        counted = []
        compile = _programs._Lowered._compiled
        monkeypatch.setattr(_programs._Lowered, "_compiled", lambda self: counted.append(1) or compile(self))
        return counted

    def test_does_not_compile(self, compiled):
        def once(seed, x):
            return x.sum() * 3 + seed.astype("float32")

        first = sweep(4, train=once)
        same(sweep(4, train=once), first)
        assert len(compiled) == 1
        again = qrjax.sweep(once, [7, 8, 9, 10], X + 1, progress=False)  # of the same shapes
        assert again["value"][0] == (X + 1).sum() * 3 + 7
        assert len(compiled) == 1

    def test_compiles_what_has_changed(self, compiled):
        scale = [5.0]

        def scaled(seed, x, y):
            return (x + 0 * y).sum() * scale[0] + seed.astype("float32")

        def other(seed, x, y):
            return (y + 0 * x).sum() * scale[0] + seed.astype("float32")

        found = [qrjax.sweep(function, 2, X + 1, X + 2, progress=False)["value"][0] for function in (scaled, other)]
        scale[0] = 7.0
        found.append(qrjax.sweep(scaled, 2, X + 1, X + 2, progress=False)["value"][0])
        np.testing.assert_allclose(found, [5 * 32, 5 * 64, 7 * 32], rtol=1e-5)
        assert len(compiled) == 3

    def test_calls_the_function_that_is_meant(self):
        def calling(number):
            return lambda seed: jax.pure_callback(
                lambda n: n + np.uint32(number), jax.ShapeDtypeStruct((), "uint32"), seed, vmap_method="sequential"
            )

        assert qrjax.sweep(calling(1), 2, progress=False)["value"].tolist() == [1, 2]
        assert qrjax.sweep(calling(2), 2, progress=False)["value"].tolist() == [2, 3]

    def test_keeps_no_more_than_a_few(self, monkeypatch):
        monkeypatch.setattr(_programs, "KEPT", 1)
        for factor in range(3):
            qrjax.sweep(lambda seed, factor=factor: seed * jnp.uint32(factor), 2, progress=False)
        assert len(_programs._KEPT) == 1


@pytest.mark.parametrize(
    ("devices", "error", "said"),
    [
        ("cpu", TypeError, "`devices` must be devices of JAX, got 'cpu'; for example"),
        ([], ValueError, r"`devices` must be different devices, one or several, got \[\]"),
        (2, TypeError, "`devices` must be devices of JAX, got 2"),
    ],
)
def test_wrong_devices(devices, error, said):
    with pytest.raises(error, match=said):
        sweep(devices=devices)


def test_on_a_device_that_is_named():
    same(sweep(3, train=plain, devices=jax.local_devices()[:1]), sweep(3, train=plain))
    with jax.default_device(jax.local_devices()[0]):
        same(sweep(3, train=plain), sweep(3, train=plain, devices=jax.local_devices()[0]))
