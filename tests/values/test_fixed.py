"""Fixed-point functions held in 32-bit and in 64-bit words: the same bits, and each where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from qrjax._values import _quantiles
from qrjax._values._fixed import NARROW, WIDE, polynomial

LAST = 2**32 - 1
# With the words that each takes: probabilities, octaves (below 2**32 / 2**26 of them), mantissas.
FUNCTIONS = {
    "truncated_normal_magnitude": [(0, LAST)],
    "normal_magnitude": [(0, LAST), (0, 32 << 26)],
    "far_normal_magnitude": [(0, LAST), (0, LAST)],
    "log2_of_mantissa": [(2**31, LAST)],
}
each = pytest.mark.parametrize("name", FUNCTIONS)


def words(ranges):
    """Both ends, the surroundings of every power of two, and random words, in random company."""
    rng = np.random.default_rng(7)
    near = np.array([2**k + d for k in range(33) for d in (-1, 0, 1)])
    rows = []
    for low, high in ranges:
        edges = near[(near >= low) & (near <= high)]
        rows.append(rng.permutation(np.resize(np.concatenate([edges, rng.integers(low, high, 20_000)]), 40_000)))
    return [row.astype(np.uint32) for row in rows]


def in_64_bits(function, *operands):
    with jax.enable_x64(True):
        return np.asarray(function(WIDE, *(jnp.asarray(w, np.uint64) for w in operands)))


@pytest.mark.few("truncated_normal_magnitude", "log2_of_mantissa")
@each
def test_narrow_and_wide_words_give_the_same_bits(name):
    function, operands = getattr(_quantiles, name), words(FUNCTIONS[name])
    narrow = function.__wrapped__(NARROW, *map(jnp.asarray, operands))
    wide = in_64_bits(function.__wrapped__, *operands)
    np.testing.assert_array_equal(function(*operands), narrow)
    np.testing.assert_array_equal(wide.astype(np.uint32), narrow)
    with jax.disable_jit():
        np.testing.assert_array_equal(function(*operands), narrow)


@pytest.mark.few("truncated_normal_magnitude", "log2_of_mantissa")
@each
def test_words_are_wide_on_a_cpu_alone(name):
    operands = words(FUNCTIONS[name])
    programs = {p: export.export(jax.jit(getattr(_quantiles, name)), platforms=[p])(*operands).mlir_module()
                for p in ("cpu", "cuda", "tpu")}  # fmt: skip
    assert "ui64" not in programs["tpu"]
    selects = {p: [line for line in text.splitlines() if "stablehlo.select" in line] for p, text in programs.items()}
    assert selects["cpu"]
    assert all("ui64" in line for line in selects["cpu"])
    assert selects["cuda"]
    assert not any("ui64" in line for line in selects["cuda"])  # products alone are wide
    assert "ui64" in programs["cuda"]


@pytest.mark.few("truncated_normal_magnitude", "log2_of_mantissa")
@each
def test_a_program_for_several_platforms_runs_here(name):
    operands = words(FUNCTIONS[name])
    program = export.export(jax.jit(getattr(_quantiles, name)), platforms=["cpu", "tpu", "cuda"])(*operands)
    np.testing.assert_array_equal(program.call(*operands), getattr(_quantiles, name)(*operands))


def test_polynomials_against_integers_of_python():
    """By Horner's rule with a floor at every product, as `horner` promises."""
    row, points = (3, 0x0FFFFFFF, 0, 0x10000001, 0x7FFFFFFF), [0, 1, 2**16, 2**31, LAST]
    expected = []
    for x in points:
        total = row[0]
        for coefficient in row[1:]:
            total = (total * x >> 32) + coefficient
        expected.append(total)
    assert [int(v) for v in polynomial(NARROW, row, jnp.asarray(points, np.uint32))] == expected
    assert in_64_bits(lambda a, x: polynomial(a, row, x), points).tolist() == expected
