"""Direction numbers against SciPy's, and the file that holds them."""

import functools
import hashlib
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

from qrjax._sequences import _directions as table
from qrjax._words._pairs import reverse_bits, unpacked

DIMENSIONS = table.DIMENSIONS
# The special first dimension, every small degree, both sides of the compact table's end, both ends.
SAMPLE = [*range(1, 20), 100, 1000, 1110, 1111, 1112, 1113, 5000, 12345, 21200, 21201]
FILE = pathlib.Path(table.__file__).with_name("joe_kuo_d6.npy")
RECIPE = pathlib.Path(__file__).parents[1] / "recipes" / "pack_directions.py"


@functools.cache
def scipys():
    """SciPy's direction numbers of all dimensions, most significant bit first: shape (21201, 32)."""
    return qmc.Sobol(DIMENSIONS, bits=32, scramble=False)._sv


traced_directions = jax.jit(jax.vmap(table.directions))


def constants(function, *args):
    """The sizes in bytes of the constants in a function's program, largest first."""
    return sorted((np.asarray(c).nbytes for c in jax.make_jaxpr(function)(*args).consts), reverse=True)


def test_static_dimensions_are_scipys():
    found = [table.static_directions(dim) for dim in SAMPLE]
    np.testing.assert_array_equal(found, scipys()[np.array(SAMPLE) - 1])


def test_traced_dimensions_are_scipys():
    found = traced_directions(jnp.array(SAMPLE))
    np.testing.assert_array_equal(found, scipys()[np.array(SAMPLE) - 1])
    assert found.dtype == jnp.uint32


@pytest.mark.parametrize("digits", [18, 32])
def test_all_static_dimensions_are_scipys(digits):
    # One dimension's is a row of these.
    numbers = table._numbers(table.packed_directions(), digits)
    powers = np.arange(31, 31 - digits, -1, dtype=np.uint32)
    np.testing.assert_array_equal(numbers.T << powers, scipys()[:, :digits])


@pytest.mark.slow
def test_all_traced_dimensions_are_scipys():
    np.testing.assert_array_equal(traced_directions(jnp.arange(1, DIMENSIONS + 1)), scipys())


@pytest.mark.few("int8", "uint32")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int32"])
def test_a_traced_dimension_may_have_any_integer_dtype(dtype):
    np.testing.assert_array_equal(jax.jit(table.directions)(jnp.asarray(101, dtype)), scipys()[100])


@pytest.mark.parametrize(("dim", "same"), [(21202, 1), (2 * 21201, 21201), (3 * 21201 + 7, 7)])
def test_a_traced_dimension_wraps(dim, same):
    np.testing.assert_array_equal(jax.jit(table.directions)(jnp.uint32(dim)), scipys()[same - 1])


def test_compact_directions_are_the_first_1111():
    # Words in the middle of each dimension's share of [0, 2**32), and at both ends.
    dims = np.arange(1, table.COMPACT_DIMENSIONS + 1)
    middles = ((2 * dims - 1) * 2**31 // table.COMPACT_DIMENSIONS).astype(np.uint32)
    words = np.concatenate([[0], middles, [2**32 - 1]]).astype(np.uint32)
    for digits in (32, 25, 8):
        found = jax.jit(jax.vmap(functools.partial(table.compact_directions, digits=digits)))(words)
        np.testing.assert_array_equal(found, scipys()[np.concatenate([[1], dims, [1111]]) - 1][:, :digits])


def test_the_compact_dimensions_are_those_up_to_degree_13():
    degrees = np.array([int(row[0]).bit_length() - 1 for row in table.packed_directions()])
    assert degrees[: table.COMPACT_DIMENSIONS].max() == 13
    assert degrees[table.COMPACT_DIMENSIONS] == 14
    assert degrees.max() == table.LARGEST_DEGREE
    assert (np.diff(degrees) >= 0).all()


# Up to the largest degree numbers are made on the host, from the next one on in the program.
@pytest.mark.few("1-5-1", "700-12-32", "21199-6-18")
@pytest.mark.parametrize("digits", [1, 2, 9, 18, 19, 32])
@pytest.mark.parametrize(("first", "count"), [(1, 5), (700, 12), (21_199, 6)])
def test_directions_at_offsets(first, count, digits):
    offsets = np.arange(count, dtype=np.uint32).reshape(-1, 1)
    found = jax.jit(lambda o: table.directions_at(o, first, count, digits))(offsets)
    rows = (first - 1 + np.arange(count)) % DIMENSIONS
    np.testing.assert_array_equal(found, scipys()[rows].T[:digits, :, None])


def test_directions_at_offsets_of_any_rank():
    offsets = jnp.arange(6, dtype=jnp.uint32)
    for digits in (7, 32):
        at = jax.jit(functools.partial(table.directions_at, first=3, count=6, digits=digits))
        np.testing.assert_array_equal(at(offsets[4]), at(offsets)[:, 4])
        np.testing.assert_array_equal(at(offsets.reshape(2, 3)), at(offsets).reshape(digits, 2, 3))


@pytest.mark.parametrize("digits", [1, 2, 9, 16])
def test_packed_numbers_are_the_directions(digits):
    offsets, first, count = np.arange(8, dtype=np.uint32).reshape(-1, 1), 21_196, 8  # beyond the last dimension
    wanted = np.asarray(table.directions_at(offsets, first, count, digits))
    for is_reversed in (False, True):
        words = table.packed_numbers_at(offsets, first, count, digits, is_reversed)
        assert len(words) == -(-digits // (32 // digits))
        held = unpacked(words, digits, digits)
        found = reverse_bits(jnp.stack(held)) if is_reversed else jnp.stack(held) << 32 - digits
        np.testing.assert_array_equal(found, wanted)


def test_constants_in_the_executable():
    dim, word = jnp.int32(3), jnp.uint32(3)
    assert constants(lambda: table.directions(3)) == [128]
    assert constants(table.directions, dim)[0] == 508_824 == DIMENSIONS * 6 * 4
    assert constants(table.compact_directions, word)[0] == 75_548 == 1111 * 17 * 4
    assert constants(lambda w: table.compact_directions(w, 25), word)[0] == 48_884 == 1111 * 11 * 4  # 300 bits
    assert constants(lambda o: table.directions_at(o, 1, 100, 32), word)[0] == 100 * 6 * 4
    assert constants(lambda o: table.directions_at(o, 1, 100, 18), word)[0] == 100 * 6 * 4
    assert constants(lambda o: table.directions_at(o, 1, 100, 8), word)[0] == 100 * 2 * 4  # 28 bits
    packed = functools.partial(table.packed_numbers_at, first=1, count=100, digits=8, is_reversed=True)
    assert constants(packed, word)[0] == 100 * 2 * 4  # 64 bits
    # The rest are tables of 32 numbers of the recurrence.
    assert max(constants(table.directions, dim)[1:]) <= 128


def test_constants_survive_compilation():
    # XLA must not expand the table (to 21,201 * 32 words) or copy it.
    compiled = jax.jit(table.directions).lower(jnp.int32(3)).compile()
    assert compiled.as_text().count("u32[21201,6]{1,0} constant(") == 1
    assert "u32[21201,32]" not in compiled.as_text()


def test_the_file():
    data = FILE.read_bytes()
    assert hashlib.sha256(data).hexdigest() == table.SHA256
    assert len(data) == 508_952 < 700_000
    assert table.packed_directions().shape == (DIMENSIONS, 6)
    assert table.packed_directions().dtype == np.uint32


def test_the_recipe_packs_the_file_from_scipys_copy():
    spec = importlib.util.spec_from_file_location("pack_directions", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    source = np.load(pathlib.Path(qmc.__file__).with_name("_sobol_direction_numbers.npz"))
    for dim in SAMPLE:
        polynomial, initial = int(source["poly"][dim - 1]), [int(m) for m in source["vinit"][dim - 1]]
        assert recipe.pack(polynomial, initial) == table.packed_directions()[dim - 1].tolist()


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    data = bytearray(FILE.read_bytes())
    data[300_000] ^= 1
    (tmp_path / FILE.name).write_bytes(data)
    monkeypatch.setattr(table.resources, "files", lambda _: tmp_path)
    with pytest.raises(RuntimeError, match=r"joe_kuo_d6.npy are damaged \(SHA-256 \w{64}, expected 014b.*reinstall"):
        table.packed_directions.__wrapped__()


def test_the_table_is_read_only():
    # It is shared by every caller.
    with pytest.raises(ValueError, match="read-only"):
        table.packed_directions()[0, 0] = 1


@pytest.mark.parametrize("dim", [1, 21201, np.int64(5), np.uint8(5), jnp.array(5)])
def test_check_dim_gives_an_int(dim):
    assert type(table.check_dim(dim)) is int
    assert table.check_dim(dim) == int(dim)


@pytest.mark.parametrize(
    ("dim", "error", "message"),
    [
        (0, ValueError, r"`dim` must be in \[1, 21201\], got 0; dimensions count from 1"),
        (-1, ValueError, r"`dim` must be in \[1, 21201\], got -1"),
        (21202, ValueError, r"`dim` must be in \[1, 21201\], got 21202"),
        (True, ValueError, r"`dim` must be in \[1, 21201\], got True"),
        (1.5, TypeError, r"`dim` must be an integer, got 1.5 of type float"),
        ("1", TypeError, r"`dim` must be an integer, got '1' of type str"),
        (None, TypeError, r"`dim` must be an integer, got None of type NoneType"),
        (np.array([1, 2]), TypeError, r"`dim` must be an integer, got an array of dtype int64 and shape \(2,\)"),
    ],
)
def test_check_dim_refuses(dim, error, message):
    with pytest.raises(error, match=message):
        table.check_dim(dim)


@pytest.mark.parametrize("dim", [1.0, np.array([1, 2]), True])
def test_check_dim_refuses_traced(dim):
    with pytest.raises(TypeError, match=r"`dim` must be an integer scalar, got a traced \w+ of shape"):
        jax.jit(table.check_dim)(dim)
