"""The counting of operations behind the limits on paper."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._values._tables import normal_quantile
from qrjax._words._pairs import _mulhi_of_halves, materialized, mulhi

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import operations as bench
from stablehlo import exported

N = 1024
WORDS = jnp.arange(N, dtype=jnp.uint32)


def counted(function, chip, *arguments):
    """Operations for one of N elements: integer, float."""
    program = exported(function, *arguments, platforms=(chip.platform,), anywhere=True)
    compiled = jax.jit(program.call).lower(*arguments).compile()
    found = bench.counted(compiled.as_text(), chip, 4 * N)
    return found.integers / N, found.floats / N


def rows_and_columns(x):
    """Four operations a row, and one for each of its 32 elements."""
    row = x[:32] * 3
    row = (row ^ row >> 7) * 5
    (row,) = materialized(row)
    return (row[:, None] ^ jnp.arange(32, dtype=jnp.uint32)[None, :]).reshape(-1)


def loop(x):
    return jax.lax.fori_loop(0, 10, lambda _, y: y * y ^ x, x)


# Of a function of words: integer operations on a TPU, and on a GPU.
KNOWN = {
    "three": (lambda x: (x * 3 ^ x) >> 2, 3, 3),
    "a high word": (lambda x: mulhi(x, x ^ 5), 1 + bench.HALVES, 1 + 2),
    "a division": (lambda x: x // jnp.uint32(7), bench.HALVES + 1, 3),
    "set bits": (jax.lax.population_count, 1, 4),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_counts(name):
    function, on_tpu, on_gpu = KNOWN[name]
    assert counted(function, bench.TPU, WORDS) == (on_tpu, 0)
    assert counted(function, bench.GPU, WORDS) == (on_gpu, 0)


def test_what_is_mapped_is_counted_for_every_element():
    """A table's row and a product: the GPU reads, and the TPU works the row out."""
    words = jnp.arange(1, N + 1, dtype=jnp.uint32)
    on_gpu, on_tpu = (counted(normal_quantile, chip, words)[0] for chip in (bench.GPU, bench.TPU))
    assert 20 <= on_gpu < 50
    assert on_tpu > 10 * on_gpu


def test_floats_are_counted_apart():
    assert counted(lambda x: (x ^ x >> 3).astype(jnp.float32) * 0.5, bench.TPU, WORDS) == (2, 2)


def test_halves_are_what_the_narrow_product_takes():
    x = jnp.uint32(3)
    jaxpr = jax.make_jaxpr(_mulhi_of_halves)(x, x)
    assert sum(e.primitive.name not in ("convert_element_type", "broadcast_in_dim") for e in jaxpr.eqns) == bench.HALVES


def test_what_is_done_once_a_row_counts_with_its_share():
    integers, _ = counted(rows_and_columns, bench.TPU, WORDS)
    # The reduction that keeps the rows takes a few of its own.
    assert 1 + 4 / 32 <= integers <= 1 + 12 / 32


def test_loops_turn():
    integers, _ = counted(loop, bench.TPU, WORDS)
    assert 20 <= integers < 21


@pytest.mark.parametrize("chip", bench.CHIPS, ids=lambda c: c.name)
def test_the_less_of_operations_and_memory_is_the_bound(chip):
    cheap = bench.Count(integers=N, floats=0, written=4 * N, read=0)
    rate, holds = bench.bound(cheap, chip, N)
    assert holds == "memory"
    assert rate == pytest.approx(chip.bandwidth / 4)
    rate, holds = bench.bound(cheap._replace(integers=1000 * N), chip, N)
    assert holds == "operations"
    assert rate == pytest.approx(chip.operations / 1000)


@pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")
def test_layouts_are_as_dear_as_they_do():
    found = {
        source: bench.count(source, "uniform", "float32", 256, bench.GPU).integers / 256**2
        for source in ("sequence, plain, dim 1", "outputs (default)", "hash")
    }
    assert found["sequence, plain, dim 1"] < found["hash"] < found["outputs (default)"] < 150


def test_a_tpus_product_costs_more_than_a_gpus():
    counts = [bench.count("hash", "normal", "bfloat16", 64, chip) for chip in bench.CHIPS]
    assert counts[0].integers > 1.5 * counts[1].integers
    assert counts[0].written == 2 * 64 * 64


def test_our_draws_take_fewer_operations_than_theirs():
    sources = ("hash", "outputs (default)", bench.THEIRS)
    found = [bench.count(source, "normal", "float32", 256, bench.GPU) for source in sources]
    ours, default, theirs = (count.integers + count.floats for count in found)
    assert ours < default < theirs


def test_the_script(monkeypatch, capsys):
    options = ["--markdown", "--size", "64", "--measure", "1", "--source", "hash", "--law", "uniform"]
    monkeypatch.setattr(sys, "argv", ["operations.py", *options])
    bench.main()
    printed = capsys.readouterr().out
    assert "Operations a weight, 64 x 64 in float32" in printed
    assert "| hash | uniform |" in printed
    assert "| TPU v5e | 6.14e+12 | 8.19e+11 | 30 |" in printed


def test_the_program_that_is_counted_draws_the_weights():
    init = bench.draw_of("outputs (default)", "normal", "float32")
    assert init == qrjax.variance_scaling_qr(1.0, "fan_in", "normal", dtype="float32")
    program = exported(lambda key: init(key, (64, 48)), bench.KEY, platforms=("tpu",), anywhere=True)
    np.testing.assert_array_equal(program.call(bench.KEY), init(bench.KEY, (64, 48)))
