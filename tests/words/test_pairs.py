"""64-bit arithmetic on word pairs, against Python's integers."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrjax._words._pairs import (
    Pair,
    add,
    constant,
    mulhi,
    multiply,
    packed,
    quotient,
    reverse_bits,
    shift_right,
    unpacked,
    where,
    word,
    xor,
)

WORD, PAIR = 2**32, 2**64
# Carries and lost bits happen at these; Hypothesis alone finds them slowly.
EDGES = sorted({n % PAIR for k in (0, 1, 31, 32, 33, 63, 64) for n in (2**k - 1, 2**k, 2**k + 1)})
WORDS = st.integers(0, WORD - 1)
PAIRS = st.sampled_from(EDGES) | st.integers(0, PAIR - 1)
exact = settings(deadline=None, derandomize=True, max_examples=100)

# (operation on pairs, the same on Python integers modulo 2**64)
BINARY = [(add, operator.add), (multiply, operator.mul), (xor, operator.xor)]


def integer(x):
    return int(x.hi) << 32 | int(x.lo)


def pairs_of(values):
    """Python integers as one pair of vectors."""
    hi, lo = zip(*(divmod(value, WORD) for value in values), strict=True)
    return Pair(jnp.array(hi, jnp.uint32), jnp.array(lo, jnp.uint32))


def integers_of(x):
    return [int(hi) << 32 | int(lo) for hi, lo in zip(*map(np.asarray, x), strict=True)]


@pytest.mark.parametrize(("operation", "reference"), BINARY, ids=lambda f: f.__name__)
def test_binary_operations_on_all_edges(operation, reference):
    x, y = zip(*[(a, b) for a in EDGES for b in EDGES], strict=True)
    found = integers_of(operation(pairs_of(x), pairs_of(y)))
    assert found == [reference(a, b) % PAIR for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize(("operation", "reference"), BINARY, ids=lambda f: f.__name__)
@given(x=PAIRS, y=PAIRS)
@exact
def test_binary_operations(operation, reference, x, y):
    assert integer(operation(constant(x), constant(y))) == reference(x, y) % PAIR


@given(x=PAIRS, count=st.integers(1, 31))
@exact
def test_shift_right(x, count):
    assert integer(shift_right(constant(x), count)) == x >> count


@given(x=WORDS, y=WORDS)
@exact
def test_mulhi(x, y):
    assert int(mulhi(word(x), word(y))) == x * y >> 32


@pytest.mark.few("1", "100", "50257", "65537", "4294967296")
@pytest.mark.parametrize("bound", [1, 2, 100, 768, 3072, 50257, 65536, 65537, 2**20 + 7, WORD])
def test_quotient(bound):
    """By product and, for larger bounds, by division; next to every multiple of the divisor if there are few."""
    multiples = np.unique(np.linspace(0, bound, 2000).astype(np.uint64))
    divisors = (1, 2, 3, 7, 15, 45, 255, 257, 1023, 4095, 65535, 2**31 - 1)
    words = {d: [multiples, multiples // d * d, multiples // d * d - 1] for d in divisors if d <= 2 * bound}
    words = {d: np.concatenate(x)[np.concatenate(x) < bound].astype(np.uint32) for d, x in words.items()}
    found = jax.jit(lambda words: {d: quotient(x, d, bound) for d, x in words.items()})(words)
    for divisor, x in words.items():
        np.testing.assert_array_equal(found[divisor], x // np.uint32(divisor), err_msg=f"divisor {divisor}")


def test_a_small_quotient_is_a_product():
    program = jax.jit(lambda x: quotient(x, 45, 2048)).lower(jnp.zeros(8, jnp.uint32)).as_text()
    assert "divide" not in program
    assert "divide" in jax.jit(lambda x: quotient(x, 45, 2**31)).lower(jnp.zeros(8, jnp.uint32)).as_text()


@given(x=WORDS)
@exact
def test_reverse_bits(x):
    assert int(reverse_bits(word(x))) == int(f"{x:032b}"[::-1], 2)


@given(x=st.integers(-PAIR, 2 * PAIR))
@exact
def test_constant_wraps(x):
    assert integer(constant(x)) == x % PAIR


@given(x=PAIRS, y=PAIRS, z=PAIRS)
@exact
def test_ring_laws(x, y, z):
    x, y, z = map(constant, (x, y, z))
    assert integer(multiply(x, add(y, z))) == integer(add(multiply(x, y), multiply(x, z)))
    assert integer(xor(xor(x, y), y)) == integer(x)


def test_words_broadcast():
    column, row = Pair(word(1), jnp.arange(3, dtype=jnp.uint32)[:, None]), Pair(word(2), word(WORD - 1)[None, None])
    total = add(column, row)
    assert total.lo.shape == (3, 1)
    np.testing.assert_array_equal(total.hi[:, 0], [3, 4, 4])  # 0 + 0xFFFFFFFF does not carry, the others do


@pytest.mark.parametrize(("bits", "held"), [(1, 1), (10, 1), (11, 2), (16, 2), (17, 3), (32, 3)])
def test_packed_words_are_their_lowest_bits(bits, held):
    words = [0xFFFFFFFF, 0x9E3779B9, 0x2545F491]
    together = packed([word(w) for w in words], bits)
    assert len(together) == held
    assert int(together[0]) == sum(w % 2**bits << bits * k for k, w in enumerate(words[: 32 // bits]))
    assert [int(w) for w in unpacked(together, bits, 3)] == [w % 2**bits for w in words]


@pytest.mark.parametrize("shapes", [((), (), ()), ((3, 1), (1, 2), (1, 1)), ((2,), (2,), (2,)), ((4,), (), ())])
def test_where_is_numpys(shapes):
    # Ranks may differ here, which strict rank promotion would refuse of jnp.where; scalars always may.
    condition, x, y = (np.arange(np.prod(shape, dtype=int)).reshape(shape) for shape in shapes)
    found = where(jnp.asarray(condition % 2 == 0), jnp.asarray(x, jnp.uint32), jnp.asarray(y + 10, jnp.uint32))
    np.testing.assert_array_equal(found, np.where(condition % 2 == 0, x, y + 10))


@pytest.mark.parametrize("value", [0, 1, WORD - 1, True, np.uint8(7), np.int64(5), np.uint64(WORD - 1)])
def test_word_takes_integers(value):
    found = word(value)
    assert found.dtype == jnp.uint32
    assert int(found) == int(value)


@pytest.mark.parametrize("value", [1.0, 0.5, np.float32(1), np.zeros(2), 1j])
def test_word_refuses_fractions(value):
    with pytest.raises(TypeError, match=r"a word must be an integer, got .* of type (weak_)?(float|complex)"):
        word(value)


@pytest.mark.parametrize("value", [-1, WORD])
def test_word_refuses_python_integers_out_of_range(value):
    with pytest.raises(OverflowError, match="out of bounds for uint32"):
        word(value)


def test_same_bits_in_every_mode():
    x, y = pairs_of(EDGES), pairs_of(EDGES[::-1])

    def everything(x, y):
        return multiply(add(x, y), xor(shift_right(x, 7), constant(0xBF58476D1CE4E5B9)))

    expected = integers_of(everything(x, y))
    assert integers_of(jax.jit(everything)(x, y)) == expected
    assert integers_of(jax.vmap(everything)(x, y)) == expected
    with jax.enable_x64(True):
        wide = everything(x, y)
    assert wide.hi.dtype == wide.lo.dtype == jnp.uint32
    assert integers_of(wide) == expected
