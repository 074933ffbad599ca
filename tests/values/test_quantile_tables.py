"""Quantiles read from tables: the same rows however they are come by, rows in order, and near the polynomials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from wrongs import wrong

from qrjax._values import _quantiles, _tables
from qrjax._values._tables import ROWS, Reader, Row

LAST = 2**32 - 1
PIECES = np.arange(ROWS, dtype=np.uint32)
# The rows in the order in which magnitudes grow, and by how much a slope's unit is finer than the value's.
TABLES = {
    "truncated_normal": (_tables.truncated_normal_row, PIECES, _tables.TRUNCATED_SHIFT),
    "normal": (_tables.normal_row, np.arange(ROWS).reshape(32, 32)[:, ::-1].reshape(-1), _tables.NORMAL_SHIFT),
}
QUANTILES = {"truncated_normal": _tables.truncated_normal_quantile, "normal": _tables.normal_quantile}
each = pytest.mark.parametrize("name", TABLES)


def words():
    """Both ends, the surroundings of every power of two, and random words."""
    near = np.array([2**k + d for k in range(33) for d in (-1, 0, 1)])
    numbers = np.concatenate([near[(near > 0) & (near <= LAST)], np.random.default_rng(5).integers(1, LAST, 50_000)])
    return numbers.astype(np.uint32)


@each
def test_a_platform_gets_the_same_rows_in_whatever_way_it_comes_by_them(name):
    reader = Reader(TABLES[name][0])
    expected = reader.computed(jnp.asarray(PIECES))
    for read in (reader.by_words, reader.by_pairs):
        np.testing.assert_array_equal(jax.vmap(read)(jnp.asarray(PIECES)), expected)


@each
def test_values_are_in_order(name):
    """Within a row no coefficient is negative; so it is enough that none ends above the next one's start."""
    row, order, shift = TABLES[name]
    rows = [jnp.asarray(w)[order] for w in Reader(row).computed(jnp.asarray(PIECES))]
    start = np.asarray(rows[0]).astype(np.int64)
    end = np.asarray(_tables.at(Row(*rows), jnp.full(ROWS, LAST, jnp.uint32), shift)).astype(np.int64)
    assert not wrong(end >= start, end=end, start=start)
    assert not wrong(start[1:] >= end[:-1], start=start[1:], end=end[:-1])


@each
def test_nothing_passes_32_bits(name):
    slope, curve = (np.asarray(w).astype(np.int64) for w in _slope_and_curve(name))
    assert (slope + curve).max() < 2**32


def _slope_and_curve(name):
    _, slope = Reader(TABLES[name][0]).computed(jnp.asarray(PIECES))
    return slope, (slope & 2**_tables.CURVE_BITS - 1) << _tables.CURVE_SHIFT


def test_tables_are_near_the_polynomials_that_they_interpolate():
    bits = words()
    for law, fraction, allowed in (("truncated_normal", 30, 7e-8), ("normal", 28, 2.4e-7)):
        table, polynomials = (getattr(m, law)(jnp.asarray(bits)) for m in (_tables, _quantiles))
        np.testing.assert_array_equal(table.negative, polynomials.negative)
        found, expected = (np.asarray(d.magnitude).astype(float) / 2.0**fraction for d in (table, polynomials))
        error = np.abs(found - expected)
        assert not wrong(error <= allowed, error=error, value=expected, word=bits)


@each
def test_on_every_platform_a_program_of_its_own(name):
    quantile, operand = QUANTILES[name], jnp.asarray(words())
    texts = {p: export.export(jax.jit(quantile), platforms=[p])(operand).mlir_module() for p in ("cpu", "cuda", "tpu")}
    reads = {p: [line for line in text.splitlines() if "stablehlo.dynamic_slice" in line] for p, text in texts.items()}
    assert {p: len(lines) for p, lines in reads.items()} == {"cpu": 2, "cuda": 1, "tpu": 0}
    assert "ui64" in reads["cuda"][0]
    assert not any("ui64" in line for line in reads["cpu"])
    assert {p: "stablehlo.map" in text for p, text in texts.items()} == {"cpu": True, "cuda": True, "tpu": False}
    assert "ui64" not in texts["tpu"]


@each
def test_the_same_bits_in_every_mode(name):
    quantile, operand = QUANTILES[name], jnp.asarray(words()[:2000])
    expected = np.asarray(quantile(operand))
    with jax.disable_jit():
        np.testing.assert_array_equal(quantile(operand), expected)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(quantile(operand), expected)
    np.testing.assert_array_equal(jax.vmap(quantile)(operand), expected)
    program = export.export(jax.jit(quantile), platforms=["cpu", "tpu", "cuda"])(operand)
    np.testing.assert_array_equal(program.call(operand), expected)
